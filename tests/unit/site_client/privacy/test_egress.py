import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from safetensors.numpy import save

from wardround.shared import codec
from wardround.shared.checkpoint import Manifest, part_ref, ref_of
from wardround.shared.errors import EgressRefused
from wardround.shared.messages import (
    Anchor,
    CheckpointUpload,
    ClassScore,
    EvaluationOrder,
    EvaluationReport,
    Metric,
    Phase,
    Progress,
    TensorSpec,
    VisitOrder,
    VisitReport,
)
from wardround.shared.trail import Trail
from wardround.site_client.privacy.egress import EgressGuard
from wardround.site_client.privacy.policy import SitePolicy

MANIFEST = Manifest(
    parts={"segmenter": (TensorSpec(name="w", shape=(4,), dtype="F32"),)},
    prompt=(TensorSpec(name="tokens", shape=(2,), dtype="F32"),),
)
SEGMENTER = save({"w": np.ones(4, np.float32)})
PROMPT = save({"tokens": np.ones(2, np.float32)})
GENESIS = ref_of([part_ref("segmenter", save({"w": np.zeros(4, np.float32)}))])
REPORT = VisitReport(
    visit=1,
    site_id="ada",
    num_train=10,
    metrics={Metric.DICE_AFTER: 0.5},
    phase_seconds={Phase.SEGMENTER: 2.0},
)
SCORE = ClassScore(class_name="organ", dice=0.5, hd95_mm=2.0, asd_mm=None, num_undefined=0)
EVALUATION = EvaluationReport(
    visit=0,
    site_id="ada",
    checkpoint_digest=GENESIS.digest,
    num_cases=10,
    classes=(SCORE,),
    data_digest="ab" * 32,
)
PROGRESS = Progress(visit=1, site_id="ada", phase=Phase.SEGMENTER, step=1, total=2)


@pytest.fixture
def visit_order(tiny_plan):
    return VisitOrder(
        study_id="tiny",
        plan_digest=tiny_plan.digest(),
        visit=1,
        site_id="ada",
        parent=GENESIS,
        visited=(),
    )


@pytest.fixture
def evaluation_order(tiny_plan):
    return EvaluationOrder(
        study_id="tiny",
        plan_digest=tiny_plan.digest(),
        visit=0,
        site_id="ada",
        checkpoint=GENESIS,
    )


@pytest.fixture
def audit(tmp_path):
    return Trail(tmp_path / "audit", holder="wardround://site/ada")


@pytest.fixture
def idle(tiny_plan, audit):
    """A guard of site ada that has no order."""
    return EgressGuard(tiny_plan, MANIFEST, site_id="ada", trail=audit)


@pytest.fixture
def visiting(idle, visit_order):
    """A guard of site ada during visit 1."""
    idle.begin(visit_order)
    return idle


@pytest.fixture
def evaluating(idle, evaluation_order):
    """A guard of site ada that scores the starting checkpoint."""
    idle.begin(evaluation_order)
    return idle


def _lines(audit):
    """What the trail says after its first line."""
    return [(line.kind, dict(line.facts)) for line in audit.lines()[1:]]


def _upload(*parts, visit=1):
    return CheckpointUpload(visit=visit, site_id="ada", checkpoint=ref_of(parts))


def test_a_whole_visit_is_released(visiting, audit):
    parts = [
        visiting.release_part("segmenter", SEGMENTER),
        visiting.release_part("prompt.ada", PROMPT),
    ]
    assert parts[0] == part_ref("segmenter", SEGMENTER)
    upload = visiting.release(_upload(*parts))
    assert codec.decode_checkpoint_upload(upload) == _upload(*parts)
    head = audit.head()
    assert codec.decode_visit_report(visiting.release(REPORT)) == replace(REPORT, trail=head)
    assert codec.decode_progress(visiting.release(PROGRESS)) == PROGRESS
    assert [kind for kind, _ in _lines(audit)] == ["ordered", *["released"] * 5]


def test_a_whole_evaluation_is_released_with_the_head_of_the_trail(evaluating, audit):
    head = audit.head()
    made_up = replace(EVALUATION, trail=Anchor(seq=1, digest="0" * 64))
    released = codec.decode_evaluation_report(evaluating.release(made_up))
    assert released == replace(EVALUATION, trail=head)


def test_the_head_of_the_coordinators_trail_is_in_the_line_of_the_order(idle, audit, visit_order):
    idle.begin(visit_order, Anchor(seq=3, digest="a" * 64))
    assert _lines(audit)[-1][1]["anchor"] == [3, "a" * 64]


def test_scores_leave_with_six_digits_losses_with_four_seconds_with_three(
    visiting, evaluation_order
):
    report = replace(
        REPORT,
        metrics={Metric.DICE_AFTER: 2 / 3, Metric.SEGMENTER_LOSS: 2 / 3},
        phase_seconds={Phase.FETCH: 1234567.8},
    )
    released = codec.decode_visit_report(visiting.release(report))
    assert released.metrics == {Metric.DICE_AFTER: 0.666667, Metric.SEGMENTER_LOSS: 0.6667}
    assert released.phase_seconds == {Phase.FETCH: 1230000.0}
    visiting.begin(evaluation_order)
    score = replace(SCORE, dice=1 / 3, hd95_mm=math.pi * 1e-3, asd_mm=math.e)
    evaluation = visiting.release(replace(EVALUATION, classes=(score,)))
    assert codec.decode_evaluation_report(evaluation).classes == (
        replace(SCORE, dice=0.333333, hd95_mm=0.00314159, asd_mm=2.71828),
    )


def test_counts_below_the_plans_smallest_are_suppressed(visiting, evaluation_order):
    for count, released in ((2, None), (3, 3), (None, None)):
        data = visiting.release(replace(REPORT, num_train=count))
        assert codec.decode_visit_report(data).num_train == released
    visiting.begin(evaluation_order)
    data = visiting.release(replace(EVALUATION, num_cases=1))
    assert codec.decode_evaluation_report(data).num_cases is None


@dataclass(frozen=True)
class _Disguised(Progress):
    note: str = "a free text"


@pytest.mark.parametrize(
    "message",
    [
        "a log line",
        b"bytes",
        {"site_id": "ada"},
        None,
        SCORE,
        GENESIS,
        MANIFEST,
        _Disguised(visit=1, site_id="ada", phase=Phase.SEGMENTER, step=1, total=2),
    ],
)
def test_nothing_outside_the_allow_list_leaves_the_site(visiting, message):
    with pytest.raises(EgressRefused, match="may not leave a site"):
        visiting.release(message)


def test_an_order_that_came_in_does_not_leave(visiting, visit_order):
    with pytest.raises(EgressRefused, match="may not leave a site"):
        visiting.release(visit_order)


@pytest.mark.parametrize(
    "message",
    [
        replace(PROGRESS, site_id="ben"),
        replace(PROGRESS, visit=2),
        replace(REPORT, visit=2),
        replace(REPORT, site_id="ben"),
        _upload(part_ref("segmenter", SEGMENTER), visit=2),
    ],
)
def test_a_site_speaks_of_itself_and_its_visit_alone(visiting, message):
    with pytest.raises(EgressRefused, match="A site speaks of its current order alone"):
        visiting.release(message)


def test_nothing_leaves_without_an_order(idle):
    with pytest.raises(EgressRefused, match="carries out no order"):
        idle.release(PROGRESS)
    with pytest.raises(EgressRefused, match="carries out no order"):
        idle.release_part("segmenter", SEGMENTER)


def test_an_order_for_another_site_or_plan_is_refused(idle, visit_order):
    with pytest.raises(EgressRefused, match="order for site 'ben'"):
        idle.begin(replace(visit_order, site_id="ben"))
    with pytest.raises(EgressRefused, match="approve"):
        idle.begin(replace(visit_order, plan_digest="0" * 64))


def test_no_checkpoint_and_no_visit_report_leaves_during_an_evaluation(evaluating):
    for message in (replace(REPORT, visit=0), _upload(*GENESIS.parts, visit=0)):
        with pytest.raises(EgressRefused, match="asked to evaluate"):
            evaluating.release(message)
    with pytest.raises(EgressRefused, match="asked to evaluate"):
        evaluating.release_part("segmenter", SEGMENTER)


def test_no_evaluation_report_leaves_during_a_visit(visiting):
    with pytest.raises(EgressRefused, match="was not asked to evaluate"):
        visiting.release(replace(EVALUATION, visit=1))


def test_only_the_ordered_checkpoint_is_reported_on(evaluating):
    with pytest.raises(EgressRefused, match="was not asked to evaluate"):
        evaluating.release(replace(EVALUATION, checkpoint_digest="0" * 64))


@pytest.mark.parametrize(
    "names", [("patient 17",), ("organ", "tumour"), ()], ids=["other", "more", "none"]
)
def test_the_classes_must_be_the_plans(evaluating, names):
    classes = tuple(replace(SCORE, class_name=name) for name in names)
    with pytest.raises(EgressRefused, match=r"the plan's classes \['organ'\]") as caught:
        evaluating.release(replace(EVALUATION, classes=classes))
    assert "patient" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.5", None, True, np.zeros(9)])
def test_a_number_that_is_none_or_not_finite_does_not_leave(visiting, evaluation_order, value):
    for report in (
        replace(REPORT, metrics={Metric.DICE_AFTER: value}),
        replace(REPORT, phase_seconds={Phase.FETCH: value}),
    ):
        with pytest.raises(EgressRefused, match="not finite or not a number"):
            visiting.release(report)
    visiting.begin(evaluation_order)
    with pytest.raises(EgressRefused, match="not finite or not a number"):
        visiting.release(replace(EVALUATION, classes=(replace(SCORE, dice=value),)))


@pytest.mark.parametrize(
    ("name", "tensors", "fault"),
    [
        ("segmenter", {"w": np.full(4, np.nan, np.float32)}, "not finite"),
        ("segmenter", {"w": np.ones(5, np.float32)}, r"expected F32 \[4\]"),
        ("segmenter", {"w": np.ones(4)}, "F64"),
        ("segmenter", {"w": np.ones(4, np.float32), "x": np.ones(1)}, "unexpected 'x'"),
        ("segmenter", {}, "missing 'w'"),
        ("prompt.ada", {"tokens": np.array([1, np.inf], np.float32)}, "not finite"),
        ("prompt.ben", {"tokens": np.ones(2, np.float32)}, "not in the manifest"),
        ("images", {"w": np.ones(4, np.float32)}, "not in the manifest"),
    ],
)
def test_a_part_leaves_only_with_exactly_the_manifests_tensors(visiting, name, tensors, fault):
    with pytest.raises(EgressRefused, match=fault):
        visiting.release_part(name, save(tensors))


@pytest.mark.parametrize("data", [b"", b"x", SEGMENTER + b"hidden", SEGMENTER[:-1]])
def test_bytes_beside_the_tensors_do_not_leave(visiting, data):
    with pytest.raises(EgressRefused, match="segmenter"):
        visiting.release_part("segmenter", data)


def test_an_upload_lists_only_parts_released_in_this_visit_or_the_parents(visiting):
    segmenter, prompt = part_ref("segmenter", SEGMENTER), part_ref("prompt.ada", PROMPT)
    with pytest.raises(EgressRefused, match="neither released"):
        visiting.release(_upload(segmenter, prompt))
    visiting.release_part("prompt.ada", PROMPT)
    with pytest.raises(EgressRefused, match="part 'segmenter'"):
        visiting.release(_upload(segmenter, prompt))
    visiting.release(_upload(GENESIS.parts[0], prompt))


def test_an_upload_with_other_parts_than_the_manifests_does_not_leave(visiting):
    segmenter = visiting.release_part("segmenter", SEGMENTER)
    with pytest.raises(EgressRefused, match=r"missing 'prompt\.ada'"):
        visiting.release(_upload(segmenter))


def _guard_with_budget(plan, audit, size):
    release = plan.release.model_copy(update={"byte_budget": size})
    plan = plan.model_copy(update={"release": release})
    return plan, EgressGuard(plan, MANIFEST, site_id="ada", trail=audit)


def test_a_visit_releases_no_more_bytes_than_its_budget(
    tiny_plan, audit, visit_order, evaluation_order
):
    plan, guard = _guard_with_budget(tiny_plan, audit, len(SEGMENTER) + len(PROMPT))
    order = replace(visit_order, plan_digest=plan.digest())
    guard.begin(order)
    guard.release_part("segmenter", SEGMENTER)
    guard.release_part("segmenter", SEGMENTER)  # the same again, as after a broken upload
    guard.release_part("prompt.ada", PROMPT)
    other = save({"w": np.zeros(4, np.float32)})
    with pytest.raises(EgressRefused, match="byte_budget"):
        guard.release_part("segmenter", other)
    guard.begin(replace(evaluation_order, plan_digest=plan.digest()))
    guard.begin(order)  # the visit repeated: what left before still counts
    with pytest.raises(EgressRefused, match="byte_budget"):
        guard.release_part("segmenter", other)
    guard.begin(replace(order, visit=4))
    guard.release_part("segmenter", other)


def test_whatever_fails_inside_the_guard_nothing_leaves(visiting, audit, monkeypatch):
    def fail(message):
        raise RuntimeError("patient 17")

    monkeypatch.setattr(codec, "encode", fail)
    with pytest.raises(EgressRefused, match="failed with RuntimeError") as caught:
        visiting.release(PROGRESS)
    assert "patient" not in str(caught.value)
    assert _lines(audit)[-1] == ("refused", {"visit": 1, "what": "Progress", "why": "RuntimeError"})
    assert "patient" not in str(_lines(audit))


def test_a_release_without_its_audit_line_does_not_happen(visiting, audit):
    (audit.folder / "trail.key").unlink()
    with pytest.raises(EgressRefused, match="without its line"):
        visiting.release(PROGRESS)
    with pytest.raises(EgressRefused, match="without its line"):
        visiting.release_part("segmenter", SEGMENTER)
    with pytest.raises(EgressRefused, match="without its line"):
        visiting.release("a log line")


def test_every_order_release_and_refusal_is_a_line_without_content(visiting, audit, visit_order):
    part = visiting.release_part("segmenter", SEGMENTER)
    with pytest.raises(EgressRefused):
        visiting.release(replace(REPORT, metrics={"patient_17": 0.5}))
    data = visiting.release(REPORT)
    with pytest.raises(EgressRefused):
        visiting.begin(replace(visit_order, site_id="ben"))
    ordered = {"what": "visit", "study": "tiny", "plan": visit_order.plan_digest}
    ordered |= {"checkpoint": GENESIS.digest, "anchor": None}
    released = {"what": "part segmenter", "size_bytes": len(SEGMENTER), "digest": part.digest}
    report = {
        "what": "VisitReport",
        "size_bytes": len(data),
        "digest": hashlib.sha256(data).hexdigest(),
    }
    assert _lines(audit) == [
        ("ordered", {"visit": 1, **ordered}),
        ("released", {"visit": 1, **released}),
        ("refused", {"visit": 1, "what": "VisitReport", "why": "EgressRefused"}),
        ("released", {"visit": 1, **report}),
        ("refused", {"visit": 1, "what": "visit order", "why": "EgressRefused"}),
    ]


def test_the_policy_of_a_site_suppresses_more_counts_and_allows_fewer_bytes(
    tiny_plan, audit, visit_order
):
    policy = SitePolicy(min_count=REPORT.num_train + 1, byte_budget=len(SEGMENTER))
    guard = EgressGuard(tiny_plan, MANIFEST, site_id="ada", trail=audit, policy=policy)
    guard.begin(visit_order)
    assert codec.decode_visit_report(guard.release(REPORT)).num_train is None
    guard.release_part("segmenter", SEGMENTER)
    with pytest.raises(EgressRefused, match="byte_budget"):
        guard.release_part("prompt.ada", PROMPT)


def test_the_policy_of_a_site_loosens_nothing(tiny_plan, audit, visit_order):
    release = tiny_plan.release.model_copy(update={"byte_budget": len(SEGMENTER) - 1})
    plan = tiny_plan.model_copy(update={"release": release})
    policy = SitePolicy(min_count=1, byte_budget=10**9)
    guard = EgressGuard(plan, MANIFEST, site_id="ada", trail=audit, policy=policy)
    guard.begin(replace(visit_order, plan_digest=plan.digest()))
    few = replace(REPORT, num_train=plan.release.min_count - 1)
    assert codec.decode_visit_report(guard.release(few)).num_train is None
    with pytest.raises(EgressRefused, match="byte_budget"):
        guard.release_part("segmenter", SEGMENTER)
