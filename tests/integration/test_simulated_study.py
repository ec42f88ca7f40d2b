"""Whole studies with real networks on tiny sites: same seed, same bytes, wherever they are cut."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wardround.deploy import simulate as simulation
from wardround.deploy.progress import watching
from wardround.deploy.site_folders import Places
from wardround.server.journal import read_events
from wardround.server.state import fold
from wardround.server.study_folder import JOURNAL
from wardround.shared import plan as plans
from wardround.shared.report import Report, without_timing

SITES = ["runmc", "bmc", "hk"]
NUM_EVENTS = 1 + 3 * 4 + 3 * 2 + 1


def a_plan(**method: object) -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "tiny",
            "sites": SITES,
            "task": {"classes": ["prostate"], "working_size": [16, 16]},
            "segmenter": {"features": [4, 8], "steps": 3, "batch_size": 4},
            "denoiser": {
                "channels": [16, 16],
                "prompt_tokens": 2,
                "prompt_width": 8,
                "first_steps": 3,
                "steps": 3,
                "batch_size": 4,
                "timesteps": 10,
                "sampling_steps": 2,
            },
            "replay": {"samples_per_site": 4},
            "method": {"name": "smd", "exemplars": 1, **method},
            "compute": {"threads": 1},
            "simulation": {"mock": 4},
        },
        origin="test",
    )


def options(out: Path, shared: Path, **more: object) -> simulation.Options:
    places = Places(study_dir=out, data=None, variable=None, working_dir=out)
    return simulation.Options(out=out, places=places, mock_dir=shared, has_pictures=False, **more)


def run(plan: plans.StudyPlan, chosen: simulation.Options) -> Report:
    with watching("quiet", plan, sys.stderr) as watcher:
        return simulation.simulate(plan, chosen, watcher)


def facts(out: Path) -> list[object]:
    """Everything a journal says but for clock readings and the heads of the sites' trails."""
    kept = []
    for event in read_events(out / JOURNAL):
        if hasattr(event, "report"):
            report = dataclasses.replace(event.report, trail=None)
            if hasattr(report, "phase_seconds"):
                report = dataclasses.replace(report, phase_seconds={})
            event = dataclasses.replace(event, report=report)
        kept.append(event)
    return kept


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Report]:
    root = tmp_path_factory.mktemp("studies")
    report = run(a_plan(), options(root / "whole", root / "mock"))
    return root / "whole", root / "mock", report


@pytest.mark.slow
def test_two_runs_with_one_seed_differ_in_nothing_but_timings(
    finished: tuple[Path, Path, Report], tmp_path: Path
) -> None:
    out, mock, report = finished
    again = run(a_plan(), options(tmp_path / "again", mock))

    assert without_timing(again) == without_timing(report)
    assert facts(tmp_path / "again") == facts(out)
    assert len(report.checkpoints) == 4
    assert len(set(digests(report))) == 4


@pytest.mark.slow
def test_another_seed_ends_in_other_bytes(
    finished: tuple[Path, Path, Report], tmp_path: Path
) -> None:
    _, mock, report = finished
    other = run(a_plan().model_copy(update={"seed": 1}), options(tmp_path / "other", mock))

    assert digests(other)[-1] != digests(report)[-1]


@pytest.mark.slow
def test_a_study_cut_after_any_event_and_resumed_ends_in_the_same_bytes(
    finished: tuple[Path, Path, Report], tmp_path: Path
) -> None:
    """The sites' memos are removed too, so that every cut visit is truly made again."""
    out, mock, report = finished
    lines = (out / JOURNAL).read_bytes().splitlines(keepends=True)
    assert len(lines) == NUM_EVENTS
    for kept in (1, 3, 4, 5, 6, 9, 12, 17, 19):
        cut = tmp_path / f"cut-{kept}"
        shutil.copytree(out, cut, ignore=shutil.ignore_patterns("sites", "audit", "report.*"))
        torn = lines[kept][: len(lines[kept]) // 2] if kept < NUM_EVENTS else b""
        (cut / JOURNAL).write_bytes(b"".join(lines[:kept]) + torn)

        resumed = run(a_plan(), options(cut, mock, resume=True))

        assert without_timing(resumed) == without_timing(report), kept
        assert facts(cut) == facts(out), kept


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_bytes(
    finished: tuple[Path, Path, Report], tmp_path: Path
) -> None:
    _, mock, report = finished
    study = tmp_path / "study.toml"
    study.write_text(simulation.plan_text.write(a_plan(), heading=""), encoding="utf-8")
    out = tmp_path / "killed"
    words = [
        sys.executable,
        "-m",
        "wardround.deploy.cli",
        "simulate",
        str(study),
        "--out",
        str(out),
    ]
    words += ["--mock-dir", str(mock), "--quiet", "--no-pictures"]
    for wanted in (2, 9, 14):
        process = subprocess.Popen([*words, "--resume"])
        while process.poll() is None and _count(out) < wanted:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert _count(out) >= wanted
    subprocess.run([*words, "--resume"], check=True)

    state = fold(read_events(out / JOURNAL))
    assert state is not None
    assert [ref.digest for ref in state.checkpoints] == digests(report)


def digests(report: Report) -> list[str]:
    return [checkpoint.digest for checkpoint in report.checkpoints]


def _count(out: Path) -> int:
    path = out / JOURNAL
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetune", "joint", "exemplar-replay", "diffusion-replay"])
def test_every_other_method_runs_to_the_end_and_says_whether_it_keeps_real_cases(
    finished: tuple[Path, Path, Report], tmp_path: Path, name: str
) -> None:
    _, mock, _ = finished
    report = run(a_plan(name=name), options(tmp_path / name, mock))

    assert report.method == name
    assert report.privacy.keeps_real_cases == (name in ("joint", "exemplar-replay"))
    assert len(report.matrix) == 4
    assert all(value is not None and 0 <= value <= 1 for row in report.matrix for value in row)


@pytest.mark.slow
def test_methods_that_train_the_same_denoiser_train_it_once(
    finished: tuple[Path, Path, Report], tmp_path: Path
) -> None:
    _, mock, _ = finished
    memo = tmp_path / "memo"
    run(a_plan(), options(tmp_path / "one", mock, memo=memo))
    before = {path.name for path in memo.iterdir()}
    other = run(a_plan(alpha=0.3), options(tmp_path / "two", mock, memo=memo))
    added = {path.name for path in memo.iterdir()} - before
    alone = run(a_plan(alpha=0.3), options(tmp_path / "alone", mock))

    assert len(added) == 3  # the three segmenter trainings
    assert other.checkpoints == alone.checkpoints


def parts_after_each_visit(out: Path) -> list[dict[str, str]]:
    state = fold(read_events(out / JOURNAL))
    assert state is not None
    return [{part.name: part.digest for part in ref.parts} for ref in state.checkpoints]


@pytest.mark.slow
def test_a_labeller_is_the_segmenter_before_the_outer_step_and_stays_so(
    finished: tuple[Path, Path, Report],
) -> None:
    visits = parts_after_each_visit(finished[0])
    assert a_plan().method.outer_step < 1
    for number, site_id in enumerate(SITES, start=1):
        labeller = visits[number][f"labeller.{site_id}"]
        assert (labeller == visits[number]["segmenter"]) == (number == 1)
        assert all(later[f"labeller.{site_id}"] == labeller for later in visits[number:])
        assert f"labeller.{site_id}" not in visits[number - 1]


@pytest.mark.slow
def test_who_labels_replay_matters_from_the_third_visit_on(
    finished: tuple[Path, Path, Report], tmp_path: Path
) -> None:
    """At the second visit the segmenter that arrives is the one that left the only earlier site."""
    out, mock, _ = finished
    content = a_plan().model_dump(mode="json", exclude_none=True)
    plan = plans.parse(content | {"replay": content["replay"] | {"labels": "arriving"}}, origin="t")
    run(plan, options(tmp_path / "arriving", mock))
    by_site = parts_after_each_visit(out)
    arriving = parts_after_each_visit(tmp_path / "arriving")

    assert [visit["segmenter"] for visit in arriving[:3]] == [v["segmenter"] for v in by_site[:3]]
    assert arriving[3]["segmenter"] != by_site[3]["segmenter"]
    assert not any(name.startswith("labeller.") for name in arriving[3])


@pytest.mark.slow
@pytest.mark.parametrize(("dims", "size"), [("2.5d", [16, 16]), ("3d", [16, 16, 8])])
def test_two_and_a_half_and_three_dimensional_studies_run(
    finished: tuple[Path, Path, Report], tmp_path: Path, dims: str, size: list[int]
) -> None:
    _, mock, _ = finished
    content = json.loads(a_plan().canonical())
    content["task"] |= {"dims": dims, "working_size": size}
    content["simulation"] = {"mock": 4}
    report = run(plans.parse(content, origin="test"), options(tmp_path / dims, mock))

    assert len(report.matrix) == 4
    assert report.surface


def test_sites_that_label_different_classes_are_scored_on_their_own(tmp_path_factory):
    out = tmp_path_factory.mktemp("labels") / "study"
    content = json.loads(a_plan(name="finetune").canonical())
    content["task"]["classes"] = ["gland", "prostate"]
    content["task"]["labels"] = {"runmc": {"prostate": 1}, "bmc": {"gland": 2, "prostate": 1}}
    content["sites"] = ["runmc", "bmc"]
    content["simulation"] = {"mock": 4}
    plan = plans.parse(content, origin="test")
    report = run(plan, options(out, out.parent / "mock"))
    scored = {cell.site: [score.name for score in cell.classes] for cell in report.surface}
    assert scored == {"runmc": ["prostate"], "bmc": ["gland", "prostate"]}


def test_a_memo_is_not_taken_for_a_study_of_another_task(tmp_path):
    plan = a_plan(name="finetune").model_copy(update={"sites": ("runmc", "bmc")})
    whole = plan.model_copy(
        update={"task": plan.task.model_copy(update={"working_size": (24, 24)})}
    )
    in_patches = whole.model_copy(
        update={"task": whole.task.model_copy(update={"patch_size": (16, 16)})}
    )
    mock = tmp_path / "mock"
    run(whole, options(tmp_path / "one", mock, memo=tmp_path / "memo"))
    shared = run(in_patches, options(tmp_path / "two", mock, memo=tmp_path / "memo"))
    alone = run(in_patches, options(tmp_path / "three", mock))
    assert without_timing(shared) == without_timing(alone)
