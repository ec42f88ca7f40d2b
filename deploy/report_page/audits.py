"""What the gallery says under a site's pictures: what the memorisation audit of its visit found."""

from collections.abc import Mapping

from wardround.shared.messages import Metric
from wardround.shared.report import Report


def audits(report: Report) -> dict[str, str]:
    """Return a sentence for each site whose denoiser was audited; of the last visit of each."""
    return {
        visit.site: _sentence(visit.metrics)
        for visit in report.visits
        if Metric.AUDIT_TELLS.value in visit.metrics
    }


def _sentence(found: Mapping[str, float]) -> str:
    if found[Metric.AUDIT_TELLS.value] != 1:
        return "the site has too few cases for the audit to tell whether these are copies"
    retrainings = int(found[Metric.AUDIT_RETRAININGS.value])
    again = f", after {retrainings} retraining(s)" if retrainings else ""
    return (
        f"passed{again}: copies {_range(found, Metric.COPY_RATE)} in pixels and "
        f"{_range(found, Metric.FEATURE_COPY_RATE)} in features; most pairs near one case "
        f"{found[Metric.SAME_CASE_SHARE.value]:.0%}; membership AUC "
        f"{_range(found, Metric.MEMBERSHIP_AUC, digits='.2f')}"
    )


def _range(found: Mapping[str, float], metric: Metric, digits: str = ".0%") -> str:
    value, low, high = (found[metric.value + end] for end in ("", "_at_least", "_at_most"))
    return f"{value:{digits}} ({low:{digits}} to {high:{digits}})"
