"""What happens in a study, as past-tense facts: the only things the journal holds.

Events are versioned and never edited. An event of a release yet to come is refused, not guessed at.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from wardround.shared import message_rules as rules
from wardround.shared.checkpoint import Manifest, ref_of
from wardround.shared.errors import JournalError, WardroundError
from wardround.shared.messages import (
    Anchor,
    CheckpointRef,
    ClassScore,
    EvaluationReport,
    Guarantee,
    Metric,
    PartRef,
    Phase,
    RefusalReason,
    VisitReport,
)
from wardround.shared.study_api import Remedy

VERSION = 1
IN_PROCESS = "in-process"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyCreated:
    """A study began: its plan, the tensors it may pass around and its starting checkpoint."""

    plan: str  # canonical JSON, see `StudyPlan.canonical`
    plan_digest: str
    manifest: Manifest
    genesis: CheckpointRef
    engine: str = IN_PROCESS  # how messages move
    is_on_hold: bool = False  # nothing is done before it is started


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitLeased:
    """A site was asked to make a visit, starting from the checkpoint `parent` (a digest)."""

    visit: int
    site_id: str
    parent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitCommitted:
    """A visit ended: every part of its checkpoint is verified and in the store."""

    checkpoint: CheckpointRef
    report: VisitReport


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteEvaluated:
    """A site scored a checkpoint."""

    report: EvaluationReport


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationMissed:
    """A site that the study does not wait for was not there to score a checkpoint."""

    visit: int
    site_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRefused:
    """A site said that it carries out no order."""

    site_id: str
    reason: str  # see `messages.RefusalReason`


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteReturned:
    """A site that had refused came to take part."""

    site_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStarted:
    """A study that was created on hold began."""

    by: str  # the operator


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPaused:
    """Nothing further is begun; a visit under way is finished."""

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResumed:
    """The study went on after a pause."""

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStopped:
    """The study was ended before its end, for good."""

    by: str | None  # None: the plan's policy, at a site that was absent


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSkipped:
    """A site makes no visit; it scores checkpoints while it is there."""

    site_id: str
    by: str | None  # None: the plan's policy, for it was absent


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteWithdrawn:
    """A site is asked for nothing any more, and the parts that are its own are dropped.

    Without a remedy its visit was not made; of release 0.1 also where it was, and what it gave
    stayed.
    """

    site_id: str
    by: str
    remedy: str | None = None  # see `study_api.Remedy`


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteAdded:
    """A site was put at the end of the sequence: a late one, or one that was left out."""

    site_id: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SitesReordered:
    """The visits still to come, but for the one under way, are made in this order."""

    to_come: tuple[str, ...]
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyCompleted:
    """Every visit is made and every cell of the results matrix is filled or missed."""

    checkpoint: str  # digest of the last checkpoint


# What an operator, or the plan's absence policy, changes.
Changed = (
    StudyStarted
    | StudyPaused
    | StudyResumed
    | StudyStopped
    | SiteSkipped
    | SiteWithdrawn
    | SiteAdded
    | SitesReordered
)
# Events whose fields are numbers and words, written as they stand.
_Plain = VisitLeased | EvaluationMissed | SiteRefused | SiteReturned | StudyCompleted | Changed
Event = StudyCreated | VisitCommitted | SiteEvaluated | _Plain

_PLAIN: Mapping[str, Callable[..., _Plain]] = {kind.__name__: kind for kind in get_args(_Plain)}


def to_json(event: Event) -> dict[str, Any]:
    """Return plain values from which `from_json` makes an equal event."""
    return {"event": type(event).__name__, "version": VERSION, **_content(event)}


def from_json(content: Any) -> Event:
    """Return the event that `to_json` wrote.

    Raises:
        JournalError: It is of a kind, version or form that this release does not know.
    """
    try:
        values = dict(content)
        kind, version = values.pop("event"), values.pop("version")
        if version != VERSION:
            raise ValueError(f"version {version!r}, known is {VERSION}")
        event = _event(kind, values)
        _check(event)
        # What reads back differently was not written by this format: a missing or additional key.
        if to_json(event) != content:
            raise ValueError(f"a {kind} with other keys or values than this release writes")
    except (WardroundError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise JournalError(
            f"an event cannot be read: {error!s:.200}. It was changed by hand or written by a "
            f"later release; use the release that wrote it."
        ) from error
    return event


def _content(event: Event) -> dict[str, Any]:
    match event:
        case StudyCreated():
            return {
                "plan": json.loads(event.plan),
                "plan_digest": event.plan_digest,
                "manifest": event.manifest.to_json(),
                "genesis": _parts_json(event.genesis),
                # Left out where they say what every study of release 0.1 was.
                **({} if event.engine == IN_PROCESS else {"engine": event.engine}),
                **({"is_on_hold": True} if event.is_on_hold else {}),
            }
        case VisitCommitted():
            return {
                "checkpoint": _parts_json(event.checkpoint),
                "report": _visit_report_json(event.report),
            }
        case SiteEvaluated():
            return {"report": _evaluation_report_json(event.report)}
        case _:
            values = asdict(event)
            if values.get("remedy", "") is None:  # left out, as by releases that knew none
                del values["remedy"]
            return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _event(kind: Any, values: Mapping[str, Any]) -> Event:
    if kind in _PLAIN:
        return _PLAIN[kind](**{k: tuple(v) if type(v) is list else v for k, v in values.items()})
    match kind:
        case "StudyCreated":
            return StudyCreated(
                plan=canonical(values["plan"]),
                plan_digest=values["plan_digest"],
                manifest=Manifest.from_json(values["manifest"]),
                genesis=_parts(values["genesis"]),
                engine=values.get("engine", IN_PROCESS),
                is_on_hold=values.get("is_on_hold", False),
            )
        case "VisitCommitted":
            return VisitCommitted(
                checkpoint=_parts(values["checkpoint"]), report=_visit_report(values["report"])
            )
        case "SiteEvaluated":
            return SiteEvaluated(report=_evaluation_report(values["report"]))
        case _:
            raise ValueError(f"kind {kind!r} is not known")


def _check(event: Event) -> None:
    match event:
        case StudyCreated():
            if hashlib.sha256(event.plan.encode()).hexdigest() != event.plan_digest:
                raise ValueError("the plan does not give its digest")
            rules.check(event.manifest)
            rules.check_checkpoint("genesis", event.genesis)
            if type(event.engine) is not str or not rules.SITE_ID.fullmatch(event.engine):
                raise ValueError("a study names the engine that carries its messages")
        case VisitCommitted():
            rules.check_checkpoint("checkpoint", event.checkpoint)
            rules.check(event.report)
        case SiteEvaluated():
            rules.check(event.report)
        case _:
            _check_plain(event)


def _check_plain(event: _Plain) -> None:
    for name, value in asdict(event).items():
        match name:
            case "visit":
                is_valid = type(value) is int and value >= 0
            case "parent" | "checkpoint":
                is_valid = type(value) is str and bool(rules.DIGEST.fullmatch(value))
            case "to_come":
                is_valid = type(value) is tuple and all(_is_name(one) for one in value)
            case "remedy":
                is_valid = value is None or value in {remedy.value for remedy in Remedy}
            case "reason":
                is_valid = value in {reason.value for reason in RefusalReason}
            case "by":
                absence_may = isinstance(event, StudyStopped | SiteSkipped)
                is_valid = _is_name(value) or (value is None and absence_may)
            case _:
                is_valid = _is_name(value)
        if not is_valid:
            raise ValueError(f"{name} is {value!r:.100}")


def _is_name(value: Any) -> bool:
    return type(value) is str and bool(rules.SITE_ID.fullmatch(value))


def canonical(content: Any) -> str:
    """Return JSON with sorted keys and no blanks, as `StudyPlan.canonical` spells it."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _parts_json(ref: CheckpointRef) -> list[list[Any]]:
    return [[part.name, part.digest, part.size_bytes] for part in ref.parts]


def _parts(content: Any) -> CheckpointRef:
    return ref_of(
        PartRef(name=name, digest=digest, size_bytes=size) for name, digest, size in content
    )


def _visit_report_json(report: VisitReport) -> dict[str, Any]:
    return {
        "visit": report.visit,
        "site_id": report.site_id,
        "num_train": report.num_train,
        "metrics": {metric.value: value for metric, value in report.metrics.items()},
        "phase_seconds": {phase.value: value for phase, value in report.phase_seconds.items()},
        **_trail_json(report.trail),
        **_guarantee_json(report.guarantee),
    }


def _visit_report(content: Any) -> VisitReport:
    return VisitReport(
        visit=content["visit"],
        site_id=content["site_id"],
        num_train=content["num_train"],
        metrics={Metric(name): value for name, value in content["metrics"].items()},
        phase_seconds={Phase(name): value for name, value in content["phase_seconds"].items()},
        trail=_trail(content),
        guarantee=Guarantee(**content["guarantee"]) if "guarantee" in content else None,
    )


def _evaluation_report_json(report: EvaluationReport) -> dict[str, Any]:
    return {
        "visit": report.visit,
        "site_id": report.site_id,
        "checkpoint_digest": report.checkpoint_digest,
        "num_cases": report.num_cases,
        "classes": [
            {
                "class_name": score.class_name,
                "dice": score.dice,
                "hd95_mm": score.hd95_mm,
                "asd_mm": score.asd_mm,
                "num_undefined": score.num_undefined,
            }
            for score in report.classes
        ],
        "data_digest": report.data_digest,
        **_trail_json(report.trail),
        **({} if report.folds is None else {"folds": report.folds}),
        **({} if report.tre_mm is None else {"tre_mm": report.tre_mm}),
    }


def _evaluation_report(content: Any) -> EvaluationReport:
    return EvaluationReport(
        visit=content["visit"],
        site_id=content["site_id"],
        checkpoint_digest=content["checkpoint_digest"],
        num_cases=content["num_cases"],
        classes=tuple(ClassScore(**score) for score in content["classes"]),
        data_digest=content["data_digest"],
        trail=_trail(content),
        folds=content.get("folds"),
        tre_mm=content.get("tre_mm"),
    )


def _trail_json(anchor: Anchor | None) -> dict[str, list[Any]]:
    # Left out where there is none, as in every journal of release 0.2 and before.
    return {} if anchor is None else {"trail": [anchor.seq, anchor.digest]}


def _guarantee_json(guarantee: Guarantee | None) -> dict[str, Any]:
    # Left out where there is none, likewise.
    return {} if guarantee is None else {"guarantee": asdict(guarantee)}


def _trail(content: Any) -> Anchor | None:
    if "trail" not in content:
        return None
    seq, digest = content["trail"]
    return Anchor(seq=seq, digest=digest)
