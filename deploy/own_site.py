"""One site on its own machine: its approved plan, its data and workspace, its process.

A coordinator's installation has this module too, but no torch, and its image nothing that runs at
a site; so these are imported where they are used.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wardround.deploy.borrowing import expect_no_borrowing
from wardround.shared import plan as plans
from wardround.shared.connection import Connection
from wardround.shared.errors import AuditFailed, NotPermitted, PlanError
from wardround.shared.identity import Credentials, Role, uri_of
from wardround.shared.plan import StudyPlan
from wardround.shared.trail import AUDIT, Trail

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


def trail_of(site_id: str, workspace: Path) -> Trail:
    """Return the audit trail in a site's workspace."""
    return Trail(workspace / AUDIT, holder=uri_of(Role.SITE, site_id))


def expect_permitted(plan: StudyPlan, site_id: str, workspace: Path) -> None:
    """Check that a site may start: its staff approved the plan, its machine is closed.

    Raises:
        NotPermitted: The plan is not approved here, or more than the coordinator can be reached.
        PlanError: The site's policy is not valid.
        TrailError: Its audit trail is broken or cannot be written.
    """
    from wardround.deploy import network_probe
    from wardround.site_client.privacy import approval
    from wardround.site_client.privacy import policy as policies

    policy = policies.load(workspace / policies.POLICY_FILE)
    trail = trail_of(site_id, workspace)
    approval.expect_approved(trail, plan)
    network_probe.expect_closed(policy, trail)


@contextmanager
def telling_refusals(
    plan: StudyPlan, site_id: str, workspace: Path, tell: Callable[[bytes], None]
) -> Iterator[None]:
    """Where permission or the memorisation audit ends the block, tell why in one word, and raise.

    Args:
        plan: The plan.
        site_id: The site's name.
        workspace: Folder with its audit trail.
        tell: Given the encoded `Refusal`, once it is in the trail, brings it to the coordinator.

    Raises:
        AuditFailed: What the block raised.
        NotPermitted: Likewise.
        TrailError: The release cannot be written down; nothing was told.
    """
    try:
        yield
    except (NotPermitted, AuditFailed) as refused:
        from wardround.site_client.privacy.egress import release_refusal

        tell(release_refusal(trail_of(site_id, workspace), plan, site_id, refused))
        raise


def tell_over(credentials: Credentials, coordinator: str, refusal: bytes) -> None:
    """Bring an encoded `Refusal` to the coordinator at HOST:PORT."""
    from wardround.site_client.dial import tell_refusal

    with Connection(coordinator, credentials) as connection:
        tell_refusal(connection, refusal)


def open_site(
    plan: StudyPlan, site_id: str, data: Path, workspace: Path, *, memo: Path | None = None
) -> "Site":
    """Return a site with the cases in its data folder, and the policy in its workspace.

    Args:
        plan: The plan that was approved here.
        site_id: The site's name.
        data: Folder with its cases.
        workspace: Folder with its policy, its audit trail and its memo.
        memo: Where finished phases are kept; `workspace`/memo where left out.

    Raises:
        DataError: The cases cannot be used.
        NotPermitted: They are fewer than the policy demands.
        PlanError: The policy is not valid.
    """
    from wardround.site_client.learning.genesis import make_genesis
    from wardround.site_client.plan_data import load_for_plan
    from wardround.site_client.privacy import policy as policies
    from wardround.site_client.site import Site

    policy = policies.load(workspace / policies.POLICY_FILE)
    cases = load_for_plan(plan, site_id, data)
    manifest = make_genesis(plan).manifest
    return Site(plan, cases, manifest, workspace=workspace, policy=policy, memo=memo)


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
