"""Bytes that a release has sent stay readable, and the same messages give the same bytes.

tests/golden/wire/v1 holds one message of each kind, and the contract itself as buf compiles it. The
files are added to when the contract grows and never rewritten.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wardround.shared import codec
from wardround.shared.checkpoint import Manifest, ref_of
from wardround.shared.messages import (
    Anchor,
    CheckpointUpload,
    ClassScore,
    EvaluationOrder,
    EvaluationReport,
    Guarantee,
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

CHECKPOINT = ref_of(
    [
        PartRef(name="segmenter", digest="1" * 64, size_bytes=2**33),
        PartRef(name="prompt.runmc", digest="2" * 64, size_bytes=1104),
    ]
)
UNAUDITED = tuple(Metric)[:8]  # those there were before the memorisation audit
AUDITED = tuple(Metric)[8:20]
REGISTERED = EvaluationReport(
    visit=1,
    site_id="bmc",
    checkpoint_digest="b" * 64,
    num_cases=12,
    classes=(ClassScore(class_name="heart", dice=0.75, hd95_mm=2.5, asd_mm=0.5, num_undefined=0),),
    data_digest="c" * 64,
    folds=0.0,
)
MESSAGES = {
    "visit_order": VisitOrder(
        study_id="prostate",
        plan_digest="a" * 64,
        visit=2,
        site_id="bmc",
        parent=CHECKPOINT,
        visited=("runmc",),
    ),
    "evaluation_order": EvaluationOrder(
        study_id="prostate",
        plan_digest="a" * 64,
        visit=0,
        site_id="bmc",
        checkpoint=CHECKPOINT,
    ),
    "progress": Progress(visit=2, site_id="bmc", phase=Phase.DENOISER, step=0, total=400),
    "checkpoint_upload": CheckpointUpload(visit=2, site_id="bmc", checkpoint=CHECKPOINT),
    "visit_report": VisitReport(
        visit=2,
        site_id="bmc",
        num_train=30,
        metrics={metric: number / 16 for number, metric in enumerate(UNAUDITED)},
        phase_seconds={
            phase: number / 2
            for number, phase in enumerate(
                phase for phase in Phase if phase not in (Phase.AUDIT, Phase.TRIM)
            )
        },
    ),
    "visit_report_audited": VisitReport(
        visit=2,
        site_id="bmc",
        num_train=30,
        metrics={metric: number / 16 for number, metric in enumerate(AUDITED)},
        phase_seconds={Phase.AUDIT: 5.5},
    ),
    "visit_report_trimmed": VisitReport(
        visit=2,
        site_id="bmc",
        num_train=30,
        metrics={Metric.DECODER_SIZE_SHARE: 0.25},
        phase_seconds={Phase.TRIM: 7.5},
    ),
    "visit_report_suppressed": VisitReport(
        visit=2, site_id="bmc", num_train=None, metrics={}, phase_seconds={}
    ),
    "evaluation_report": EvaluationReport(
        visit=2,
        site_id="bmc",
        checkpoint_digest="b" * 64,
        num_cases=None,
        classes=(
            ClassScore(
                class_name="prostate", dice=0.875, hd95_mm=4.5, asd_mm=1.25, num_undefined=0
            ),
            ClassScore(
                class_name="central gland", dice=0.0, hd95_mm=None, asd_mm=None, num_undefined=9
            ),
        ),
        data_digest="c" * 64,
    ),
    "visit_report_anchored": VisitReport(
        visit=2,
        site_id="bmc",
        num_train=30,
        metrics={},
        phase_seconds={},
        trail=Anchor(seq=2**40, digest="d" * 64),
    ),
    "visit_report_guaranteed": VisitReport(
        visit=2,
        site_id="bmc",
        num_train=30,
        metrics={},
        phase_seconds={},
        guarantee=Guarantee(epsilon=3.999, delta=1e-5),
    ),
    "evaluation_report_anchored": EvaluationReport(
        visit=0,
        site_id="bmc",
        checkpoint_digest="b" * 64,
        num_cases=12,
        classes=(
            ClassScore(class_name="prostate", dice=1.0, hd95_mm=0.0, asd_mm=0.0, num_undefined=0),
        ),
        data_digest="c" * 64,
        trail=Anchor(seq=1, digest="d" * 64),
    ),
    "evaluation_report_registered": REGISTERED,
    "evaluation_report_measured": replace(REGISTERED, tre_mm=1.25),
    "refusal": Refusal(site_id="bmc", plan_digest="f" * 64, reason=RefusalReason.BUDGET_SPENT),
    "refusal_audited": Refusal(
        site_id="bmc", plan_digest="f" * 64, reason=RefusalReason.AUDIT_FAILED
    ),
    "anchor": Anchor(seq=300, digest="e" * 64),
    "manifest": Manifest(
        parts={
            "segmenter": (
                TensorSpec(name="down.0.weight", shape=(16, 1, 3, 3), dtype="F32"),
                TensorSpec(name="steps", shape=(), dtype="I64"),
            ),
            "denoiser": (TensorSpec(name="out.bias", shape=(8,), dtype="BF16"),),
        },
        prompt=(TensorSpec(name="tokens", shape=(4, 64), dtype="F32"),),
    ),
    "manifest_labelled": Manifest(
        parts={"segmenter": (TensorSpec(name="out.bias", shape=(2,), dtype="F32"),)},
        prompt=(TensorSpec(name="tokens", shape=(4, 64), dtype="F32"),),
        labeller=(TensorSpec(name="out.bias", shape=(2,), dtype="F32"),),
    ),
    "manifest_decoders": Manifest(
        parts={"encoder": (TensorSpec(name="levels.0.weight", shape=(16, 1, 3, 3), dtype="F32"),)},
        decoder=(
            (TensorSpec(name="out.weight", shape=(2, 16), dtype="F32"),),
            (TensorSpec(name="out.weight", shape=(2, 8), dtype="F32"),),
        ),
    ),
}


@pytest.fixture
def golden(repository) -> Path:
    return repository / "tests" / "golden" / "wire" / "v1"


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_bytes_are_read_and_written_as_ever(golden, name):
    message = MESSAGES[name]
    data = (golden / f"{name}.binpb").read_bytes()
    kind = name
    for variant in (
        "_suppressed",
        "_labelled",
        "_anchored",
        "_guaranteed",
        "_audited",
        "_registered",
        "_measured",
        "_decoders",
        "_trimmed",
    ):
        kind = kind.removesuffix(variant)
    assert getattr(codec, f"decode_{kind}")(data) == message
    assert codec.encode(message) == data


def test_every_kind_of_message_has_golden_bytes(golden):
    assert {path.stem for path in golden.glob("*.binpb")} == {*MESSAGES, "contract"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("lint", "protos"),
        ("breaking", "protos", "--against", "tests/golden/wire/v1/contract.binpb"),
    ],
    ids=["lint", "breaking"],
)
def test_the_contract_is_clean_and_breaks_nothing_that_was_published(repository, arguments):
    buf = Path(sys.executable).parent / "buf"
    if not buf.exists():
        pytest.skip("buf is not installed beside this Python")
    ended = subprocess.run(
        [str(buf), *arguments], cwd=repository, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
