"""What a withdrawal does to a study, once the site's visit was made; pure.

The parts that the site's visit made of its own (prompt, labeller, decoder) are dropped from every
checkpoint, so no later visit is given them.
What descends from its visit is listed, and the remedy is the operator's:

*continue*: the study stands where it stood before that visit, and the visits made after it are to
come again, in their order. Seeds and parts follow the sites visited, so the study then goes on to
the bytes of one in which the site never took part.

*mark*: the checkpoints that descend are kept without the site's parts, and are known to be trained
with withdrawn data. A visit under way is made anew, from the last checkpoint as it is now.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from wardround.shared.checkpoint import SITE_KINDS, ref_of
from wardround.shared.messages import CheckpointRef
from wardround.shared.study_api import Descendant, Remedy, Standing, Withdrawal

if TYPE_CHECKING:
    from wardround.server.state import StudyState


def withdrawn(state: "StudyState", site_id: str, remedy: Remedy, by: str) -> "StudyState":
    """Return the state after the withdrawal of a site whose visit was made."""
    visit = state.visited.index(site_id) + 1
    own = _parts_of(site_id)
    dropped = {
        part.name: part for ref in state.checkpoints for part in ref.parts if part.name in own
    }
    record = Withdrawal(
        site_id=site_id,
        remedy=remedy,
        by=by,
        dropped=tuple(dropped[name] for name in sorted(dropped)),
        descendants=tuple(
            Descendant(visit=number, site_id=state.visited[number - 1], digest=ref.digest)
            for number, ref in enumerate(state.checkpoints)
            if number >= visit
        ),
    )
    state = replace(
        state,
        withdrawn={**state.withdrawn, site_id: by},
        withdrawals={**state.withdrawals, site_id: record},
    )
    return _undone(state, visit) if remedy is Remedy.CONTINUE else _marked(state, visit, site_id)


def without(ref: CheckpointRef, sites: Iterable[str]) -> CheckpointRef:
    """Return a checkpoint without the parts that are of `sites` alone."""
    dropped = {name for site_id in sites for name in _parts_of(site_id)}
    kept = [part for part in ref.parts if part.name not in dropped]
    return ref if len(kept) == len(ref.parts) else ref_of(kept)


def _undone(state: "StudyState", visit: int) -> "StudyState":
    again = [site for site in state.visited[visit:] if site not in state.withdrawn]
    is_over = state.standing is Standing.COMPLETE
    return replace(
        state,
        standing=Standing.RUNNING if is_over else state.standing,
        to_come=(*again, *state.to_come),
        checkpoints=state.checkpoints[:visit],
        visit_reports=state.visit_reports[: visit - 1],
        evaluations={cell: one for cell, one in state.evaluations.items() if cell[0] < visit},
        missed=frozenset(cell for cell in state.missed if cell[0] < visit),
        marked=state.marked & set(state.visited[: visit - 1]),
        leased=visit - 1,
    )


def _marked(state: "StudyState", visit: int, site_id: str) -> "StudyState":
    later = (without(ref, [site_id]) for ref in state.checkpoints[visit:])
    return replace(
        state,
        checkpoints=(*state.checkpoints[:visit], *later),
        marked=state.marked | {site_id},
        leased=state.num_visits,
    )


def _parts_of(site_id: str) -> tuple[str, ...]:
    return tuple(kind + site_id for kind in SITE_KINDS)
