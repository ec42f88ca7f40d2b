"""The folder of one study at the coordinator, held by one process.

It holds `journal`, `checkpoints/` and the coordinator's audit trail, `audit/`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wardround.server.journal import Journal
from wardround.server.relay import Relay
from wardround.server.store import ArtefactStore
from wardround.shared.errors import JournalError
from wardround.shared.identity import Role, uri_of
from wardround.shared.messages import Progress
from wardround.shared.trail import AUDIT, Trail

JOURNAL = "journal"
CHECKPOINTS = "checkpoints"
COORDINATOR = "coordinator"  # the role's name, in whatever certificate it is played


@contextmanager
def hold(
    directory: Path, *, on_progress: Callable[[Progress], None] | None = None
) -> Iterator[tuple[Relay, ArtefactStore]]:
    """Open the study in `directory`, which may be empty, and keep every other process out.

    Args:
        directory: Must exist.
        on_progress: Is told what sites report while they work.

    Yields:
        The relay and the store of its checkpoints.

    Raises:
        JournalError: The journal is faulty or in use.
        TrailError: The audit trail is broken, or tells of another journal.
    """
    with Journal(directory / JOURNAL) as journal:
        store = ArtefactStore(directory / CHECKPOINTS)
        store.sweep()
        trail = Trail(directory / AUDIT, holder=uri_of(Role.COORDINATOR, COORDINATOR))
        relay = Relay(journal, store, trail, on_progress=on_progress)
        relay.forget()
        yield relay, store


def expect_study(directory: Path) -> None:
    """Check that a folder holds a study.

    Raises:
        JournalError: It holds none.
    """
    if not (directory / JOURNAL).is_file():
        raise JournalError(
            f"'{directory}' holds no study. Create one (wardround study create STUDY.toml "
            f"--out {directory}), or name another folder."
        )


def verify_last_checkpoint(relay: Relay, store: ArtefactStore) -> None:
    """Check that the checkpoint which the study goes on from is there.

    Raises:
        JournalError: A part of it is missing, or there is no study.
    """
    gone = [part.name for part in relay.state.checkpoint.parts if not store.has(part)]
    if gone:
        raise JournalError(
            f"the last checkpoint of the study is not whole: {', '.join(gone)} missing under "
            f"'{CHECKPOINTS}'. Restore the folder from a copy."
        )
