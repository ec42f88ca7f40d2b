"""The operator's hand on a study that nobody serves: it is looked at and changed in its folder.

So it is with a study over Flower, between two runs. While a coordinator or a run is at work on a
study its journal is locked, and a change is refused.
"""

from pathlib import Path

from wardround.server import study_folder
from wardround.server.coordinator import HEARTBEAT_S
from wardround.server.journal import read_events
from wardround.server.presence import Presence
from wardround.server.state import StudyState, fold
from wardround.server.study_status import status_of
from wardround.shared.errors import IdentityError, JournalError, UsageError
from wardround.shared.identity import Credentials, Role, identity_of
from wardround.shared.study_api import Change, StudyStatus


class StudyInFolder:
    """One study in its folder.

    Args:
        folder: Of the study.
        credentials: Of an operator; their certificate says who asks.
        study_id: The study that is meant.

    Raises:
        IdentityError: The credentials are not an operator's.
    """

    def __init__(self, folder: Path, credentials: Credentials, study_id: str) -> None:
        self._folder, self._study_id = folder, study_id
        self._operator = identity_of(credentials.certificate)
        if self._operator.role is not Role.OPERATOR:
            raise IdentityError(
                f"the certificate is one of {self._operator.role} '{self._operator.name}', and "
                f"looking after a study takes one of an operator. Use credentials of that role."
            )

    def status(self) -> tuple[StudyStatus, str]:
        """Return where the study stands, and its plan as canonical JSON; also during a run.

        Raises:
            JournalError: The folder holds no study, or its journal is faulty.
            UsageError: It holds another study.
        """
        study_folder.expect_study(self._folder)
        history = read_events(self._folder / study_folder.JOURNAL)
        state = self._meant(fold(history))
        return _status(state, len(history)), state.plan

    def change(self, change: Change) -> StudyStatus:
        """Change how the study goes on, and return where it stands then; may be repeated.

        Raises:
            JournalError: The folder holds no study, or its journal is faulty or in use.
            UsageError: It holds another study, or the change cannot be made.
        """
        study_folder.expect_study(self._folder)
        with study_folder.hold(self._folder) as (relay, _store):
            self._meant(relay.state)
            relay.change(change, self._operator.name)
            relay.settle()
            return _status(relay.state, len(relay.history))

    def _meant(self, state: StudyState | None) -> StudyState:
        if state is None:
            raise JournalError(f"the journal in '{self._folder}' is empty. Create the study anew.")
        if state.study_id != self._study_id:
            raise UsageError(
                f"'{self._folder}' holds study '{state.study_id}', not '{self._study_id}'. "
                f"Name that one, or the folder of the other."
            )
        return state


def _status(state: StudyState, num_events: int) -> StudyStatus:
    nobody = Presence(HEARTBEAT_S)  # no site is heard from where nobody serves
    return status_of(state, nobody, None, num_events)
