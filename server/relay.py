"""The relay: gives each site its order, takes what it sends, believes none of it unchecked.

What a site sends is checked (`acceptance`), its parts are verified and stored, then the event is
journalled, and only then does the study's state move on. What a site repeats changes nothing.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from wardround.server import absence, acceptance, changes, events, forgetting, willingness
from wardround.server.events import Event
from wardround.server.journal import Journal
from wardround.server.order import Order, order_of
from wardround.server.state import (
    Complete,
    EvaluateAt,
    MakeVisit,
    StudyState,
    apply,
    fold,
    may_begin,
    next_action,
)
from wardround.server.store import ArtefactStore
from wardround.server.trail_of_journal import TrailOfJournal
from wardround.shared import checkpoint, codec
from wardround.shared import plan as plans
from wardround.shared.checkpoint import Chunk, Form, Manifest
from wardround.shared.errors import CheckpointError, JournalError, StaleLease, WireError
from wardround.shared.messages import PartRef, Progress, RefusalReason
from wardround.shared.plan import StudyPlan
from wardround.shared.study_api import Change
from wardround.shared.tensor_check import TensorCheck
from wardround.shared.trail import Trail


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedPart:
    """A part that the site whose turn it is has announced.

    Attributes:
        part: What its bytes must be.
        forms: The tensors it must hold, in each form that it may have.
        announced: All parts of the announcement.
    """

    part: PartRef
    forms: tuple[Form, ...]
    announced: tuple[PartRef, ...]


class Relay:
    """One study at the coordinator.

    Args:
        journal: Open for appending; the state is the fold over its events.
        store: Where the parts of checkpoints lie.
        trail: The coordinator's audit trail, which is brought up to the journal.
        on_progress: Is told what sites report while they work; none of it is journalled.

    Raises:
        JournalError: The journal's events contradict each other.
        TrailError: The trail is broken, or tells of another journal.
    """

    def __init__(
        self,
        journal: Journal,
        store: ArtefactStore,
        trail: Trail,
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._journal = journal
        self._store = store
        self._on_progress = on_progress
        self._state = fold(journal.events)
        self._plan = None if self._state is None else _plan_of(self._state)
        self._trail = TrailOfJournal(trail, journal)

    @property
    def has_study(self) -> bool:
        """Return whether the journal holds a study."""
        return self._state is not None

    @property
    def state(self) -> StudyState:
        """Return where the study stands.

        Raises:
            JournalError: The journal is empty.
        """
        if self._state is None:
            raise JournalError(
                f"journal '{self._journal.path}' holds no study. Create the study first."
            )
        return self._state

    @property
    def history(self) -> tuple[Event, ...]:
        """Return every event of the study, oldest first."""
        return self._journal.events

    @property
    def plan(self) -> StudyPlan:
        """Return the study's plan as it was journalled, so without `[simulation]`."""
        if self._plan is None:
            self._plan = _plan_of(self.state)
        return self._plan

    def create_study(
        self,
        plan: StudyPlan,
        manifest: Manifest,
        genesis: Mapping[str, bytes],
        *,
        engine: str = events.IN_PROCESS,
        is_on_hold: bool = False,
    ) -> None:
        """Begin a study.

        Args:
            plan: What is to be done.
            manifest: The tensors of every checkpoint.
            genesis: Part name -> safetensors file of the untrained checkpoint.
            engine: How its messages move.
            is_on_hold: Do nothing before an operator starts it.

        Raises:
            CheckpointError: The starting checkpoint is not what the manifest says.
            JournalError: The journal holds a study already.
        """
        if self.has_study:
            raise JournalError(
                f"journal '{self._journal.path}' holds study '{self.state.study_id}' already. "
                f"Resume it or name another folder."
            )
        ref = checkpoint.ref_of(checkpoint.part_ref(n, data) for n, data in genesis.items())
        expected = manifest.expected(())
        checkpoint.verify_parts(ref, expected)
        for part in ref.parts:
            chunks = checkpoint.chunks_of(genesis[part.name])
            self._store.put(part, chunks, check=TensorCheck(part, *expected[part.name]))
        self._happened(
            events.StudyCreated(
                plan=plan.canonical().decode(),
                plan_digest=plan.digest(),
                manifest=manifest,
                genesis=ref,
                engine=engine,
                is_on_hold=is_on_hold,
            )
        )

    def change(self, change: Change, by: str) -> None:
        """Do what an operator asks for; the same change may be repeated.

        Args:
            change: What is to be changed.
            by: The operator's name.

        Raises:
            UsageError: It cannot be done.
        """
        event = changes.event_of(self.state, self.plan, change, by)
        if event is not None:
            self._happened(event)
            self.forget()

    def forget(self) -> None:
        """Remove from the store what withdrawals dropped; see `wardround.server.forgetting`."""
        if self._state is not None:
            forgetting.forget(self._store, self._journal.events, self._state)

    def discard(self, part: PartRef) -> None:
        """Remove a part that arrived for an order which is not due any more."""
        forgetting.discard(self._store, part, self.state)

    def note_absent(self, site_id: str, absent_s: float) -> None:
        """Act upon the absence of a site as the plan says; see `wardround.server.absence`.

        Args:
            site_id: A site that missed three heartbeats.
            absent_s: For how many seconds it has been silent.
        """
        event = absence.event_of(self.state, self.plan, site_id, absent_s)
        if event is not None:
            self._happened(event)

    def note_refusal(self, site_id: str, reason: RefusalReason | None) -> None:
        """Note that a member carries out no order, and why; with None, that it takes part."""
        event = willingness.event_of(self.state, site_id, reason)
        if event is not None:
            self._happened(event)

    def due(self) -> MakeVisit | EvaluateAt | None:
        """Return what may be asked of a site now; None where nothing may."""
        action = next_action(self.state)
        if isinstance(action, MakeVisit | EvaluateAt) and may_begin(self.state):
            return action
        return None

    def is_due(self, order: Order) -> bool:
        """Return whether the result of an order that was given would still be taken."""
        action = next_action(self.state)
        return isinstance(action, MakeVisit | EvaluateAt) and order_of(self.state, action) == order

    def next_order(self) -> Order | None:
        """Return what is to be done now, or None when nothing may be asked for.

        That is when the study has ended, is on hold or paused. One in which nothing is left to do
        is complete from then on. Asking again before it is done gives the same order.
        """
        if not may_begin(self.state):
            return None
        match next_action(self.state):
            case MakeVisit() as action:
                if self.state.leased != action.visit:
                    self._happened(
                        events.VisitLeased(
                            visit=action.visit, site_id=action.site_id, parent=action.parent.digest
                        )
                    )
                return order_of(self.state, action)
            case EvaluateAt() as action:
                return order_of(self.state, action)
        self.settle()
        return None

    def settle(self) -> None:
        """Declare the study complete where nothing is left to do in it."""
        if may_begin(self.state) and isinstance(next_action(self.state), Complete):
            self._happened(events.StudyCompleted(checkpoint=self.state.checkpoint.digest))

    def trail_head(self) -> bytes:
        """Return the encoded head of the coordinator's audit trail, which goes with an order."""
        return codec.encode(self._trail.head())

    def fetch(self, site_id: str, part: PartRef) -> Iterator[bytes]:
        """Yield the bytes of a part of the checkpoint that `site_id` is to work on.

        Raises:
            CheckpointError: The file is gone or cannot be read.
            WireError: The site has no order with this part.
        """
        if part not in self._ordered_parts(site_id):
            raise _not_ordered(site_id, part.name)
        return self._store.read(part)

    def ordered_part(self, site_id: str, digest: str) -> PartRef:
        """Return the part with this digest of the checkpoint that `site_id` is to work on.

        Raises:
            WireError: The site has no order with this part.
        """
        for part in self._ordered_parts(site_id):
            if part.digest == digest:
                return part
        raise _not_ordered(site_id, digest)

    def _ordered_parts(self, site_id: str) -> tuple[PartRef, ...]:
        action = self._action()
        ordered = action.parent if isinstance(action, MakeVisit) else action.checkpoint
        return ordered.parts if site_id == action.site_id else ()

    def progress(self, site_id: str, message: bytes) -> Progress:
        """Take an encoded `Progress`, pass it to who watches, and return it.

        Raises:
            WireError: It is not valid or not about the site's current order.
        """
        progress = codec.decode_progress(message)
        acceptance.expect_due(
            self._action(), site_id, progress.site_id, progress.visit, kind="Progress"
        )
        if self._on_progress is not None:
            self._on_progress(progress)
        return progress

    def deliver(
        self, site_id: str, announcement: bytes, part_name: str, chunks: Iterable[Chunk]
    ) -> None:
        """Take in one part of the checkpoint in `announcement`, an encoded `CheckpointUpload`.

        Raises:
            CheckpointError: The bytes are not the announced part, or not what the manifest allows.
            WireError: The announcement is not valid or not about the site's current order.
        """
        awaited = self.awaited_part(site_id, announcement, part_name)
        if awaited is not None:
            check = TensorCheck(awaited.part, *awaited.forms)
            self._store.put(awaited.part, chunks, check=check)

    def awaited_part(self, site_id: str, announcement: bytes, part_name: str) -> AwaitedPart | None:
        """Check an announcement and return the part meant; None where it is committed already.

        Raises:
            CheckpointError: The announced checkpoint is not what the manifest allows.
            WireError: The announcement is not valid or not about the site's current order.
        """
        upload = codec.decode_checkpoint_upload(announcement)
        if acceptance.is_committed(self.state, site_id, upload):
            return None
        action = self._visit_due(site_id, upload.site_id, upload.visit, "CheckpointUpload")
        expected = acceptance.expected_parts(self.state, self.plan, action, upload)
        parts = upload.checkpoint.parts
        for part in parts:
            if part.name == part_name:
                return AwaitedPart(part=part, forms=expected[part_name], announced=parts)
        raise WireError(
            f"site '{site_id}' delivers part {ascii(part_name)[:80]}, which its announcement does "
            f"not list. Both sides must run the same release."
        )

    def commit(self, site_id: str, report: bytes, upload: bytes) -> None:
        """End a visit; a commit that repeats the one before changes nothing.

        Raises:
            CheckpointError: A part is missing or not what the manifest allows.
            WireError: A message is not valid, or contradicts a commit made before.
        """
        visit_report = codec.decode_visit_report(report)
        announced = codec.decode_checkpoint_upload(upload)
        if acceptance.is_committed(self.state, site_id, announced):
            acceptance.verify_repeated(self.state, site_id, visit_report, announced.visit)
            return
        action = self._visit_due(site_id, visit_report.site_id, visit_report.visit, "VisitReport")
        self._visit_due(site_id, announced.site_id, announced.visit, "CheckpointUpload")
        acceptance.expect_suppressed(self.plan, site_id, visit_report.num_train)
        acceptance.expect_guarantee(self.plan, action, visit_report)
        expected = acceptance.expected_parts(self.state, self.plan, action, announced)
        for part in announced.checkpoint.parts:
            if not self._store.has(part):
                raise CheckpointError(
                    f"site '{site_id}', visit {action.visit}: part '{part.name}' was announced and "
                    f"not delivered. Deliver every part before the commit."
                )
            # Finiteness was checked on the way in; under which name, only the header can tell.
            path = self._store.path(part.digest)
            checkpoint.verify_header(part.name, path, *expected[part.name])
        self._happened(events.VisitCommitted(checkpoint=announced.checkpoint, report=visit_report))

    def evaluated(self, site_id: str, report: bytes) -> None:
        """Fill one cell of the results matrix; the same report may be repeated.

        Raises:
            WireError: It is not valid, or contradicts a report made before.
        """
        evaluation = codec.decode_evaluation_report(report)
        if acceptance.is_evaluated(self.state, site_id, evaluation):
            return
        action = self._action()
        acceptance.expect_due(
            action, site_id, evaluation.site_id, evaluation.visit, kind="EvaluationReport"
        )
        acceptance.verify_evaluation(self.state, self.plan, action, evaluation)
        self._happened(events.SiteEvaluated(report=evaluation))

    def _visit_due(self, sender: str, site_id: str, visit: int, kind: str) -> MakeVisit:
        action = self._action()
        acceptance.expect_due(action, sender, site_id, visit, kind=kind)
        if not isinstance(action, MakeVisit) or self.state.leased != visit:
            raise WireError(
                f"site '{sender}' sent a {kind}, but it was not asked to make visit {visit}. "
                f"Carry out the current order."
            )
        return action

    def _action(self) -> MakeVisit | EvaluateAt:
        action = next_action(self.state)
        if not isinstance(action, MakeVisit | EvaluateAt):
            raise StaleLease(
                f"study '{self.state.study_id}' is {self.state.standing.value}; nothing of it is "
                f"due. Ask for the next order."
            )
        return action

    def _happened(self, event: Event) -> None:
        # The fold comes first: an event that cannot follow must not reach the journal.
        state = apply(self._state, event)
        self._journal.append(event)
        self._state = state
        self._trail.catch_up()


def _not_ordered(site_id: str, what: str) -> WireError:
    return WireError(
        f"site '{site_id}' asked for part {ascii(what)[:80]}, which is not of an order of its own. "
        f"A site may fetch the checkpoint it is asked to work on."
    )


def _plan_of(state: StudyState) -> StudyPlan:
    return plans.parse(json.loads(state.plan), origin=f"journal of {state.study_id}")
