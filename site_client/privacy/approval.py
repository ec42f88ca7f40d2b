"""Approval: a site works for a plan only while its own staff approve that plan, by its digest.

An approval and its end are lines of the site's audit trail, so they are signed with the site's key,
dated, and in one order with everything that left under them.
"""

from wardround.shared.errors import NotApproved, NotPermitted
from wardround.shared.identity import Role, uri_of
from wardround.shared.plan import StudyPlan
from wardround.shared.trail import Trail
from wardround.shared.trail_lines import LineKind

SIMULATION = "operator of a simulation"


def approve(trail: Trail, plan: StudyPlan, by: str) -> None:
    """Note that somebody of the site's staff approves a plan.

    Args:
        trail: The site's.
        plan: The plan; its digest counts.
        by: Who.
    """
    trail.append(
        LineKind.APPROVED, {"plan": plan.digest(), "study": plan.study_id, "by": _named(by)}
    )


def revoke(trail: Trail, plan: StudyPlan, by: str) -> None:
    """Note that the site works for a plan no longer; it takes no further order.

    Args:
        trail: The site's.
        plan: The plan; its digest counts.
        by: Who.

    Raises:
        NotApproved: It is not approved.
    """
    expect_approved(trail, plan)
    trail.append(
        LineKind.REVOKED, {"plan": plan.digest(), "study": plan.study_id, "by": _named(by)}
    )


def approve_in_simulation(trail: Trail, plan: StudyPlan) -> None:
    """Note, once, that a simulation runs a plan: whoever started it is every site's staff."""
    if approver(trail, plan) is None:
        approve(trail, plan, SIMULATION)


def approver(trail: Trail, plan: StudyPlan) -> str | None:
    """Return who approved a plan; None where nobody did, or it was revoked since."""
    by = None
    for line in trail.lines():
        if line.kind in (LineKind.APPROVED, LineKind.REVOKED) and (
            line.facts["plan"] == plan.digest()
        ):
            by = str(line.facts["by"]) if line.kind == LineKind.APPROVED else None
    return by


def expect_approved(trail: Trail, plan: StudyPlan) -> None:
    """Check that a plan is approved here.

    Raises:
        NotApproved: It is not, or no longer.
    """
    if approver(trail, plan) is None:
        site_id = trail.holder.removeprefix(uri_of(Role.SITE, ""))
        raise NotApproved(
            f"plan {plan.digest()} of study '{plan.study_id}' is not approved at site '{site_id}'. "
            f"Its staff read it (wardround plan show STUDY.toml), then approve it: wardround plan "
            f"approve STUDY.toml --site {site_id} --workspace DIR --by NAME."
        )


def _named(by: str) -> str:
    name = " ".join(by.split())
    if not name or len(name) > 100:
        raise NotPermitted(
            f"an approval names who gives it, in 1 to 100 characters; got {ascii(by)[:120]}. "
            f"Give the name with --by."
        )
    return name
