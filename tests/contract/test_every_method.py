"""What every continual method must do, over the whole table, in real studies on tiny sites."""

import shutil
import sys
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from wardround.deploy import simulate as simulation
from wardround.deploy.progress import watching
from wardround.deploy.site_folders import Places
from wardround.server.journal import read_events
from wardround.server.state import StudyState, fold
from wardround.server.store import ArtefactStore
from wardround.server.study_folder import CHECKPOINTS, JOURNAL
from wardround.shared import plan as plans
from wardround.shared.checkpoint import verified
from wardround.shared.plan_method import DRAWS_PAIRS, GROWS_DECODERS, KEEPS_REAL_CASES
from wardround.shared.report import Report, without_timing
from wardround.site_client.learning.genesis import make_genesis, untrained_segmenter
from wardround.site_client.learning.methods import METHODS
from wardround.site_client.learning.methods.method import ReplaySource
from wardround.site_client.learning.outer_step import stepped
from wardround.site_client.learning.weights import pack, unpack

SITES = ["runmc", "hk"]
# Created, two scores; leased, committed, two scores, twice over; completed.
AFTER_THE_FIRST_VISIT = 1 + 2 + 2
NUM_EVENTS = 1 + 2 + 2 * 4 + 1


def a_plan(name: str, **augmentation: bool) -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "tiny",
            "sites": SITES,
            "task": {"classes": ["prostate"], "working_size": [16, 16]},
            "augmentation": augmentation,
            "segmenter": {"features": [4, 8], "steps": 2, "batch_size": 4},
            "denoiser": {
                "channels": [16, 16],
                "prompt_tokens": 2,
                "prompt_width": 8,
                "first_steps": 2,
                "steps": 2,
                "batch_size": 4,
                "timesteps": 10,
                "sampling_steps": 2,
            },
            "replay": {"samples_per_site": 4},
            "method": {"name": name, "exemplars": 1},
            "simulation": {"mock": 4},
        },
        origin="test",
    )


def run(plan: plans.StudyPlan, out: Path, mock: Path, *, resume: bool = False) -> Report:
    places = Places(study_dir=out, data=None, variable=None, working_dir=out)
    options = simulation.Options(
        out=out, places=places, mock_dir=mock, has_pictures=False, resume=resume
    )
    with watching("quiet", plan, sys.stderr) as watcher:
        return simulation.simulate(plan, options, watcher)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One method's study, and where it and the mock sites lie."""

    plan: plans.StudyPlan
    out: Path
    mock: Path
    report: Report

    @property
    def state(self) -> StudyState:
        state = fold(read_events(self.out / JOURNAL))
        assert state is not None
        return state

    def part(self, visit: int, name: str) -> bytes:
        store = ArtefactStore(self.out / CHECKPOINTS)
        (part,) = (p for p in self.state.checkpoints[visit].parts if p.name == name)
        return b"".join(verified(part, store.read(part)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("methods")


@pytest.fixture(scope="module", params=list(METHODS))
def finished(request: pytest.FixtureRequest, root: Path) -> Finished:
    plan = a_plan(request.param)
    report = run(plan, root / request.param, root / "mock")
    return Finished(plan=plan, out=root / request.param, mock=root / "mock", report=report)


def test_it_visits_every_site_and_scores_lie_between_0_and_1(finished: Finished) -> None:
    assert finished.report.status == "complete"
    assert len(finished.report.matrix) == 3
    assert all(0 <= score <= 1 for row in finished.report.matrix for score in row)
    assert len({ref.digest for ref in finished.state.checkpoints}) == 3
    if not METHODS[finished.plan.method.name].grows_decoders:
        assert len({finished.part(visit, "segmenter") for visit in range(3)}) == 3


def test_made_again_from_nothing_it_ends_in_the_same_bytes(
    finished: Finished, tmp_path: Path
) -> None:
    again = run(finished.plan, tmp_path / "again", finished.mock)

    assert without_timing(again) == without_timing(finished.report)


def test_cut_after_its_first_visit_and_resumed_it_ends_in_the_same_bytes(
    finished: Finished, tmp_path: Path
) -> None:
    """The sites' memos are left behind, so that the second visit is truly made again."""
    cut = tmp_path / "cut"
    shutil.copytree(finished.out, cut, ignore=shutil.ignore_patterns("sites", "audit", "report.*"))
    lines = (cut / JOURNAL).read_bytes().splitlines(keepends=True)
    assert len(lines) == NUM_EVENTS
    (cut / JOURNAL).write_bytes(b"".join(lines[:AFTER_THE_FIRST_VISIT]))

    resumed = run(finished.plan, cut, finished.mock, resume=True)

    assert without_timing(resumed) == without_timing(finished.report)


def test_its_first_visit_replays_nothing_and_its_second_as_it_says(finished: Finished) -> None:
    first, second = (visit.metrics for visit in finished.report.visits)
    assert not first.get("replayed_pairs")
    assert "gradient_cosine_first" not in first
    method = METHODS[finished.plan.method.name]
    if method.replay is ReplaySource.GENERATED:
        assert second["replayed_pairs"] == 4


def test_what_it_remembers_has_the_names_and_shapes_that_the_plan_foretells(
    finished: Finished,
) -> None:
    method = METHODS[finished.plan.method.name]
    blank = method.blank(finished.plan, untrained_segmenter(finished.plan))
    assert ("method" in make_genesis(finished.plan).manifest.parts) == bool(blank)
    for visit in range(3) if blank else ():
        state = unpack(finished.part(visit, "method"))
        assert {n: (t.shape, t.dtype) for n, t in state.items()} == {
            n: (t.shape, t.dtype) for n, t in blank.items()
        }
        assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_what_it_remembers_survives_its_file_and_grows_with_each_visit(
    finished: Finished,
) -> None:
    if "method" not in finished.state.manifest.parts:
        assert {part.name for part in finished.state.checkpoint.parts}.isdisjoint({"method"})
        return
    files = [finished.part(visit, "method") for visit in range(3)]
    assert len(set(files)) == 3
    assert [pack(unpack(file)) for file in files] == files


def test_segmenters_that_travel_along_were_trained_at_the_sites(finished: Finished) -> None:
    names = [{p.name: p.digest for p in ref.parts} for ref in finished.state.checkpoints]
    method = METHODS[finished.plan.method.name]
    if method.keeps_segmenters or method.replay is ReplaySource.GENERATED:
        assert names[2]["labeller.runmc"] == names[1]["segmenter"]
        trained = unpack(finished.part(2, "labeller.hk"))
        size = finished.plan.method.outer_step if method.takes_outer_step else 1.0
        made = stepped(unpack(finished.part(1, "segmenter")), trained, size)
        assert pack(made) == finished.part(2, "segmenter")
    else:
        assert not any(name.startswith("labeller.") for name in names[2])


def test_an_encoder_is_trained_at_the_first_site_alone_and_no_visit_changes_a_decoder(
    finished: Finished,
) -> None:
    names = [{p.name: p.digest for p in ref.parts} for ref in finished.state.checkpoints]
    if not METHODS[finished.plan.method.name].grows_decoders:
        assert not any(name.startswith(("encoder", "decoder.")) for name in names[2])
        return
    assert [sorted(parts) for parts in names] == [
        ["encoder"],
        ["decoder.runmc", "encoder"],
        ["decoder.hk", "decoder.runmc", "encoder"],
    ]
    assert names[0]["encoder"] != names[1]["encoder"] == names[2]["encoder"]
    assert names[1]["decoder.runmc"] == names[2]["decoder.runmc"]
    assert all(0 < visit.metrics["decoder_size_share"] <= 1 for visit in finished.report.visits)


def test_table_plan_and_report_know_the_same_methods() -> None:
    named = plans.Method.model_fields["name"].annotation
    assert list(METHODS) == list(typing.get_args(named))
    assert all(name == method.name for name, method in METHODS.items())
    keeping = [name for name, method in METHODS.items() if method.keeps_real_cases]
    assert sorted(keeping) == sorted(KEEPS_REAL_CASES)
    drawing = [name for name, m in METHODS.items() if m.replay is ReplaySource.GENERATED]
    assert sorted(drawing) == sorted(DRAWS_PAIRS)
    assert [name for name, method in METHODS.items() if method.is_per_site] == [plans.PER_SITE]
    assert [name for name, method in METHODS.items() if method.grows_decoders] == [GROWS_DECODERS]


def test_the_readme_lists_every_method_and_whether_it_may_leave_a_simulation(
    repository: Path,
) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    body = text.split("<!-- methods -->")[1].split("<!-- /methods -->")[0]
    rows = [line.strip("|").split("|") for line in body.strip().splitlines()[2:]]
    said = {row[0].strip().strip("`"): row[-1].strip() for row in rows}
    assert list(said) == list(METHODS)
    for name, method in METHODS.items():
        assert said[name].startswith("no" if method.keeps_real_cases else "yes"), name


def test_the_packaged_study_of_baselines_compares_every_method(repository: Path) -> None:
    text = (repository / "deploy/studies/baselines.toml").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if "--methods" in line)
    assert line.split("--methods ")[1].split()[0].split(",") == list(METHODS)


def test_bigaug_is_finetune_with_the_intensity_stack(root: Path, tmp_path: Path) -> None:
    bigaug, finetune, plain = (
        run(a_plan(name, intensity=stack), tmp_path / f"{name}-{stack}", root / "mock")
        for name, stack in (("bigaug", False), ("finetune", True), ("finetune", False))
    )

    assert bigaug.checkpoints == finetune.checkpoints
    assert bigaug.matrix == finetune.matrix
    assert plain.checkpoints[1:] != finetune.checkpoints[1:]


def test_with_one_model_per_site_each_visited_site_is_judged_by_its_own(
    root: Path, tmp_path: Path
) -> None:
    report = run(a_plan("per-site"), tmp_path / "per-site", root / "mock")

    assert report.matrix[2][0] == report.matrix[1][0]
    assert report.summary.bwt == 0
    assert report.visits[1].metrics["dice_before"] == pytest.approx(report.matrix[1][1], abs=1e-5)
