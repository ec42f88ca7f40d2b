"""Which sites carry out no order, and why; pure.

A site says so once, and may be gone for weeks. So it is an event, as is that it came back, and
holds for a coordinator that is started anew; presence alone is not remembered.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from wardround.server.events import SiteRefused, SiteReturned
from wardround.shared import codec
from wardround.shared.errors import JournalError, WireError
from wardround.shared.messages import RefusalReason

if TYPE_CHECKING:
    from wardround.server.state import StudyState


def reason_in(state: "StudyState", sender: str, refusal: bytes) -> RefusalReason:
    """Return why the sender of an encoded `Refusal` carries out no order.

    Raises:
        WireError: It is none, or not the sender's own about this study's plan.
    """
    said = codec.decode_refusal(refusal)
    if (said.site_id, said.plan_digest) != (sender, state.plan_digest):
        raise WireError(
            f"site '{sender}' told of a refusal by '{said.site_id}' of plan {said.plan_digest}; "
            f"the study has {state.plan_digest}. Start the site with the study's plan."
        )
    return said.reason


def event_of(
    state: "StudyState", site_id: str, reason: RefusalReason | None
) -> SiteRefused | SiteReturned | None:
    """Return what happens because a member refuses for `reason`, or takes part where it is None.

    What is known already is no event, and nothing is asked of anybody once the study has ended.
    """
    if state.has_ended or state.refused.get(site_id) is reason:
        return None
    if reason is None:
        return SiteReturned(site_id=site_id)
    return SiteRefused(site_id=site_id, reason=reason.value)


def after(state: "StudyState", event: SiteRefused | SiteReturned) -> "StudyState":
    """Return the state after `event`.

    Raises:
        JournalError: It cannot have happened then.
    """
    site_id = event.site_id
    reason = RefusalReason(event.reason) if isinstance(event, SiteRefused) else None
    if event_of(state, site_id, reason) != event:
        raise JournalError(
            f"study '{state.study_id}': {type(event).__name__} of '{site_id}' cannot follow where "
            f"the study has ended or knows it already. The journal was changed; restore it."
        )
    others = {site: why for site, why in state.refused.items() if site != site_id}
    return replace(state, refused=others if reason is None else {**others, site_id: reason})
