"""What an operator asks of a coordinator, and what is shown of a study, as frozen values.

`wardround.shared.study_codec` turns them into messages of the study API and back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from wardround.shared.messages import PartRef, Progress, RefusalReason


class Standing(Enum):
    """Whether a study goes on."""

    ON_HOLD = "on hold"  # created, and not to be started yet
    RUNNING = "running"
    PAUSED = "paused"  # what is under way is finished, nothing further is begun
    STOPPED = "stopped"  # for good, before its end
    COMPLETE = "complete"


class SiteStanding(Enum):
    """Where a site stands in the sequence."""

    TO_COME = "to come"
    VISITING = "visiting"
    VISITED = "visited"
    SKIPPED = "skipped"  # makes no visit; scores checkpoints while it is there
    WITHDRAWN = "withdrawn"  # is asked for nothing any more


class EventKind(Enum):
    """Kinds of journalled events, named as in the journal."""

    STUDY_CREATED = "StudyCreated"
    STUDY_STARTED = "StudyStarted"
    STUDY_PAUSED = "StudyPaused"
    STUDY_RESUMED = "StudyResumed"
    STUDY_STOPPED = "StudyStopped"
    STUDY_COMPLETED = "StudyCompleted"
    VISIT_LEASED = "VisitLeased"
    VISIT_COMMITTED = "VisitCommitted"
    SITE_EVALUATED = "SiteEvaluated"
    EVALUATION_MISSED = "EvaluationMissed"
    SITE_SKIPPED = "SiteSkipped"
    SITE_WITHDRAWN = "SiteWithdrawn"
    SITE_ADDED = "SiteAdded"
    SITES_REORDERED = "SitesReordered"
    SITE_REFUSED = "SiteRefused"
    SITE_RETURNED = "SiteReturned"


@dataclass(frozen=True, slots=True)
class Start:
    """Let a study begin that was created on hold."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Begin nothing further; a visit under way is finished."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on after a pause."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the study for good."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Make no visit at a site; it is asked for scores while it is there."""

    site_id: str


class Remedy(Enum):
    """What becomes of the checkpoints that descend from the visit of a site that is withdrawn."""

    CONTINUE = "continue"  # dropped: the study goes on from the checkpoint before that visit
    MARK = "mark"  # kept without the site's parts, and marked


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Ask a site for nothing any more, and drop the parts that are its own.

    The remedy may be left out where the site's visit was not made.
    """

    site_id: str
    remedy: Remedy | None = None


@dataclass(frozen=True, slots=True)
class Add:
    """Put a site at the end of the sequence: a late one, or one that was left out."""

    site_id: str


@dataclass(frozen=True, slots=True)
class Reorder:
    """Make the visits still to come in this order."""

    to_come: tuple[str, ...]


Change = Start | Pause | Resume | Stop | Skip | Withdraw | Add | Reorder


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatus:
    """One site.

    Attributes:
        site_id: Its name.
        standing: Where it stands in the sequence.
        visit: Number of its visit, made or under way; 0 where there is none.
        dice: Mean Dice on its own held-out cases after its visit, [0, 1]; None where not known.
        is_present: Whether it is heard from.
        by: The operator who left it out; None also where the plan's absence policy did.
        refusal: Why it carries out no order; None where it does, or has not said.
    """

    site_id: str
    standing: SiteStanding
    visit: int = 0
    dice: float | None = None
    is_present: bool = False
    by: str | None = None
    refusal: RefusalReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What the study waits for.

    Attributes:
        site_id: Whose turn it is.
        visit: Number of the visit to make, or whose checkpoint is to be scored (0: the first).
        is_visit: Whether it is a visit, else an evaluation.
        absent_s: Seconds since the site was heard from, 0 where it is there.
    """

    site_id: str
    visit: int
    is_visit: bool
    absent_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Descendant:
    """A checkpoint that was trained with what a withdrawn site gave: which visit made it, where."""

    visit: int
    site_id: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """The withdrawal of a site whose visit was made.

    Attributes:
        site_id: The site.
        remedy: What became of the descendants.
        by: The operator who asked.
        dropped: The parts that were the site's own.
        descendants: The checkpoints that descend from its visit, its own first.
    """

    site_id: str
    remedy: Remedy
    by: str
    dropped: tuple[PartRef, ...]
    descendants: tuple[Descendant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStatus:
    """Where a study stands.

    Attributes:
        study_id: From the plan.
        plan_digest: SHA-256 of the plan.
        standing: Whether it goes on.
        sites: In the order of the sequence, those that were left out last.
        due: What it waits for; None where it is for nothing of a site.
        progress: What a site last said of the order that is under way.
        checkpoint_digest: Of the last checkpoint.
        num_events: Lines of its journal.
        withdrawals: Of sites whose visit was made.
    """

    study_id: str
    plan_digest: str
    standing: Standing
    sites: tuple[SiteStatus, ...]
    due: Due | None
    progress: Progress | None
    checkpoint_digest: str
    num_events: int
    withdrawals: tuple[Withdrawal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEvent:
    """One line of the journal, in short.

    Attributes:
        number: Of the line, from 1.
        kind: What happened.
        visit: Which visit it is about; None where about none.
        site_id: Which site it is about; None where about none.
        dice: Of a committed visit or an evaluation, [0, 1]; None where there is none.
        by: The operator who asked for it.
        to_come: The order of the visits still to come, where that was changed.
        refusal: Why a site carries out no order, where it said so.
    """

    number: int
    kind: EventKind
    visit: int | None = None
    site_id: str | None = None
    dice: float | None = None
    by: str | None = None
    to_come: tuple[str, ...] = ()
    refusal: RefusalReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a watcher is sent: the events since the last message, and where the study stands."""

    events: tuple[StudyEvent, ...]
    status: StudyStatus


# How a change is named where it is typed or told.
WORDS: Mapping[type[Change], str] = {
    Start: "start",
    Pause: "pause",
    Resume: "resume",
    Stop: "stop",
    Skip: "skip",
    Withdraw: "withdraw",
    Add: "add",
    Reorder: "reorder",
}
