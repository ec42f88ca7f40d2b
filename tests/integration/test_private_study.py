"""A whole study with real networks whose prompts are made under differential privacy."""

import shutil
import sys
from pathlib import Path

import pytest

from wardround.deploy import simulate as simulation
from wardround.deploy.progress import watching
from wardround.deploy.site_folders import Places
from wardround.server.journal import read_events
from wardround.server.state import StudyState, fold
from wardround.server.study_folder import JOURNAL
from wardround.shared import plan as plans
from wardround.shared.errors import BudgetSpent
from wardround.shared.identity import Role, uri_of
from wardround.shared.messages import Metric
from wardround.shared.report import Report
from wardround.shared.trail import AUDIT, Trail
from wardround.shared.trail_lines import LineKind
from wardround.site_client.data.cases import SiteData
from wardround.site_client.learning.pool import Pool
from wardround.site_client.training_pools import TrainingPools

SITES = ("runmc", "bmc", "hk")


@pytest.fixture(scope="module")
def plan() -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "tiny",
            "sites": list(SITES),
            "task": {"classes": ["prostate"], "working_size": [16, 16]},
            "segmenter": {"features": [4, 8], "steps": 2, "batch_size": 4},
            "denoiser": {
                "mode": "frozen",
                "channels": [16, 16],
                "prompt_tokens": 2,
                "prompt_width": 8,
                "first_steps": 2,
                "steps": 2,
                "batch_size": 4,
                "timesteps": 10,
                "sampling_steps": 2,
            },
            "replay": {"samples_per_site": 2},
            "privacy": {"dp": True, "epsilon": 3.0, "epsilon_budget": 3.25},
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


def state_of(out: Path) -> StudyState:
    state = fold(read_events(out / JOURNAL))
    assert state is not None
    return state


def parts_of(state: StudyState, visit: int) -> dict[str, str]:
    return {part.name: part.digest for part in state.checkpoints[visit].parts}


def lines_of(out: Path, site: str, kind: LineKind) -> list[dict]:
    trail = Trail(out / "sites" / site / AUDIT, holder=uri_of(Role.SITE, site))
    return [dict(line.facts) for line in trail.lines() if line.kind == kind]


def cut_last_visit(out: Path) -> None:
    """Leave a finished study as if it had been killed before its last visit, memos gone."""
    lines = (out / JOURNAL).read_bytes().splitlines(keepends=True)
    (out / JOURNAL).write_bytes(b"".join(lines[:-6]))  # the last visit, its scores, completion
    shutil.rmtree(out / "audit")
    for site in SITES:
        shutil.rmtree(out / "sites" / site / "memo", ignore_errors=True)


@pytest.fixture(scope="module")
def finished(plan, tmp_path_factory) -> tuple[Path, Path, Report]:
    root = tmp_path_factory.mktemp("private")
    return root / "study", root / "mock", run(plan, root / "study", root / "mock")


def test_prompts_have_the_guarantee_that_reports_tell_of(finished):
    out, _, report = finished
    first, *later = report.visits
    assert report.privacy.formal_dp.startswith("yes (epsilon 3, delta 1e-05)")
    assert first.formal_dp is None
    assert all(2.9 < visit.formal_dp.epsilon <= 3 for visit in later)
    # A loss on the own cases would leave without noise.
    losses = [r.metrics.get(Metric.DENOISER_LOSS) for r in state_of(out).visit_reports]
    assert losses[0] is not None
    assert losses[1:] == [None, None]


def test_only_the_first_visit_trains_the_denoiser(finished):
    state = state_of(finished[0])
    denoisers = [parts_of(state, visit)["denoiser"] for visit in range(4)]
    assert denoisers[0] != denoisers[1] == denoisers[2] == denoisers[3]


def test_every_prompt_is_charged_before_it_leaves(finished):
    out, _, _ = finished
    assert lines_of(out, "runmc", LineKind.SPENT) == []
    for site, visit in (("bmc", 2), ("hk", 3)):
        (charged,) = lines_of(out, site, LineKind.SPENT)
        assert charged["prompt"] == parts_of(state_of(out), visit)[f"prompt.{site}"]
        trail = Trail(out / "sites" / site / AUDIT, holder=uri_of(Role.SITE, site))
        told = [(line.kind, line.facts.get("what")) for line in trail.lines()]
        assert told.index(("spent", None)) < told.index(("released", f"part prompt.{site}"))


def test_a_study_cut_and_resumed_ends_in_the_same_bytes_and_counts_once(plan, finished, tmp_path):
    out, mock, report = finished
    cut = tmp_path / "cut"
    shutil.copytree(out, cut)
    cut_last_visit(cut)
    again = run(plan, cut, mock, resume=True)
    assert again.checkpoints == report.checkpoints
    assert len(lines_of(cut, "hk", LineKind.SPENT)) == 1


def test_a_visit_past_the_budget_is_refused_before_anything_is_trained(plan, finished, tmp_path):
    out, mock, _ = finished
    cut = tmp_path / "cut"
    shutil.copytree(out, cut)
    for name in (JOURNAL, "report.json"):
        (cut / name).unlink()
    shutil.rmtree(cut / "audit")
    # Another study at the same sites: 3.0 are spent; with another visit it would be 3.76 of 3.25.
    other = plan.model_copy(update={"seed": 1})
    with pytest.raises(BudgetSpent, match=r"site 'bmc' would spend epsilon 3\.761 .* are 3\.25;"):
        run(other, cut, mock)
    assert state_of(cut).visited == ("runmc",)
    refused = lines_of(cut, "bmc", LineKind.REFUSED)
    assert refused == [{"visit": 2, "what": "visit order", "why": "BudgetSpent"}]
    assert len(lines_of(cut, "bmc", LineKind.SPENT)) == 1


def test_a_segmenter_that_is_covered_sees_no_case(plan, finished, tmp_path, monkeypatch):
    """It trains on pairs of the own prompt alone, so it tells no more than that does."""
    asked = []
    samples = TrainingPools.samples

    def asking(pools: TrainingPools, data: SiteData) -> Pool:
        asked.append(data.site_id)
        return samples(pools, data)

    monkeypatch.setattr(TrainingPools, "samples", asking)
    changed = plan.model_dump(mode="json")
    changed["privacy"]["segmenter"] = "drawn"
    changed["replay"]["samples_per_site"] = 3  # unlike the steps, of which progress tells
    covering = plans.parse(changed, origin="test")
    report = run(covering, tmp_path / "study", finished[1])
    assert set(asked) == {"runmc"}
    assert report.privacy.formal_dp.startswith(
        "yes (epsilon 3, delta 1e-05) for prompt, segmenter and labeller of each visit but"
    )
    state = state_of(tmp_path / "study")
    for visit in (1, 2, 3):  # the segmenter is the labeller, but for the outer step
        parts = parts_of(state, visit)
        assert (parts["segmenter"] == parts[f"labeller.{SITES[visit - 1]}"]) == (visit == 1)
    assert len({parts_of(state, visit)["segmenter"] for visit in range(4)}) == 4
    cut_last_visit(tmp_path / "study")  # the noise is the site's secret, the pairs follow from it
    again = run(covering, tmp_path / "study", finished[1], resume=True)
    assert again.checkpoints == report.checkpoints
