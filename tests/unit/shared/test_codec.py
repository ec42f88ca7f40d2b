import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.shared import codec
from wardround.shared.checkpoint import Manifest, ref_of
from wardround.shared.errors import WireError
from wardround.shared.messages import (
    CheckpointUpload,
    ClassScore,
    EvaluationOrder,
    EvaluationReport,
    Metric,
    PartRef,
    Phase,
    Progress,
    TensorSpec,
    VisitOrder,
    VisitReport,
)
from wardround.wire.v1 import report_pb2

DECODERS = {
    VisitOrder: codec.decode_visit_order,
    EvaluationOrder: codec.decode_evaluation_order,
    Progress: codec.decode_progress,
    CheckpointUpload: codec.decode_checkpoint_upload,
    VisitReport: codec.decode_visit_report,
    EvaluationReport: codec.decode_evaluation_report,
    Manifest: codec.decode_manifest,
}

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
site_ids = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
study_ids = st.from_regex(r"[a-z][a-z0-9-]{0,63}", fullmatch=True)
counts = st.integers(0, 2**31 - 1)
visits = st.integers(1, 2**31 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
distances = st.none() | st.floats(0, 1e5)
part_names = st.sampled_from(["segmenter", "encoder", "denoiser", "method"]) | st.builds(
    "{}.{}".format, st.sampled_from(["prompt", "labeller", "decoder"]), site_ids
)
parts = st.builds(PartRef, name=part_names, digest=digests, size_bytes=st.integers(0, 2**48))
checkpoints = st.lists(parts, min_size=1, max_size=6, unique_by=lambda p: p.name).map(ref_of)
specs = st.lists(
    st.builds(
        TensorSpec,
        name=st.from_regex(r"[A-Za-z0-9_.-]{1,200}", fullmatch=True),
        shape=st.lists(counts, max_size=8).map(tuple),
        dtype=st.sampled_from(["F64", "F32", "F16", "BF16", "I64", "U8", "BOOL"]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda spec: spec.name,
).map(tuple)


def _values(metric):
    if metric in {Metric.GRADIENT_COSINE_FIRST, Metric.GRADIENT_COSINE_LAST}:
        return st.floats(-1, 1)
    if metric in {Metric.SEGMENTER_LOSS, Metric.DENOISER_LOSS}:
        return st.floats(0, 1e9)
    if metric in {Metric.REPLAYED_PAIRS, Metric.AUDIT_RETRAININGS}:
        return st.floats(0, 1e9)
    return st.floats(0, 1)


scores = st.builds(
    ClassScore,
    class_name=st.from_regex(r"[A-Za-z0-9_ -]{1,32}", fullmatch=True),
    dice=st.floats(0, 1),
    hd95_mm=distances,
    asd_mm=distances,
    num_undefined=st.none() | counts,
)
messages = st.one_of(
    st.builds(
        VisitOrder,
        study_id=study_ids,
        plan_digest=digests,
        visit=visits,
        site_id=site_ids,
        parent=checkpoints,
        visited=st.lists(site_ids, unique=True, max_size=5).map(tuple),
    ),
    st.builds(
        EvaluationOrder,
        study_id=study_ids,
        plan_digest=digests,
        visit=counts,
        site_id=site_ids,
        checkpoint=checkpoints,
    ),
    counts.flatmap(
        lambda total: st.builds(
            Progress,
            visit=counts,
            site_id=site_ids,
            phase=st.sampled_from(Phase),
            step=st.integers(0, total),
            total=st.just(total),
        )
    ),
    st.builds(CheckpointUpload, visit=visits, site_id=site_ids, checkpoint=checkpoints),
    st.builds(
        VisitReport,
        visit=visits,
        site_id=site_ids,
        num_train=st.none() | counts,
        metrics=st.fixed_dictionaries({}, optional={m: _values(m) for m in Metric}),
        phase_seconds=st.dictionaries(st.sampled_from(Phase), st.floats(0, 1e9)),
    ),
    st.builds(
        EvaluationReport,
        visit=counts,
        site_id=site_ids,
        checkpoint_digest=digests,
        num_cases=st.none() | counts,
        classes=st.lists(
            scores, min_size=1, max_size=4, unique_by=lambda score: score.class_name
        ).map(tuple),
        data_digest=digests,
        folds=st.none() | st.floats(0, 1),
        tre_mm=st.none() | st.floats(0, 1e4),
    ),
    st.builds(
        Manifest,
        parts=st.dictionaries(
            st.sampled_from(["segmenter", "encoder", "denoiser", "method"]), specs, min_size=1
        ),
        prompt=st.just(()) | specs,
        labeller=st.just(()) | specs,
        decoder=st.lists(specs, max_size=3, unique_by=frozenset).map(tuple),
    ),
)


@given(messages)
def test_every_message_comes_back_from_its_bytes(message):
    data = codec.encode(message)
    assert DECODERS[type(message)](data) == message
    assert codec.encode(DECODERS[type(message)](data)) == data


@given(st.binary(max_size=200), st.sampled_from(list(DECODERS.values())))
def test_random_bytes_raise_nothing_but_a_wire_error(data, decode):
    try:
        decode(data)
    except WireError:
        return
    pytest.fail("random bytes were taken for a message")


@given(messages, st.data())
def test_a_changed_byte_is_refused_or_is_another_message_in_its_one_spelling(message, data):
    encoded = bytearray(codec.encode(message))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        other = DECODERS[type(message)](bytes(encoded))
    except WireError:
        return
    assert codec.encode(other) == bytes(encoded)


@given(messages, st.sampled_from(list(DECODERS.values())))
def test_a_message_is_not_taken_for_one_of_another_kind(message, decode):
    if decode is DECODERS[type(message)]:
        return
    try:
        decode(codec.encode(message))
    except WireError:
        return
    pytest.fail(f"a {type(message).__name__} was decoded as another message")


PROGRESS = Progress(visit=1, site_id="bmc", phase=Phase.REPLAY, step=1, total=2)
REPORT = VisitReport(
    visit=1,
    site_id="bmc",
    num_train=9,
    metrics={Metric.DICE_AFTER: 0.5},
    phase_seconds={Phase.REPLAY: 1.5},
)
SCORE = ClassScore(class_name="prostate", dice=0.5, hd95_mm=1.0, asd_mm=None, num_undefined=0)
EVALUATION = EvaluationReport(
    visit=0,
    site_id="bmc",
    checkpoint_digest="a" * 64,
    num_cases=None,
    classes=(SCORE,),
    data_digest="b" * 64,
)
PART = PartRef(name="segmenter", digest="c" * 64, size_bytes=8)
UPLOAD = CheckpointUpload(visit=1, site_id="bmc", checkpoint=ref_of([PART]))


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (replace(PROGRESS, site_id="BMC"), "site_id"),
        (replace(PROGRESS, site_id="bmc\n"), "site_id"),
        (replace(PROGRESS, site_id="b" * 33), "site_id"),
        (replace(PROGRESS, step=3), "step"),
        (replace(PROGRESS, visit=-1), "visit"),
        (replace(PROGRESS, visit=True), "visit"),
        (replace(PROGRESS, phase="replay"), "phase"),
        (replace(REPORT, visit=0), "visit"),
        (replace(REPORT, metrics={Metric.DICE_AFTER: math.nan}), "dice_after"),
        (replace(REPORT, metrics={Metric.SEGMENTER_LOSS: math.inf}), "segmenter_loss"),
        (replace(REPORT, metrics={Metric.DICE_AFTER: 1.5}), "dice_after"),
        (replace(REPORT, metrics={"dice_after": 0.5}), "metrics"),
        (replace(REPORT, phase_seconds={Phase.FETCH: -1.0}), "seconds of fetch"),
        (replace(EVALUATION, checkpoint_digest="A" * 64), "checkpoint_digest"),
        (replace(EVALUATION, data_digest="a" * 63), "data_digest"),
        (replace(EVALUATION, classes=()), "length of classes"),
        (replace(EVALUATION, folds=1.5), "folds"),
        (replace(EVALUATION, folds=math.nan), "folds"),
        (replace(EVALUATION, tre_mm=-0.5), "tre_mm"),
        (replace(EVALUATION, tre_mm=math.inf), "tre_mm"),
        (replace(EVALUATION, classes=(SCORE, SCORE)), "class_name"),
        (replace(EVALUATION, classes=(replace(SCORE, hd95_mm=-0.1),)), "hd95_mm"),
        (replace(EVALUATION, classes=(replace(SCORE, class_name="pro\u017etata"),)), "class_name"),
        (replace(UPLOAD, checkpoint=ref_of([replace(PART, name="../x")])), "part name"),
        (replace(UPLOAD, checkpoint=ref_of([replace(PART, size_bytes=-1)])), "size_bytes"),
        (replace(UPLOAD, checkpoint=ref_of([PART, PART])), "checkpoint.parts"),
        (replace(UPLOAD, checkpoint=replace(UPLOAD.checkpoint, digest="d" * 64)), "digest"),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused_by_name(message, field):
    with pytest.raises(WireError, match=field):
        codec.encode(message)


def test_a_field_that_this_release_does_not_know_is_refused():
    with pytest.raises(WireError, match="does not know"):
        codec.decode_progress(codec.encode(PROGRESS) + b"\xa2\x06\x03abc")


def test_an_unknown_field_deep_inside_is_refused():
    record = report_pb2.VisitReport.FromString(codec.encode(REPORT))
    record.metrics[0].MergeFromString(b"\xa2\x06\x03abc")
    with pytest.raises(WireError, match="does not know"):
        codec.decode_visit_report(record.SerializeToString())


def test_a_field_given_twice_is_refused():
    with pytest.raises(WireError, match="one spelling"):
        codec.decode_progress(b"\x08\x07" + codec.encode(PROGRESS))


def test_a_metric_given_twice_is_refused():
    record = report_pb2.VisitReport.FromString(codec.encode(REPORT))
    record.metrics.add(metric=report_pb2.METRIC_DICE_AFTER, value=0.25)
    with pytest.raises(WireError, match="one spelling"):
        codec.decode_visit_report(record.SerializeToString(deterministic=True))


def test_an_enum_number_of_a_later_release_is_refused():
    record = report_pb2.Progress.FromString(codec.encode(PROGRESS))
    record.phase = 99
    with pytest.raises(WireError, match="99"):
        codec.decode_progress(record.SerializeToString())


def test_an_unset_enum_is_refused():
    with pytest.raises(WireError, match="phase"):
        codec.decode_progress(
            report_pb2.Progress(visit=1, site_id="bmc", step=1, total=2).SerializeToString()
        )


def test_an_absent_count_is_not_a_count_of_zero():
    none = codec.encode(replace(REPORT, num_train=None))
    zero = codec.encode(replace(REPORT, num_train=0))
    assert none != zero
    assert codec.decode_visit_report(none).num_train is None
    assert codec.decode_visit_report(zero).num_train == 0


def test_a_message_longer_than_any_message_is_refused_unread():
    with pytest.raises(WireError, match="longer"):
        codec.decode_progress(bytes(codec.MAX_MESSAGE_BYTES + 1))


def test_every_phase_and_metric_has_its_number_in_the_contract():
    assert {f"PHASE_{phase.name}" for phase in Phase} == set(report_pb2.Phase.keys()) - {
        "PHASE_UNSPECIFIED"
    }
    assert {f"METRIC_{metric.name}" for metric in Metric} == set(report_pb2.Metric.keys()) - {
        "METRIC_UNSPECIFIED"
    }
    for phase in Phase:
        data = codec.encode(replace(PROGRESS, phase=phase))
        assert report_pb2.Progress.FromString(data).phase == report_pb2.Phase.Value(
            f"PHASE_{phase.name}"
        )
    for metric in Metric:
        data = codec.encode(replace(REPORT, metrics={metric: 1.0}))
        number = report_pb2.VisitReport.FromString(data).metrics[0].metric
        assert number == report_pb2.Metric.Value(f"METRIC_{metric.name}")
