"""A site is withdrawn from a study of real networks, which then never knew it, byte for byte.

What test_withdrawal.py shows of numbers, here with what training draws from: the streams of
randomness, replayed pairs, and what a method keeps from one visit to the next.
"""

import sys
from pathlib import Path

import pytest

from wardround.deploy import simulate as simulation
from wardround.deploy.progress import watching
from wardround.deploy.site_folders import Places
from wardround.server import study_folder
from wardround.server.journal import read_events
from wardround.server.state import StudyState, fold
from wardround.shared import plan as plans
from wardround.shared.study_api import Remedy, Withdraw


def run(plan: plans.StudyPlan, out: Path, mock: Path, *, resume: bool = False) -> StudyState:
    places = Places(study_dir=out, data=None, variable=None, working_dir=out)
    options = simulation.Options(
        out=out, places=places, mock_dir=mock, has_pictures=False, resume=resume
    )
    with watching("quiet", plan, sys.stderr) as watcher:
        simulation.simulate(plan, options, watcher)
    state = fold(read_events(out / study_folder.JOURNAL))
    assert state is not None
    return state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "site_id"),
    [
        ("smd", "runmc"),
        ("smd", "bmc"),
        ("ewc", "bmc"),
        ("vae-replay", "bmc"),
        ("incremental-decoders", "runmc"),
        ("incremental-decoders", "bmc"),
    ],
)
def test_the_study_goes_on_as_one_in_which_the_site_never_took_part(
    tmp_path: Path, tiny_plan: plans.StudyPlan, method: str, site_id: str
) -> None:
    study, mock = tmp_path / "study", tmp_path / "mock"
    plan = tiny_plan.model_copy(
        update={
            "sites": ("runmc", "bmc", "hk"),
            "method": tiny_plan.method.model_copy(update={"name": method}),
            "simulation": plans.Simulation(mock=4),
        }
    )
    before = run(plan, study, mock)
    with study_folder.hold(study) as (relay, _):
        relay.change(Withdraw(site_id, Remedy.CONTINUE), "anna")
    after = run(plan, study, mock, resume=True)
    left = tuple(name for name in plan.sites if name != site_id)
    never = run(plan.model_copy(update={"sites": left}), tmp_path / "never", mock)
    assert after.checkpoints == never.checkpoints
    assert after.checkpoints[-1] != before.checkpoints[-1]
