"""One site on its own machine: the plan that was approved there, its data, its workspace."""

from pathlib import Path

from wardround.shared import plan as plans
from wardround.shared.errors import PlanError
from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import load_site
from wardround.site_client.learning.genesis import make_genesis
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.methods.method import ReplaySource
from wardround.site_client.site import Site


def approved_plan(study: Path, site_id: str) -> StudyPlan:
    """Return the plan in a file, for a site that takes part in it.

    Raises:
        PlanError: It is not valid, does not name the site, or asks for other sites' cases.
    """
    plan = plans.load(study)
    if site_id not in plan.sites:
        raise PlanError(
            f"site '{site_id}' is not in the plan, whose sites are {', '.join(plan.sites)}. "
            f"Name one of them with --site."
        )
    expect_no_borrowing(plan)
    return plan


def expect_no_borrowing(plan: StudyPlan) -> None:
    """Check that the plan's method trains on a site's own cases alone.

    Raises:
        PlanError: It does not.
    """
    if find_method(plan.method.name).replay in (ReplaySource.POOLED, ReplaySource.EXEMPLARS):
        raise PlanError(
            f"method.name is '{plan.method.name}', which trains on cases of other sites; those "
            f"never leave a site. Use wardround simulate for it, or another method."
        )


def open_site(plan: StudyPlan, site_id: str, data: Path, workspace: Path) -> Site:
    """Return a site with the cases in its data folder.

    Raises:
        DataError: The cases cannot be used.
    """
    cases = load_site(site_id, data, plan.task, plan.data)
    return Site(plan, cases, make_genesis(plan).manifest, workspace=workspace)
