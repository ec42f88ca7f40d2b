"""Turn messages into bytes of the wire contract and back; nothing else knows the generated code.

Decoding trusts nothing: what is not one of our messages in its one spelling is a `WireError`. A
field that this release does not know, a scalar given twice, a padded number are all refused, so
that a message has no room for anything but its fields.
"""

from collections.abc import Mapping
from typing import TypeVar, assert_never

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Record

from wardround.shared import message_rules as rules
from wardround.shared.checkpoint import Manifest
from wardround.shared.codec_checkpoint import (
    checkpoint_of,
    checkpoint_record,
    manifest_record,
    specs_of,
)
from wardround.shared.errors import WireError
from wardround.shared.messages import (
    Anchor,
    CheckpointUpload,
    ClassScore,
    EvaluationOrder,
    EvaluationReport,
    Guarantee,
    Metric,
    Phase,
    Progress,
    Refusal,
    RefusalReason,
    VisitOrder,
    VisitReport,
)
from wardround.wire.v1 import checkpoint_pb2, order_pb2, report_pb2, trail_pb2

MAX_MESSAGE_BYTES = 4 * 2**20
_R = TypeVar("_R", bound=Record)
_K = TypeVar("_K")

_PHASES: Mapping[Phase, report_pb2.Phase.ValueType] = {
    Phase.FETCH: report_pb2.PHASE_FETCH,
    Phase.EVALUATE_PARENT: report_pb2.PHASE_EVALUATE_PARENT,
    Phase.REPLAY: report_pb2.PHASE_REPLAY,
    Phase.SEGMENTER: report_pb2.PHASE_SEGMENTER,
    Phase.DENOISER: report_pb2.PHASE_DENOISER,
    Phase.EVALUATE: report_pb2.PHASE_EVALUATE,
    Phase.RELEASE: report_pb2.PHASE_RELEASE,
    Phase.AUDIT: report_pb2.PHASE_AUDIT,
    Phase.TRIM: report_pb2.PHASE_TRIM,
}
_METRICS: Mapping[Metric, report_pb2.Metric.ValueType] = {
    Metric.DICE_BEFORE: report_pb2.METRIC_DICE_BEFORE,
    Metric.DICE_AFTER: report_pb2.METRIC_DICE_AFTER,
    Metric.SEGMENTER_LOSS: report_pb2.METRIC_SEGMENTER_LOSS,
    Metric.DENOISER_LOSS: report_pb2.METRIC_DENOISER_LOSS,
    Metric.GRADIENT_COSINE_FIRST: report_pb2.METRIC_GRADIENT_COSINE_FIRST,
    Metric.GRADIENT_COSINE_LAST: report_pb2.METRIC_GRADIENT_COSINE_LAST,
    Metric.REPLAYED_PAIRS: report_pb2.METRIC_REPLAYED_PAIRS,
    Metric.REPLAY_AGREEMENT: report_pb2.METRIC_REPLAY_AGREEMENT,
    Metric.AUDIT_TELLS: report_pb2.METRIC_AUDIT_TELLS,
    Metric.AUDIT_RETRAININGS: report_pb2.METRIC_AUDIT_RETRAININGS,
    Metric.COPY_RATE: report_pb2.METRIC_COPY_RATE,
    Metric.COPY_RATE_AT_LEAST: report_pb2.METRIC_COPY_RATE_AT_LEAST,
    Metric.COPY_RATE_AT_MOST: report_pb2.METRIC_COPY_RATE_AT_MOST,
    Metric.FEATURE_COPY_RATE: report_pb2.METRIC_FEATURE_COPY_RATE,
    Metric.FEATURE_COPY_RATE_AT_LEAST: report_pb2.METRIC_FEATURE_COPY_RATE_AT_LEAST,
    Metric.FEATURE_COPY_RATE_AT_MOST: report_pb2.METRIC_FEATURE_COPY_RATE_AT_MOST,
    Metric.SAME_CASE_SHARE: report_pb2.METRIC_SAME_CASE_SHARE,
    Metric.MEMBERSHIP_AUC: report_pb2.METRIC_MEMBERSHIP_AUC,
    Metric.MEMBERSHIP_AUC_AT_LEAST: report_pb2.METRIC_MEMBERSHIP_AUC_AT_LEAST,
    Metric.MEMBERSHIP_AUC_AT_MOST: report_pb2.METRIC_MEMBERSHIP_AUC_AT_MOST,
    Metric.DECODER_SIZE_SHARE: report_pb2.METRIC_DECODER_SIZE_SHARE,
}
_REASONS: Mapping[RefusalReason, report_pb2.RefusalReason.ValueType] = {
    RefusalReason.NOT_APPROVED: report_pb2.REFUSAL_REASON_NOT_APPROVED,
    RefusalReason.BUDGET_SPENT: report_pb2.REFUSAL_REASON_BUDGET_SPENT,
    RefusalReason.POLICY: report_pb2.REFUSAL_REASON_POLICY,
    RefusalReason.AUDIT_FAILED: report_pb2.REFUSAL_REASON_AUDIT_FAILED,
}
REASON_OF: Mapping[int, RefusalReason] = {number: reason for reason, number in _REASONS.items()}
_PHASE_OF: Mapping[int, Phase] = {number: phase for phase, number in _PHASES.items()}
_METRIC_OF: Mapping[int, Metric] = {number: metric for metric, number in _METRICS.items()}


def encode(message: rules.Message) -> bytes:
    """Return the bytes of a message; equal messages give equal bytes.

    Raises:
        WireError: A field breaks the rules of the wire contract.
    """
    rules.check(message)
    data: bytes = _record(message).SerializeToString(deterministic=True)
    return data


def decode_visit_order(data: bytes) -> VisitOrder:
    """Return the `VisitOrder` that `data` encodes, or raise `WireError`."""
    record = _parse(order_pb2.VisitOrder, data)
    order = VisitOrder(
        study_id=record.study_id,
        plan_digest=record.plan_digest,
        visit=record.visit,
        site_id=record.site_id,
        parent=checkpoint_of(record.parent),
        visited=tuple(record.visited),
        withdrawn=tuple(record.withdrawn),
    )
    rules.check(order)
    return order


def decode_evaluation_order(data: bytes) -> EvaluationOrder:
    """Return the `EvaluationOrder` that `data` encodes, or raise `WireError`."""
    record = _parse(order_pb2.EvaluationOrder, data)
    order = EvaluationOrder(
        study_id=record.study_id,
        plan_digest=record.plan_digest,
        visit=record.visit,
        site_id=record.site_id,
        checkpoint=checkpoint_of(record.checkpoint),
        withdrawn=tuple(record.withdrawn),
    )
    rules.check(order)
    return order


def decode_progress(data: bytes) -> Progress:
    """Return the `Progress` that `data` encodes, or raise `WireError`."""
    record = _parse(report_pb2.Progress, data)
    progress = Progress(
        visit=record.visit,
        site_id=record.site_id,
        phase=_known("phase", record.phase, _PHASE_OF),
        step=record.step,
        total=record.total,
    )
    rules.check(progress)
    return progress


def decode_checkpoint_upload(data: bytes) -> CheckpointUpload:
    """Return the `CheckpointUpload` that `data` encodes, or raise `WireError`."""
    record = _parse(report_pb2.CheckpointUpload, data)
    upload = CheckpointUpload(
        visit=record.visit, site_id=record.site_id, checkpoint=checkpoint_of(record.checkpoint)
    )
    rules.check(upload)
    return upload


def decode_visit_report(data: bytes) -> VisitReport:
    """Return the `VisitReport` that `data` encodes, or raise `WireError`."""
    record = _parse(report_pb2.VisitReport, data)
    metrics = [(_known("metric", m.metric, _METRIC_OF), m.value) for m in record.metrics]
    seconds = [(_known("phase", p.phase, _PHASE_OF), p.seconds) for p in record.phase_seconds]
    report = VisitReport(
        visit=record.visit,
        site_id=record.site_id,
        num_train=record.num_train if record.HasField("num_train") else None,
        metrics=dict(metrics),
        phase_seconds=dict(seconds),
        trail=_anchor(record),
        guarantee=Guarantee(epsilon=record.guarantee.epsilon, delta=record.guarantee.delta)
        if record.HasField("guarantee")
        else None,
    )
    rules.check(report)
    _same_spelling(report, data)
    return report


def decode_evaluation_report(data: bytes) -> EvaluationReport:
    """Return the `EvaluationReport` that `data` encodes, or raise `WireError`."""
    record = _parse(report_pb2.EvaluationReport, data)
    report = EvaluationReport(
        visit=record.visit,
        site_id=record.site_id,
        checkpoint_digest=record.checkpoint_digest,
        num_cases=record.num_cases if record.HasField("num_cases") else None,
        classes=tuple(_class_score(score) for score in record.classes),
        data_digest=record.data_digest,
        trail=_anchor(record),
        folds=record.folds if record.HasField("folds") else None,
        tre_mm=record.tre_mm if record.HasField("tre_mm") else None,
    )
    rules.check(report)
    _same_spelling(report, data)
    return report


def decode_manifest(data: bytes) -> Manifest:
    """Return the `Manifest` that `data` encodes, or raise `WireError`."""
    record = _parse(checkpoint_pb2.Manifest, data)
    manifest = Manifest(
        parts={part.name: specs_of(part.tensors) for part in record.parts},
        prompt=specs_of(record.prompt),
        labeller=specs_of(record.labeller),
        decoder=tuple(specs_of(form.tensors) for form in record.decoder),
    )
    rules.check(manifest)
    _same_spelling(manifest, data)
    return manifest


def decode_anchor(data: bytes) -> Anchor:
    """Return the `Anchor` that `data` encodes, or raise `WireError`."""
    record = _parse(trail_pb2.Anchor, data)
    anchor = Anchor(seq=record.seq, digest=record.digest)
    rules.check(anchor)
    return anchor


def decode_refusal(data: bytes) -> Refusal:
    """Return the `Refusal` that `data` encodes, or raise `WireError`."""
    record = _parse(report_pb2.Refusal, data)
    reason = _known("reason", record.reason, REASON_OF)
    refusal = Refusal(site_id=record.site_id, plan_digest=record.plan_digest, reason=reason)
    rules.check(refusal)
    return refusal


def reason_number(reason: RefusalReason | None) -> report_pb2.RefusalReason.ValueType:
    """Return the number of a reason; that of none where there is none."""
    return report_pb2.REFUSAL_REASON_UNSPECIFIED if reason is None else _REASONS[reason]


def _parse(kind: type[_R], data: bytes) -> _R:
    name = kind.DESCRIPTOR.name
    if len(data) > MAX_MESSAGE_BYTES:
        raise WireError(
            f"a {name} of {len(data)} bytes is longer than the {MAX_MESSAGE_BYTES} allowed. "
            f"Checkpoints travel as parts, not in messages."
        )
    record = kind()
    try:
        record.ParseFromString(data)
        spelling = record.SerializeToString(deterministic=True)
        record.DiscardUnknownFields()
        known = record.SerializeToString(deterministic=True)
    except (DecodeError, ValueError, RecursionError) as error:
        raise WireError(
            f"{len(data)} bytes are not a {name}: {error}. Both sides must run the same release."
        ) from error
    if known != spelling:
        raise WireError(
            f"a {name} has a field that this release does not know. "
            f"Run the same release on both sides."
        )
    if spelling != data:
        raise _other_spelling(name)
    return record


def _same_spelling(message: rules.Message, data: bytes) -> None:
    # Lists that stand for mappings lose a repeated or misplaced entry when they are read.
    if encode(message) != data:
        raise _other_spelling(type(message).__name__)


def _other_spelling(name: str) -> WireError:
    return WireError(
        f"a {name} is not in the one spelling of the wire contract (a field or an entry occurs "
        f"twice or out of order). Run an unchanged release on both sides."
    )


def _known(field: str, number: int, table: Mapping[int, _K]) -> _K:
    if number not in table:
        raise WireError(
            f"field '{field}': {number} is not one of the numbers {sorted(table)} known to this "
            f"release. Run the same release on both sides."
        )
    return table[number]


def _anchor(report: report_pb2.VisitReport | report_pb2.EvaluationReport) -> Anchor | None:
    if not report.HasField("trail"):
        return None
    return Anchor(seq=report.trail.seq, digest=report.trail.digest)


def _class_score(record: report_pb2.ClassScore) -> ClassScore:
    return ClassScore(
        class_name=record.class_name,
        dice=record.dice,
        hd95_mm=record.hd95_mm if record.HasField("hd95_mm") else None,
        asd_mm=record.asd_mm if record.HasField("asd_mm") else None,
        num_undefined=None if record.is_undefined_suppressed else record.num_undefined,
    )


def _record(message: rules.Message) -> Record:
    match message:
        case VisitOrder():
            return order_pb2.VisitOrder(
                study_id=message.study_id,
                plan_digest=message.plan_digest,
                visit=message.visit,
                site_id=message.site_id,
                parent=checkpoint_record(message.parent),
                visited=message.visited,
                withdrawn=message.withdrawn,
            )
        case EvaluationOrder():
            return order_pb2.EvaluationOrder(
                study_id=message.study_id,
                plan_digest=message.plan_digest,
                visit=message.visit,
                site_id=message.site_id,
                checkpoint=checkpoint_record(message.checkpoint),
                withdrawn=message.withdrawn,
            )
        case Progress():
            return report_pb2.Progress(
                visit=message.visit,
                site_id=message.site_id,
                phase=_PHASES[message.phase],
                step=message.step,
                total=message.total,
            )
        case CheckpointUpload():
            return report_pb2.CheckpointUpload(
                visit=message.visit,
                site_id=message.site_id,
                checkpoint=checkpoint_record(message.checkpoint),
            )
        case VisitReport():
            return _visit_report_record(message)
        case EvaluationReport():
            return _evaluation_report_record(message)
        case Manifest():
            return manifest_record(message)
        case Anchor():
            return _anchor_record(message)
        case Refusal():
            return report_pb2.Refusal(
                site_id=message.site_id,
                plan_digest=message.plan_digest,
                reason=reason_number(message.reason),
            )
        case _:
            assert_never(message)


def _visit_report_record(report: VisitReport) -> report_pb2.VisitReport:
    # In the order of the contract, not of the dictionary, so that equal reports have equal bytes.
    return report_pb2.VisitReport(
        visit=report.visit,
        site_id=report.site_id,
        num_train=report.num_train,
        metrics=[
            report_pb2.MetricValue(metric=number, value=report.metrics[metric])
            for metric, number in _METRICS.items()
            if metric in report.metrics
        ],
        phase_seconds=[
            report_pb2.PhaseSeconds(phase=number, seconds=report.phase_seconds[phase])
            for phase, number in _PHASES.items()
            if phase in report.phase_seconds
        ],
        trail=None if report.trail is None else _anchor_record(report.trail),
        guarantee=None
        if report.guarantee is None
        else report_pb2.Guarantee(epsilon=report.guarantee.epsilon, delta=report.guarantee.delta),
    )


def _evaluation_report_record(report: EvaluationReport) -> report_pb2.EvaluationReport:
    return report_pb2.EvaluationReport(
        visit=report.visit,
        site_id=report.site_id,
        checkpoint_digest=report.checkpoint_digest,
        num_cases=report.num_cases,
        classes=[
            report_pb2.ClassScore(
                class_name=score.class_name,
                dice=score.dice,
                hd95_mm=score.hd95_mm,
                asd_mm=score.asd_mm,
                num_undefined=score.num_undefined or 0,
                is_undefined_suppressed=score.num_undefined is None,
            )
            for score in report.classes
        ],
        data_digest=report.data_digest,
        trail=None if report.trail is None else _anchor_record(report.trail),
        folds=report.folds,
        tre_mm=report.tre_mm,
    )


def _anchor_record(anchor: Anchor) -> trail_pb2.Anchor:
    return trail_pb2.Anchor(seq=anchor.seq, digest=anchor.digest)
