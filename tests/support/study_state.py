"""The state of the study in a folder, and the digests of its checkpoints."""

from pathlib import Path

from wardround.server.journal import read_events
from wardround.server.state import StudyState, fold
from wardround.server.study_folder import JOURNAL


def state_of(folder: Path) -> StudyState:
    state = fold(read_events(folder / JOURNAL))
    assert state is not None
    return state


def digests(state: StudyState) -> list[str]:
    return [checkpoint.digest for checkpoint in state.checkpoints]
