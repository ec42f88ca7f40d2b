"""The memorisation audit inside a visit: what it adds, what it leaves alone, what it stops."""

import numpy as np
import pytest

from wardround.shared.checkpoint import part_ref, ref_of
from wardround.shared.errors import AuditFailed
from wardround.shared.messages import Metric, VisitOrder
from wardround.site_client.data.cases import Case, SiteData, digest_of
from wardround.site_client.learning.genesis import make_genesis
from wardround.site_client.memo import Memo
from wardround.site_client.privacy.memorisation import Limits, Verdict
from wardround.site_client.visit import Visit

ALL_PASS = Limits(max_copy_rate=1.0, max_membership_auc=1.0, may_release_untold=True)
NONE_PASSES = Limits(max_copy_rate=1.0, max_membership_auc=0.0, may_release_untold=True)


def case(number: int) -> Case:
    rng = np.random.default_rng(number)
    image = rng.normal(size=(1, 16, 16, 1)).astype(np.float32)
    label = (image[0] > 1).astype(np.uint8)
    return Case(
        case_id=f"c{number}",
        image_CHWD=image,
        label_HWD=label,
        fov_HWD=None,
        spacing_mm=(1.0, 1.0, 1.0),
    )


def site_with(train: int, heldout: int) -> SiteData:
    cases = [case(number) for number in range(train + heldout)]
    return SiteData(
        site_id="ada",
        train=tuple(cases[:train]),
        heldout=tuple(cases[train:]),
        digest=digest_of(cases),
    )


@pytest.fixture
def visit_of(tiny_plan, tmp_path):
    """Return a function that makes the first visit; also what the audit noted of it."""
    parent = dict(make_genesis(tiny_plan).parts)

    def made(data, limits, **audit):
        section = tiny_plan.audit.model_copy(update={"samples": 4, **audit})
        plan, noted = tiny_plan.model_copy(update={"audit": section}), []
        visit = Visit(
            order=VisitOrder(
                study_id=plan.study_id,
                plan_digest=plan.digest(),
                visit=1,
                site_id="ada",
                parent=ref_of(part_ref(name, data) for name, data in parent.items()),
                visited=(),
            ),
            plan=plan,
            data=data,
            parent=parent,
            borrowed={},
            memo=Memo(tmp_path / "memo"),
            limits=limits,
            note=lambda inspection, parts: noted.append((inspection.verdict, parts["denoiser"])),
            watch=lambda _phase, _step, _steps: None,
        )
        return visit, noted

    return made


def test_an_audit_that_passes_reports_figures_and_leaves_every_byte_alone(visit_of):
    data = site_with(6, 4)
    visit, noted = visit_of(data, ALL_PASS)
    parts = visit.run()
    unaudited, nothing = visit_of(data, ALL_PASS, samples=0)
    assert unaudited.run() == parts
    assert nothing == []
    assert Metric.AUDIT_TELLS not in unaudited.metrics
    assert noted == [(Verdict.RELEASE, parts["denoiser"])]
    assert (visit.metrics[Metric.AUDIT_TELLS], visit.metrics[Metric.AUDIT_RETRAININGS]) == (1, 0)
    for metric in (Metric.COPY_RATE, Metric.FEATURE_COPY_RATE, Metric.MEMBERSHIP_AUC):
        bounds = [visit.metrics[Metric(metric.value + end)] for end in ("_at_least", "_at_most")]
        assert bounds[0] <= visit.metrics[metric] <= bounds[1]


def test_the_same_visit_finds_the_same_whether_it_was_cut_or_not(visit_of, tmp_path):
    data = site_with(6, 4)
    first, _ = visit_of(data, ALL_PASS)
    first.run()
    resumed, _ = visit_of(data, ALL_PASS)
    resumed.run()
    for file in (tmp_path / "memo").iterdir():
        file.unlink()
    anew, _ = visit_of(data, ALL_PASS)
    anew.run()
    assert first.metrics == resumed.metrics == anew.metrics


def test_a_denoiser_that_does_not_pass_is_trained_anew_as_often_as_the_plan_says(visit_of):
    visit, noted = visit_of(site_with(6, 4), NONE_PASSES, retries=2)
    with pytest.raises(AuditFailed, match=r"after 2 retraining"):
        visit.run()
    assert [verdict for verdict, _ in noted] == [Verdict.RETRAIN] * 3
    assert len({denoiser for _, denoiser in noted}) == 3


def test_a_site_with_few_cases_is_released_untold_or_refused_as_is_wanted(visit_of):
    visit, noted = visit_of(site_with(3, 1), NONE_PASSES)
    visit.run()
    assert [verdict for verdict, _ in noted] == [Verdict.TOO_FEW]
    assert visit.metrics[Metric.AUDIT_TELLS] == 0
    strict = Limits(max_copy_rate=1.0, max_membership_auc=1.0, may_release_untold=False)
    refused, _ = visit_of(site_with(3, 1), strict)
    with pytest.raises(AuditFailed, match="too few cases"):
        refused.run()
