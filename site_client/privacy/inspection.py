"""From one candidate to the next until the memorisation audit lets one leave, or none is left."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from wardround.shared.errors import AuditFailed
from wardround.shared.messages import Metric
from wardround.shared.trail_lines import Fact
from wardround.site_client.privacy.memorisation import (
    MOST_OF_ONE_CASE,
    Findings,
    Limits,
    Verdict,
    judge,
)

DIGITS = 4
Parts = Mapping[str, bytes]  # part name -> safetensors file


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One candidate that was looked at; findings are None where a site has too few cases."""

    retrainings: int
    verdict: Verdict
    findings: Findings | None

    def facts(self, limits: Limits) -> dict[str, Fact]:
        """Return what the site's audit trail says of it: no content, numbers alone."""
        found = {} if self.findings is None else self.findings.numbers()
        return {
            "verdict": self.verdict.value,
            "retrainings": self.retrainings,
            "max_copy_rate": limits.max_copy_rate,
            "max_membership_auc": limits.max_membership_auc,
            **{name: round(value, DIGITS) for name, value in found.items()},
        }

    def metrics(self) -> dict[Metric, float]:
        """Return what the visit report says of it."""
        found = self.findings
        if found is None:
            return {Metric.AUDIT_TELLS: 0.0}
        return {
            Metric.AUDIT_TELLS: 1.0,
            Metric.AUDIT_RETRAININGS: float(self.retrainings),
            Metric.COPY_RATE: found.copies.value,
            Metric.COPY_RATE_AT_LEAST: found.copies.at_least,
            Metric.COPY_RATE_AT_MOST: found.copies.at_most,
            Metric.FEATURE_COPY_RATE: found.feature_copies.value,
            Metric.FEATURE_COPY_RATE_AT_LEAST: found.feature_copies.at_least,
            Metric.FEATURE_COPY_RATE_AT_MOST: found.feature_copies.at_most,
            Metric.SAME_CASE_SHARE: found.same_case.value,
            Metric.MEMBERSHIP_AUC: found.membership.value,
            Metric.MEMBERSHIP_AUC_AT_LEAST: found.membership.at_least,
            Metric.MEMBERSHIP_AUC_AT_MOST: found.membership.at_most,
        }


def first_to_pass(
    candidates: Iterable[Parts],
    look: Callable[[Parts], Findings | None],
    limits: Limits,
    note: Callable[[Inspection, Parts], None],
) -> tuple[Parts, Inspection]:
    """Return the first candidate that may leave, and what was found in it.

    Args:
        candidates: Trained one after the other, each only when it is asked for; at least one.
        look: Returns what is found in one; None where the site has too few cases to tell.
        limits: What plan and site policy allow.
        note: Told of each that was looked at, before anything is decided.

    Raises:
        AuditFailed: None may leave.
    """
    inspection = None
    for number, parts in enumerate(candidates):
        findings = look(parts)
        inspection = Inspection(
            retrainings=number, verdict=judge(findings, limits), findings=findings
        )
        note(inspection, parts)
        if inspection.verdict is Verdict.RELEASE:
            return parts, inspection
        if inspection.verdict is Verdict.TOO_FEW:
            if limits.may_release_untold:
                return parts, inspection
            raise AuditFailed(
                "this site has too few cases for the memorisation audit to tell, and its policy or "
                "the plan wants no denoiser released untold (few_cases = 'refuse'). Take part with "
                "more cases, or with a method that trains no denoiser."
            )
    raise AuditFailed(_why_none(inspection, limits))


def _why_none(last: Inspection | None, limits: Limits) -> str:
    if last is None or last.findings is None:
        return "no denoiser was trained, so none passed the memorisation audit. Train one."
    found = last.findings
    return (
        f"the denoiser remembers cases of this site, after {last.retrainings} retraining(s) too: "
        f"at least {found.copies.at_least:.2f} of what it draws are copies in pixels and "
        f"{found.feature_copies.at_least:.2f} in features (allowed: {limits.max_copy_rate:g}), "
        f"{found.same_case.at_least:.2f} are near one case (allowed: {MOST_OF_ONE_CASE:g}), and "
        f"the area under the curve of telling training cases is at least "
        f"{found.membership.at_least:.2f} (allowed: {limits.max_membership_auc:g}). Nothing was "
        f"released. Give the site more cases, lower denoiser.first_steps and denoiser.steps, or "
        f"raise audit.retries in the plan."
    )
