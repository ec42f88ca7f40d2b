"""What no checkpoint of a study refers to any more is removed from its store.

The withdrawal is journalled first; the removal is repeated at each start until it is done.
"""

from collections.abc import Iterable, Sequence

from wardround.server.events import Event, SiteWithdrawn, VisitCommitted
from wardround.server.state import StudyState
from wardround.server.store import ArtefactStore
from wardround.shared.messages import CheckpointRef, PartRef


def forget(store: ArtefactStore, history: Sequence[Event], state: StudyState) -> None:
    """Remove what withdrawals dropped.

    Right after one whatever no checkpoint refers to goes, what arrived of an upload too; later only
    what an earlier checkpoint referred to, as an upload may be under way.
    """
    withdrawals = [event for event in history if isinstance(event, SiteWithdrawn)]
    if not withdrawals:
        return
    kept = _digests(state.checkpoints)
    if history[-1] is withdrawals[-1]:
        store.keep_only(kept)
        return
    store.remove(_digests(e.checkpoint for e in history if isinstance(e, VisitCommitted)) - kept)


def discard(store: ArtefactStore, part: PartRef, state: StudyState) -> None:
    """Remove a part that arrived for an order which is not due any more."""
    if part.digest not in _digests(state.checkpoints):
        store.remove([part.digest])


def _digests(refs: Iterable[CheckpointRef]) -> frozenset[str]:
    return frozenset(part.digest for ref in refs for part in ref.parts)
