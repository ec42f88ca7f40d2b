"""One site on its own machine: its approved plan, its data and workspace, its process.

A coordinator's installation, which has this module too, does not hold torch; so what needs it is
imported where it is used.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from wardround.deploy.borrowing import expect_no_borrowing
from wardround.shared import plan as plans
from wardround.shared.connection import Connection
from wardround.shared.errors import PlanError
from wardround.shared.identity import Credentials
from wardround.shared.plan import StudyPlan

if TYPE_CHECKING:
    from wardround.site_client.site import Site


def approved_plan(study: Path, site_id: str) -> StudyPlan:
    """Return the plan in a file, for a site that takes part in it.

    Raises:
        PlanError: It is not valid, has no place for the site, or asks for other sites' cases.
    """
    plan = plans.load(study)
    if site_id not in plan.sites and not plan.late_sites:
        raise PlanError(
            f"site '{site_id}' is not in the plan, whose sites are {', '.join(plan.sites)}. "
            f"Name one of them with --site."
        )
    expect_no_borrowing(plan)
    return plan


def open_site(
    plan: StudyPlan, site_id: str, data: Path, workspace: Path, *, memo: Path | None = None
) -> "Site":
    """Return a site with the cases in its data folder.

    Args:
        plan: The plan that was approved here.
        site_id: The site's name.
        data: Folder with its cases.
        workspace: Folder for its audit trail and its memo.
        memo: Where finished phases are kept; `workspace`/memo where left out.

    Raises:
        DataError: The cases cannot be used.
    """
    from wardround.site_client.data.cases import load_site
    from wardround.site_client.learning.genesis import make_genesis
    from wardround.site_client.site import Site

    cases = load_site(site_id, data, plan.task, plan.data)
    return Site(plan, cases, make_genesis(plan).manifest, workspace=workspace, memo=memo)


def run_site(
    plan: StudyPlan,
    site_id: str,
    *,
    data: Path,
    workspace: Path,
    credentials: Credentials,
    coordinator: str,
    memo: Path | None = None,
    on_answer: Callable[[], None] = lambda: None,
) -> None:
    """Be a site until the study has ended.

    Args:
        plan: The plan that was approved here.
        site_id: The site's name.
        data: Folder with its cases.
        workspace: Folder for its audit trail and its memo.
        credentials: Its own.
        coordinator: HOST:PORT of the coordinator.
        memo: Where finished phases are kept; `workspace`/memo where left out.
        on_answer: Is told of every call that the coordinator answered.

    Raises:
        DataError: The cases are at fault.
        WardroundError: Whatever stopped the site, or what the coordinator refused.
    """
    from wardround.site_client.dial import work

    gateway = open_site(plan, site_id, data, workspace, memo=memo)
    with Connection(coordinator, credentials, on_answer=on_answer) as connection:
        work(
            connection,
            credentials,
            gateway,
            site_id=site_id,
            plan=plan,
            manifest=gateway.manifest,
        )
