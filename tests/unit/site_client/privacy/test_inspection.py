"""The verdict: what is released, trained anew or refused, and what is written down of it."""

import pytest

from wardround.shared.errors import AuditFailed
from wardround.shared.messages import Metric
from wardround.site_client.privacy.estimates import Estimate
from wardround.site_client.privacy.inspection import first_to_pass
from wardround.site_client.privacy.memorisation import Findings, Limits, Verdict, judge

LIMITS = Limits(max_copy_rate=0.1, max_membership_auc=0.8, may_release_untold=True)


def found(
    *, copies: float = 0.0, features: float = 0.0, same: float = 0.1, membership: float = 0.5
) -> Findings:
    """Return findings whose lower bounds are the numbers given."""

    def at_least(bound: float) -> Estimate:
        return Estimate(value=min(1.0, bound + 0.05), at_least=bound, at_most=1.0)

    return Findings(
        copies=at_least(copies),
        feature_copies=at_least(features),
        same_case=at_least(same),
        membership=at_least(membership),
    )


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        (found(), Verdict.RELEASE),
        (found(copies=0.1, features=0.1, membership=0.8), Verdict.RELEASE),
        (found(copies=0.11), Verdict.RETRAIN),
        (found(features=0.11), Verdict.RETRAIN),
        (found(same=0.51), Verdict.RETRAIN),
        (found(membership=0.81), Verdict.RETRAIN),
        (None, Verdict.TOO_FEW),
    ],
)
def test_a_limit_is_exceeded_once_that_is_certain(findings, verdict):
    assert judge(findings, LIMITS) is verdict


def test_numbers_keep_all_that_was_found():
    findings = found(copies=0.25, features=0.5, membership=0.75)
    assert Findings.of_numbers(findings.numbers()) == findings


def inspect(results, limits=LIMITS):
    """Return what passes of candidates that give these findings, and all that was noted."""
    noted, trained = [], []

    def candidates():
        for number in range(len(results)):
            trained.append(number)
            yield {"denoiser": bytes([number])}

    def run():
        return first_to_pass(
            candidates(),
            lambda parts: results[parts["denoiser"][0]],
            limits,
            lambda inspection, _parts: noted.append(inspection.verdict),
        )

    return run, noted, trained


def test_the_first_that_passes_is_taken_and_no_further_one_is_trained():
    run, noted, trained = inspect([found(copies=0.9), found(), found()])
    parts, inspection = run()
    assert parts == {"denoiser": b"\x01"}
    assert inspection.metrics()[Metric.AUDIT_RETRAININGS] == 1
    assert noted == [Verdict.RETRAIN, Verdict.RELEASE]
    assert trained == [0, 1]


def test_where_none_passes_nothing_is_released_and_the_remedy_is_said():
    run, noted, _ = inspect([found(copies=0.9), found(copies=0.7)])
    with pytest.raises(AuditFailed, match=r"0\.70 .* copies .*lower denoiser\.first_steps"):
        run()
    assert noted == [Verdict.RETRAIN, Verdict.RETRAIN]


def test_too_few_cases_is_a_verdict_of_its_own():
    run, noted, _ = inspect([None])
    _, inspection = run()
    assert inspection.metrics() == {Metric.AUDIT_TELLS: 0.0}
    assert noted == [Verdict.TOO_FEW]


def test_a_site_may_want_no_release_that_nobody_can_judge():
    strict = Limits(max_copy_rate=0.1, max_membership_auc=0.8, may_release_untold=False)
    run, noted, _ = inspect([None], strict)
    with pytest.raises(AuditFailed, match="too few cases"):
        run()
    assert noted == [Verdict.TOO_FEW]


def test_the_trail_is_told_numbers_alone():
    run, _, _ = inspect([found(copies=0.0123456)])
    _, inspection = run()
    facts = inspection.facts(LIMITS)
    assert facts["verdict"] == "release"
    assert (facts["max_copy_rate"], facts["max_membership_auc"]) == (0.1, 0.8)
    assert facts["copies.at_least"] == 0.0123
    assert all(isinstance(facts[key], float | int) for key in facts if key != "verdict")
