"""What the process of a site does: load its cases, dial the coordinator, carry out its orders."""

from collections.abc import Callable
from pathlib import Path

from wardround.deploy.own_site import open_site
from wardround.shared.identity import Credentials
from wardround.shared.plan import StudyPlan


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
        workspace: Folder for its audit file and its memo.
        credentials: Its own.
        coordinator: HOST:PORT of the coordinator.
        memo: Where finished phases are kept; `workspace`/memo where left out.
        on_answer: Is told of every call that the coordinator answered.

    Raises:
        DataError: The cases are at fault.
        WardroundError: Whatever stopped the site, or what the coordinator refused.
    """
    # A coordinator's installation, which has this module too, does not hold torch.
    from wardround.shared.connection import Connection
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
