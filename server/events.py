"""What happens in a study, as past-tense facts: the only things the journal holds.

Events are versioned and never edited. An event of a release yet to come is refused, not guessed at.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from wardround.shared import message_rules as rules
from wardround.shared.checkpoint import Manifest, ref_of
from wardround.shared.errors import JournalError, WardroundError
from wardround.shared.messages import (
    CheckpointRef,
    ClassScore,
    EvaluationReport,
    Metric,
    PartRef,
    Phase,
    VisitReport,
)

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyCreated:
    """A study began: its plan, the tensors it may pass around and its starting checkpoint."""

    plan: str  # canonical JSON, see `StudyPlan.canonical`
    plan_digest: str
    manifest: Manifest
    genesis: CheckpointRef


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
class StudyCompleted:
    """Every visit is made and every cell of the results matrix is filled."""

    checkpoint: str  # digest of the last checkpoint


Event = StudyCreated | VisitLeased | VisitCommitted | SiteEvaluated | StudyCompleted


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
            }
        case VisitLeased():
            return {"visit": event.visit, "site_id": event.site_id, "parent": event.parent}
        case VisitCommitted():
            return {
                "checkpoint": _parts_json(event.checkpoint),
                "report": _visit_report_json(event.report),
            }
        case SiteEvaluated():
            return {"report": _evaluation_report_json(event.report)}
        case StudyCompleted():
            return {"checkpoint": event.checkpoint}
        case _:
            assert_never(event)


def _event(kind: Any, values: Mapping[str, Any]) -> Event:
    match kind:
        case "StudyCreated":
            return StudyCreated(
                plan=canonical(values["plan"]),
                plan_digest=values["plan_digest"],
                manifest=Manifest.from_json(values["manifest"]),
                genesis=_parts(values["genesis"]),
            )
        case "VisitLeased":
            return VisitLeased(
                visit=values["visit"], site_id=values["site_id"], parent=values["parent"]
            )
        case "VisitCommitted":
            return VisitCommitted(
                checkpoint=_parts(values["checkpoint"]), report=_visit_report(values["report"])
            )
        case "SiteEvaluated":
            return SiteEvaluated(report=_evaluation_report(values["report"]))
        case "StudyCompleted":
            return StudyCompleted(checkpoint=values["checkpoint"])
        case _:
            raise ValueError(f"kind {kind!r} is not known")


def _check(event: Event) -> None:
    match event:
        case StudyCreated():
            if hashlib.sha256(event.plan.encode()).hexdigest() != event.plan_digest:
                raise ValueError("the plan does not give its digest")
            rules.check(event.manifest)
            rules.check_checkpoint("genesis", event.genesis)
        case VisitLeased():
            if type(event.visit) is not int or not rules.DIGEST.fullmatch(event.parent):
                raise ValueError("a lease names a visit and the digest of its parent")
        case VisitCommitted():
            rules.check_checkpoint("checkpoint", event.checkpoint)
            rules.check(event.report)
        case SiteEvaluated():
            rules.check(event.report)
        case StudyCompleted():
            if not rules.DIGEST.fullmatch(event.checkpoint):
                raise ValueError("a completed study names the digest of its last checkpoint")
        case _:
            assert_never(event)


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
    }


def _visit_report(content: Any) -> VisitReport:
    return VisitReport(
        visit=content["visit"],
        site_id=content["site_id"],
        num_train=content["num_train"],
        metrics={Metric(name): value for name, value in content["metrics"].items()},
        phase_seconds={Phase(name): value for name, value in content["phase_seconds"].items()},
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
    }


def _evaluation_report(content: Any) -> EvaluationReport:
    return EvaluationReport(
        visit=content["visit"],
        site_id=content["site_id"],
        checkpoint_digest=content["checkpoint_digest"],
        num_cases=content["num_cases"],
        classes=tuple(ClassScore(**score) for score in content["classes"]),
        data_digest=content["data_digest"],
    )
