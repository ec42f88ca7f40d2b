"""Whole registration studies with real networks on tiny sites, also resumed and as volumes."""

import shutil
import sys
from pathlib import Path

import pytest

from wardround.deploy import simulate as simulation
from wardround.deploy.progress import watching
from wardround.deploy.site_folders import Places
from wardround.server.journal import read_events
from wardround.server.study_folder import JOURNAL
from wardround.shared import plan as plans
from wardround.shared.errors import DataError, PlanError
from wardround.shared.plan_method import SAYS_CLASSES
from wardround.shared.report import Report, without_timing
from wardround.site_client.data.cases import load_site

# Created, two scores; leased, committed, two scores.
AFTER_THE_FIRST_VISIT = 1 + 2 + 2


def a_plan(name: str, *, heldout: int = 2, dims: str = "2d", **replay: object) -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "tiny",
            "sites": ["runmc", "hk"],
            "task": {
                "kind": "registration",
                "dims": dims,
                "classes": ["prostate"],
                "working_size": [16, 16, 4] if dims == "3d" else [16, 16],
            },
            "registration": {"samples": 8, "window": 3},
            "segmenter": {"features": [2, 4], "steps": 2, "batch_size": 4},
            "denoiser": {
                "channels": [16, 16],
                "fold": 2,
                "prompt_tokens": 2,
                "prompt_width": 8,
                "first_steps": 2,
                "steps": 2,
                "batch_size": 4,
                "timesteps": 10,
                "sampling_steps": 2,
            },
            "replay": {"samples_per_site": 4, "labels": "joint", **replay},
            "method": {"name": name, "exemplars": 1, "samcl_buffer": 6},
            "audit": {"samples": 8, "max_copy_rate": 1.0},
            "simulation": {"mock": heldout + (6 if heldout == 4 else 3), "mock_heldout": heldout},
        },
        origin="test",
    )


def run(plan: plans.StudyPlan, out: Path, mock: Path, *, resume: bool = False, pictures=False):
    places = Places(study_dir=out, data=None, variable=None, working_dir=out)
    options = simulation.Options(
        out=out, places=places, mock_dir=mock, has_pictures=pictures, resume=resume
    )
    with watching("quiet", plan, sys.stderr) as watcher:
        return simulation.simulate(plan, options, watcher)


def expect_sound(report: Report) -> None:
    assert report.status == "complete"
    assert len(report.matrix) == 3
    assert all(0 < score < 1 for row in report.matrix for score in row)
    assert all(cell.folds == 0 for cell in report.surface if cell.visit == 0)
    assert all(cell.folds is not None for cell in report.surface)
    assert {len(cell.classes) for cell in report.surface} == {1}
    assert {cell.num_cases for cell in report.surface} == {None}  # two are too few to tell


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mock")


@pytest.mark.parametrize(
    "name", ["finetune", "joint", "mas", "mer", "smd", "vae-replay", "samcl", "samcl-generated"]
)
def test_each_kind_of_method_registers(name: str, tmp_path: Path, mock: Path) -> None:
    report = run(a_plan(name), tmp_path / "study", mock)

    expect_sound(report)
    assert len({checkpoint.digest for checkpoint in report.checkpoints}) == 3
    assert report.visits[0].metrics["dice_after"] == pytest.approx(report.matrix[1][0], abs=1e-5)


@pytest.mark.parametrize("name", ["samcl", "samcl-generated"])
def test_cut_after_its_first_visit_and_resumed_it_ends_in_the_same_bytes(
    name: str, tmp_path: Path, mock: Path
) -> None:
    plan, out, cut = a_plan(name), tmp_path / "whole", tmp_path / "cut"
    whole = run(plan, out, mock)
    shutil.copytree(out, cut, ignore=shutil.ignore_patterns("sites", "audit", "report.*"))
    lines = (cut / JOURNAL).read_bytes().splitlines(keepends=True)
    (cut / JOURNAL).write_bytes(b"".join(lines[:AFTER_THE_FIRST_VISIT]))

    resumed = run(plan, cut, mock, resume=True)

    assert without_timing(resumed) == without_timing(whole)
    assert len(read_events(cut / JOURNAL)) == len(lines)


def test_volumes_are_registered_as_volumes(tmp_path: Path, mock: Path) -> None:
    expect_sound(run(a_plan("samcl-generated", dims="3d"), tmp_path / "study", mock))


def test_generated_pairs_are_audited_drawn_and_shown_with_examples(tmp_path: Path) -> None:
    plan = a_plan("samcl-generated", heldout=4)  # which is enough for the audit to tell
    report = run(plan, tmp_path / "study", tmp_path / "mock", pictures=True)
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")

    assert report.visits[1].metrics["audit_tells"] == 1
    assert report.visits[1].metrics["replayed_pairs"] == 4
    assert "replay_agreement" not in report.visits[1].metrics
    assert page.count("GENERATED") == 2 * 8  # a row of eight images, four pairs, a site
    assert "Example registrations" in page
    assert "moved</span>" in page
    assert "Folds" in page


def test_key_points_beside_the_images_give_a_target_registration_error(tmp_path: Path) -> None:
    """The point of every other case lies three voxels further along: the first row tells so."""
    plan, mock = a_plan("finetune"), tmp_path / "mock"
    without = run(plan, tmp_path / "without", mock)
    sites = [folder for folder in mock.glob("*/*") if folder.name in plan.sites]
    for labels in (part for site in sites for part in site.glob("labelsT?")):
        points = labels.with_name(labels.name.replace("labels", "keypoints"))
        points.mkdir()
        for number, file in enumerate(sorted(labels.iterdir())):
            name = file.name.removesuffix(".nii.gz")
            (points / f"{name}.csv").write_text(f"{5 + 3 * (number % 2)},4,1\n")
    report = run(plan, tmp_path / "study", mock, pictures=True)

    expect_sound(report)
    assert report.matrix == without.matrix
    assert {cell.tre_mm for cell in without.surface} == {None}
    for site in sites:
        held_out = load_site(site.name, site, plan.task, plan.data).heldout
        before = [3 * case.spacing_mm[0] for case in held_out]
        cell = next(c for c in report.surface if (c.visit, c.site) == (0, site.name))
        assert cell.tre_mm == pytest.approx(sum(before) / 2, rel=1e-5)
    assert {cell.tre_mm is not None for cell in report.surface} == {True}
    assert len({cell.tre_mm for cell in report.surface if cell.site == "hk"}) == 3
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert "Target registration error" in page


@pytest.mark.parametrize("name", SAYS_CLASSES)
def test_methods_that_hold_on_to_class_probabilities_are_refused(name: str) -> None:
    with pytest.raises(PlanError, match=r"choose another method, such as 'samcl'"):
        a_plan(name)


@pytest.mark.parametrize(
    ("replay", "remedy"),
    [({"labels": "site"}, r"set replay.labels = 'joint'"), ({"keep_share": 0.5}, "keep_share")],
)
def test_a_segmenter_that_labels_what_is_drawn_is_refused(replay, remedy: str) -> None:
    with pytest.raises(PlanError, match=remedy):
        a_plan("samcl-generated", **replay)


def test_a_single_held_out_case_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError, match="no other to be registered with"):
        run(a_plan("finetune", heldout=1), tmp_path / "study", tmp_path / "mock")
    assert not (tmp_path / "study" / JOURNAL).exists()
