"""Methods that train a site on other sites' real cases: a simulation in one process alone may."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wardround.shared.errors import PlanError
from wardround.shared.plan import StudyPlan

if TYPE_CHECKING:
    from wardround.site_client.data.cases import SiteData


def borrowed(
    plan: StudyPlan, site_id: str, sites: Mapping[str, "SiteData"]
) -> dict[str, "SiteData"] | None:
    """Return the cases of other sites that the plan's method hands to a site; None for none."""
    from wardround.site_client.learning.methods import find_method
    from wardround.site_client.learning.methods.method import ReplaySource

    source = find_method(plan.method.name).replay
    if source is ReplaySource.POOLED:
        return {other: data for other, data in sites.items() if other != site_id}
    if source is ReplaySource.EXEMPLARS:
        return {other: sites[other] for other in plan.sites[: plan.sites.index(site_id)]}
    return None


def expect_no_borrowing(plan: StudyPlan) -> None:
    """Check that the plan's method leaves every case where it is.

    Raises:
        PlanError: It trains on cases of other sites.
    """
    from wardround.site_client.learning.methods import find_method

    if find_method(plan.method.name).keeps_real_cases:
        raise PlanError(
            f"method.name is '{plan.method.name}', which trains on cases of other sites; those "
            f"never leave a site. Use wardround simulate --engine in-process for it, or another "
            f"method."
        )
