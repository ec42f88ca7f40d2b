"""What a message may hold: the same rules before it is encoded and after it is decoded.

Every string is bounded ASCII of a fixed pattern, every number is finite and in range, every list
has a largest length. There is no field in which free text could travel.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, assert_never

from wardround.shared.checkpoint import ENCODER, ITEM_BYTES, SITE_KINDS, Manifest, digest_of
from wardround.shared.errors import WireError
from wardround.shared.messages import (
    Anchor,
    CheckpointRef,
    CheckpointUpload,
    ClassScore,
    EvaluationOrder,
    EvaluationReport,
    Metric,
    PartRef,
    Phase,
    Progress,
    Refusal,
    RefusalReason,
    TensorSpec,
    VisitOrder,
    VisitReport,
)

Message = (
    VisitOrder
    | EvaluationOrder
    | Progress
    | CheckpointUpload
    | VisitReport
    | EvaluationReport
    | Manifest
    | Anchor
    | Refusal
)

MAX_SITES = 64
MAX_TENSORS = 20_000
MAX_AXES = 8
MAX_CLASSES = 16
MAX_COUNT = 2**31 - 1
MAX_SIZE_BYTES = 2**48
MAX_LINES = 2**48  # of an audit trail
MAX_LOSS = 1e9  # a loss beyond it has diverged
MAX_DISTANCE_MM = 1e5  # no organ and no picture is longer
MAX_SECONDS = 1e9
MAX_EPSILON = 1000.0
MAX_FORMS = 16
_FIXED_PARTS = ("segmenter", ENCODER, "denoiser", "method")
_SITE = r"[a-z][a-z0-9-]{0,31}"
SITE_ID = re.compile(_SITE)
STUDY_ID = re.compile(r"[a-z][a-z0-9-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
TENSOR_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
CLASS_NAME = re.compile(r"[A-Za-z0-9_ -]{1,32}")
PART_NAME = re.compile(
    rf"{'|'.join(_FIXED_PARTS)}|({'|'.join(re.escape(kind) for kind in SITE_KINDS)}){_SITE}"
)
_COSINES = (Metric.GRADIENT_COSINE_FIRST, Metric.GRADIENT_COSINE_LAST)
_COUNTS = (Metric.REPLAYED_PAIRS, Metric.AUDIT_RETRAININGS)
_LOSSES = (Metric.SEGMENTER_LOSS, Metric.DENOISER_LOSS)


def check(message: Message) -> None:
    """Check every field of a message.

    Raises:
        WireError: Naming the first field that breaks a rule, and the rule.
    """
    match message:
        case VisitOrder():
            _check_visit_order(message)
        case EvaluationOrder():
            _check_evaluation_order(message)
        case Progress():
            _check_progress(message)
        case CheckpointUpload():
            _address(message.visit, message.site_id, first=1)
            check_checkpoint("checkpoint", message.checkpoint)
        case VisitReport():
            _check_visit_report(message)
        case EvaluationReport():
            _check_evaluation_report(message)
        case Manifest():
            _check_manifest(message)
        case Anchor():
            _check_anchor(message)
        case Refusal():
            _text("site_id", message.site_id, SITE_ID)
            _text("plan_digest", message.plan_digest, DIGEST)
            _member("reason", message.reason, RefusalReason)
        case _:
            assert_never(message)


def _check_visit_order(order: VisitOrder) -> None:
    _text("study_id", order.study_id, STUDY_ID)
    _text("plan_digest", order.plan_digest, DIGEST)
    _address(order.visit, order.site_id, first=1)
    check_checkpoint("parent", order.parent)
    _sites("visited", order.visited)
    _sites("withdrawn", order.withdrawn)
    both = set(order.visited) & set(order.withdrawn)
    if both:
        raise _fault("visited", "no withdrawn site", ", ".join(sorted(both)))


def _check_evaluation_order(order: EvaluationOrder) -> None:
    _text("study_id", order.study_id, STUDY_ID)
    _text("plan_digest", order.plan_digest, DIGEST)
    _address(order.visit, order.site_id, first=0)
    check_checkpoint("checkpoint", order.checkpoint)
    _sites("withdrawn", order.withdrawn)


def _check_progress(progress: Progress) -> None:
    _address(progress.visit, progress.site_id, first=0)
    _member("phase", progress.phase, Phase)
    _integer("total", progress.total, 0, MAX_COUNT)
    _integer("step", progress.step, 0, progress.total)


def _check_visit_report(report: VisitReport) -> None:
    _address(report.visit, report.site_id, first=1)
    if report.num_train is not None:
        _integer("num_train", report.num_train, 0, MAX_COUNT)
    for metric, value in report.metrics.items():
        _member("metrics", metric, Metric)
        _number(metric.value, value, *_range(metric))
    for phase, seconds in report.phase_seconds.items():
        _member("phase_seconds", phase, Phase)
        _number(f"seconds of {phase.value}", seconds, 0, MAX_SECONDS)
    if report.trail is not None:
        _check_anchor(report.trail)
    if report.guarantee is not None:
        _number("guarantee.epsilon", report.guarantee.epsilon, 0, MAX_EPSILON)
        _number("guarantee.delta", report.guarantee.delta, 0, 1)


def _range(metric: Metric) -> tuple[float, float]:
    if metric in _COSINES:
        # Rounding in float32 lets a cosine of equal gradients pass 1 by a little.
        return -1.001, 1.001
    if metric in _COUNTS:
        return 0, MAX_COUNT
    return (0, MAX_LOSS) if metric in _LOSSES else (0, 1)


def _check_evaluation_report(report: EvaluationReport) -> None:
    _address(report.visit, report.site_id, first=0)
    _text("checkpoint_digest", report.checkpoint_digest, DIGEST)
    if report.num_cases is not None:
        _integer("num_cases", report.num_cases, 0, MAX_COUNT)
    _length("classes", report.classes, 1, MAX_CLASSES)
    for score in report.classes:
        _check_class_score(score)
    _distinct("class_name", [score.class_name for score in report.classes])
    _text("data_digest", report.data_digest, DIGEST)
    if report.folds is not None:
        _number("folds", report.folds, 0, 1)
    if report.tre_mm is not None:
        _number("tre_mm", report.tre_mm, 0, MAX_DISTANCE_MM)
    if report.trail is not None:
        _check_anchor(report.trail)


def _check_anchor(anchor: Anchor) -> None:
    _integer("trail.seq", anchor.seq, 1, MAX_LINES)
    _text("trail.digest", anchor.digest, DIGEST)


def _check_class_score(score: ClassScore) -> None:
    _text("class_name", score.class_name, CLASS_NAME)
    _number("dice", score.dice, 0, 1)
    for field, value in (("hd95_mm", score.hd95_mm), ("asd_mm", score.asd_mm)):
        if value is not None:
            _number(field, value, 0, MAX_DISTANCE_MM)
    if score.num_undefined is not None:
        _integer("num_undefined", score.num_undefined, 0, MAX_COUNT)


def _check_manifest(manifest: Manifest) -> None:
    for name, specs in manifest.parts.items():
        if name not in _FIXED_PARTS:
            raise WireError(
                f"manifest: part {_shown(name)} is not one of {', '.join(_FIXED_PARTS)}. "
                f"The sender must run the same release."
            )
        _tensors(name, specs, least=1)
    _length("parts", manifest.parts, 1, len(_FIXED_PARTS))
    _tensors("prompt", manifest.prompt, least=0)
    _tensors("labeller", manifest.labeller, least=0)
    _length("decoder", manifest.decoder, 0, MAX_FORMS)
    for form in manifest.decoder:
        _tensors("decoder", form, least=1)
    if len(set(manifest.decoder)) != len(manifest.decoder):
        raise _fault("decoder", "no form twice", f"{len(manifest.decoder)} forms")


def _tensors(part: str, specs: Sequence[TensorSpec], *, least: int) -> None:
    _length(part, specs, least, MAX_TENSORS)
    for spec in specs:
        _text(f"{part}: tensor name", spec.name, TENSOR_NAME)
        _length(f"{part}: shape", spec.shape, 0, MAX_AXES)
        for side in spec.shape:
            _integer(f"{part}: shape", side, 0, MAX_COUNT)
        if spec.dtype not in ITEM_BYTES:
            raise _fault(f"{part}: dtype", f"one of {', '.join(ITEM_BYTES)}", spec.dtype)
    _distinct(f"{part}: tensor name", [spec.name for spec in specs])


def check_checkpoint(field: str, ref: CheckpointRef) -> None:
    """Check the reference of a checkpoint, which an error calls `field`.

    Raises:
        WireError: Naming the field that breaks a rule.
    """
    _text(f"{field}.digest", ref.digest, DIGEST)
    _length(f"{field}.parts", ref.parts, 1, len(_FIXED_PARTS) + len(SITE_KINDS) * MAX_SITES)
    for part in ref.parts:
        check_part(part)
    names = [part.name for part in ref.parts]
    _distinct(f"{field}.parts", names)
    if names != sorted(names):
        raise _fault(f"{field}.parts", "parts in name order", ", ".join(names))
    if digest_of(ref.parts) != ref.digest:
        raise _fault(f"{field}.digest", digest_of(ref.parts), ref.digest)


def check_part(part: PartRef) -> None:
    """Check the reference of one part.

    Raises:
        WireError: Naming the field that breaks a rule.
    """
    _text("part name", part.name, PART_NAME)
    _text("part digest", part.digest, DIGEST)
    _integer("size_bytes", part.size_bytes, 0, MAX_SIZE_BYTES)


def _sites(field: str, sites: Sequence[str]) -> None:
    _length(field, sites, 0, MAX_SITES)
    for site_id in sites:
        _text(field, site_id, SITE_ID)
    _distinct(field, sites)


def _address(visit: int, site_id: str, *, first: int) -> None:
    _integer("visit", visit, first, MAX_COUNT)
    _text("site_id", site_id, SITE_ID)


def _text(field: str, value: Any, pattern: re.Pattern[str]) -> None:
    if type(value) is not str or not pattern.fullmatch(value):
        raise _fault(field, f"text like {pattern.pattern}", value)


def _integer(field: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise _fault(field, f"an integer in [{least}, {most}]", value)


def _number(field: str, value: Any, least: float, most: float) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not least <= value <= most
    ):
        raise _fault(field, f"a finite number in [{least}, {most}]", value)


def _member(field: str, value: Any, kind: type[Enum]) -> None:
    if type(value) is not kind:
        raise _fault(field, f"one of {', '.join(str(member.value) for member in kind)}", value)


def _length(field: str, values: Sequence[Any] | Mapping[Any, Any], least: int, most: int) -> None:
    if not least <= len(values) <= most:
        raise _fault(f"length of {field}", f"{least} to {most}", len(values))


def _distinct(field: str, values: Iterable[str]) -> None:
    listed = list(values)
    if len(set(listed)) != len(listed):
        raise _fault(field, "no name twice", ", ".join(sorted(listed)))


def _fault(field: str, expected: str, got: Any) -> WireError:
    return WireError(
        f"field '{field}': expected {expected}, got {_shown(got)}. "
        f"Both sides must run the same release and the same plan."
    )


def _shown(value: Any) -> str:
    # What breaks a rule may be anything, so it is cut short and shown escaped.
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
