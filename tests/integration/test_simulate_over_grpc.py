"""A simulation whose coordinator and sites are processes of their own ends in the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from wardround.deploy import loopback, plan_text
from wardround.deploy import simulate as simulation
from wardround.deploy.progress import watching
from wardround.deploy.site_folders import Places
from wardround.server.journal import read_events
from wardround.server.study_folder import JOURNAL
from wardround.shared import plan as plans
from wardround.shared.errors import JournalError, PlanError, WardroundError
from wardround.shared.report import Report, without_timing

SIMULATE = [sys.executable, "-m", "wardround.deploy.cli", "simulate"]
NUM_EVENTS = 1 + 2 * 3 + 2 * 2 + 1


def a_plan(method: str = "smd") -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "tiny",
            "sites": ["runmc", "bmc"],
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
            "method": {"name": method},
            "simulation": {"mock": 4},
        },
        origin="test",
    )


def simulate(
    folder: Path, engine: str, method: str = "smd", *, mode: str = "quiet", **more: object
) -> Report:
    places = Places(study_dir=folder, data=None, variable=None, working_dir=folder)
    options = simulation.Options(
        out=folder / engine, places=places, mock_dir=folder / "mock", engine=engine, **more
    )
    plan = a_plan(method)
    with watching(mode, plan, sys.stderr) as watcher:
        return simulation.simulate(plan, options, watcher)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of the same study in one process."""
    return simulate(tmp_path_factory.mktemp("alone"), "in-process", has_pictures=False)


@pytest.mark.slow
def test_a_simulation_over_grpc_gives_the_report_of_one_in_process(
    tmp_path: Path, repository: Path, alone: Report, capfd: pytest.CaptureFixture[str]
) -> None:
    report = simulate(tmp_path, "grpc", mode="plain")

    assert (alone.engine, report.engine) == ("in-process", "grpc")
    same = without_timing(report).model_copy(update={"engine": "in-process"})
    assert same == without_timing(alone)
    assert report.status == "complete"
    schema = json.loads((repository / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    written = (tmp_path / "grpc" / "report.json").read_text(encoding="utf-8")
    jsonschema.validate(json.loads(written), schema)
    for name in ("report.html", "plan.toml", "replay/runmc", "sites/bmc/audit/trail.jsonl"):
        assert (tmp_path / "grpc" / name).exists()
    assert simulation.rebuild(tmp_path / "grpc").engine == "grpc"
    told = capfd.readouterr().err
    assert "visit 2 of 2 at bmc done, Dice" in told
    (tmp_path / "grpc" / "report.json").unlink()
    places = Places(study_dir=tmp_path, data=None, variable=None, working_dir=tmp_path)
    other = simulation.Options(
        out=tmp_path / "grpc", places=places, mock_dir=tmp_path / "mock", resume=True
    )
    with (
        watching("quiet", a_plan(), sys.stderr) as watcher,
        pytest.raises(JournalError, match="Resume with --engine grpc"),
    ):
        simulation.simulate(a_plan(), other, watcher)


@pytest.mark.parametrize("method", ["joint", "exemplar-replay"])
def test_methods_that_hand_real_cases_on_stay_in_one_process(tmp_path: Path, method: str) -> None:
    with pytest.raises(PlanError, match="--engine in-process"):
        simulate(tmp_path, "grpc", method)
    assert list(tmp_path.iterdir()) == []


def test_what_ends_a_process_ends_the_simulation_in_its_words(tmp_path: Path) -> None:
    with loopback._processes() as processes:
        processes.start(plans.load, tmp_path / "absent.toml", log=tmp_path / "log")
        with pytest.raises(PlanError, match=r"study file .* cannot be read"):
            processes.join()


def test_a_process_that_is_killed_ends_the_simulation(tmp_path: Path) -> None:
    with loopback._processes() as processes:
        processes.start(plans.load, tmp_path / "absent.toml", log=tmp_path / "log")
        processes._started[0][0].kill()
        with pytest.raises(WardroundError, match="ended with status -9"):
            processes.join()


def _is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.usefixtures("hears_ctrl_c")
def test_who_ends_the_command_ends_every_process_and_can_resume(
    tmp_path: Path, alone: Report, ending: signal.Signals
) -> None:
    """Ctrl-C goes to the whole group, as from a terminal; a kill to the command alone."""
    file = tmp_path / "plan.toml"
    file.write_text(plan_text.write(a_plan(), heading=""), encoding="utf-8")
    out = tmp_path / "out"
    words = [*SIMULATE, str(file), "--out", str(out), "--engine", "grpc", "--quiet"]
    words += ["--no-pictures"]
    with subprocess.Popen(words, start_new_session=True) as command:
        while not (out / JOURNAL).is_file() or len(read_events(out / JOURNAL)) < 3:
            assert command.poll() is None
            time.sleep(0.02)
        if ending is signal.SIGINT:
            os.killpg(command.pid, ending)
            assert command.wait() == 130
        else:
            command.kill()
            command.wait()
    while not _is_gone(command.pid):
        time.sleep(0.05)
    num_events = len(read_events(out / JOURNAL))
    assert num_events < NUM_EVENTS

    done = subprocess.run([*words, "--resume"], check=True, capture_output=True, text=True)
    assert "tiny, smd, seed 0" in done.stdout
    assert len(read_events(out / JOURNAL)) == NUM_EVENTS
    assert simulation.rebuild(out).checkpoints == alone.checkpoints
