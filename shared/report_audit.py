"""What the memorisation audits of a study's visits come to, in a number and a sentence."""

from collections.abc import Sequence

from wardround.shared.messages import Metric, VisitReport

NOT_RUN = "not run"


def copies_of(visits: Sequence[VisitReport], samples: int) -> int | None:
    """Return how many of the audited pairs are copies, over all visits; None where none tells.

    Args:
        visits: The reports of the committed visits.
        samples: Pairs that each audit drew, `audit.samples` of the plan.
    """
    told = [visit.metrics for visit in visits if visit.metrics.get(Metric.AUDIT_TELLS) == 1]
    if not told:
        return None
    return sum(
        round(samples * max(found[Metric.COPY_RATE], found[Metric.FEATURE_COPY_RATE]))
        for found in told
    )


def note_of(visits: Sequence[VisitReport]) -> str:
    """Return in words at how many visits the audit ran, and what the worst was."""
    looked = [visit.metrics for visit in visits if Metric.AUDIT_TELLS in visit.metrics]
    told = [found for found in looked if found[Metric.AUDIT_TELLS] == 1]
    if not looked:
        return NOT_RUN
    if not told:
        return f"too few cases to tell at {len(looked)} of {len(visits)} visit(s)"
    copies = max(max(found[Metric.COPY_RATE], found[Metric.FEATURE_COPY_RATE]) for found in told)
    membership = max(found[Metric.MEMBERSHIP_AUC] for found in told)
    text = (
        f"{len(told)} of {len(visits)} visit(s) passed, at most {copies:.0%} of the pairs drawn at "
        f"one visit are copies, training cases are told by the denoiser's loss with an AUC of at "
        f"most {membership:.2f}"
    )
    few = len(looked) - len(told)
    return text + (f"; too few cases to tell at {few}" if few else "")
