"""A tiny study whose sites label different classes, learnt by a decoder each on one encoder."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from wardround.deploy import simulate as simulation
from wardround.deploy.progress import watching
from wardround.deploy.site_folders import Places
from wardround.server import study_folder
from wardround.server.journal import read_events
from wardround.server.state import StudyState, fold
from wardround.server.store import ArtefactStore
from wardround.shared import plan as plans
from wardround.shared.checkpoint import verified
from wardround.shared.report import Report
from wardround.shared.study_api import Remedy, Withdraw
from wardround.site_client.data.cases import load_site
from wardround.site_client.learning.judging import judge_of

PLAN = plans.parse(
    {
        "study_id": "growing",
        "sites": ["runmc", "hk", "bmc"],
        "task": {
            "classes": ["gland", "prostate"],
            "labels": {"runmc": {"gland": 1}, "hk": {"prostate": 1}, "bmc": {"gland": 1}},
            "working_size": [16, 16],
        },
        "segmenter": {"features": [4, 8], "steps": 10, "batch_size": 4},
        "method": {"name": "incremental-decoders", "decoder_widths": [0.5], "decoder_tolerance": 1},
        "simulation": {"mock": 4},
    },
    origin="test",
)


def run(out: Path, *, resume: bool = False) -> Report:
    places = Places(study_dir=out, data=None, variable=None, working_dir=out)
    options = simulation.Options(
        out=out, places=places, mock_dir=out.parent / "mock", has_pictures=True, resume=resume
    )
    with watching("quiet", PLAN, sys.stderr) as watcher:
        return simulation.simulate(PLAN, options, watcher)


def state_of(out: Path) -> StudyState:
    state = fold(read_events(out / study_folder.JOURNAL))
    assert state is not None
    return state


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("growing") / "study"
    return out, run(out)


def test_each_site_is_scored_on_its_own_classes_and_has_a_decoder_of_half_the_width(finished):
    _, report = finished
    scored = {cell.site: [score.name for score in cell.classes] for cell in report.surface}
    assert scored == {"runmc": ["gland"], "hk": ["prostate"], "bmc": ["gland"]}
    assert report.matrix[0] == (0.0, 0.0, 0.0)  # nobody claims anything yet
    shares = [visit.metrics["decoder_size_share"] for visit in report.visits]
    assert len(set(shares)) == 1
    assert 0.25 < shares[0] < 0.75  # at so few channels the last layer counts


def test_encoder_and_earlier_decoders_keep_their_bytes(finished):
    out, _ = finished
    visits = [{p.name: p.digest for p in ref.parts} for ref in state_of(out).checkpoints]
    assert sorted(visits[3]) == ["decoder.bmc", "decoder.hk", "decoder.runmc", "encoder"]
    assert visits[1].items() <= visits[2].items() <= visits[3].items()
    assert visits[0]["encoder"] != visits[1]["encoder"]


def test_the_single_network_at_the_end_finds_the_classes_of_all_sites(finished):
    out, _ = finished
    store = ArtefactStore(out / study_folder.CHECKPOINTS)
    parts = {
        part.name: b"".join(verified(part, store.read(part)))
        for part in state_of(out).checkpoint.parts
    }
    folder = next((out.parent / "mock").glob("*/hk"))
    case = load_site("hk", folder, PLAN.task, PLAN.data).heldout[0]
    judge = judge_of(parts, PLAN, "hk")
    assert judge.classes == ("prostate",)
    found = judge.segment(case)
    assert found.shape == case.label_HWD.shape
    assert set(np.unique(found)) <= {0, 1, 2}
    nothing = judge_of({"encoder": parts["encoder"]}, PLAN, "hk").segment(case)
    assert not nothing.any()


def test_a_withdrawn_sites_decoder_is_dropped_and_the_others_stay(finished, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(finished[0], out)
    with study_folder.hold(out) as (relay, _):
        relay.change(Withdraw("hk", Remedy.MARK), "anna")
    state = state_of(out)
    assert [part.name for part in state.withdrawals["hk"].dropped] == ["decoder.hk"]
    kept = [part.name for part in state.checkpoint.parts]
    assert kept == ["decoder.bmc", "decoder.runmc", "encoder"]
