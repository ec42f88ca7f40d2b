"""A Flower federation of real processes over loopback, with TLS and SuperNode authentication.

Killed anywhere and started again, a study ends in the bytes that the in-process engine gives. The
sites "train" by arithmetic on a few numbers (those of test_resume.py), but for one study.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="the Flower engine needs flwr: pip install 'wardround[flower]'")

from wardround.deploy import plan_text
from wardround.deploy.flower import bundle
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.server.journal import read_events
from wardround.server.loop import run
from wardround.server.study_folder import JOURNAL
from wardround.shared.plan import StudyPlan

pytestmark = pytest.mark.slow


def _load(name: str):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = _load("test_resume")
relay_tests = _load("test_grpc_relay")
flower = _load("flower_network")
conftest = _load("conftest")
digests, state_of = relay_tests.digests, relay_tests.state_of
NUM_EVENTS = 1 + 2 + 2 + 1  # created, evaluated twice, leased and committed, completed


def a_plan(*sites: str):
    return relay_tests.a_plan().model_copy(update={"sites": sites or ("runmc",)})


@dataclass
class Simulated:
    """A study that the in-process engine has made: plan, folder of the data, digests."""

    plan: StudyPlan
    data: Path
    digests: list[str]


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Iterator:
    """A federation with one tiny site, for studies one after the other."""
    folder = tmp_path_factory.mktemp("flower")
    authority = conftest.Authority(folder / "credentials", "authority")
    with flower.network(folder, authority, a_plan(), {"runmc": folder}) as started:
        started.start_site("runmc", is_tiny=True)
        yield started


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[str]:
    """The digests that the in-process engine gives for the same plan."""
    plan, folder = a_plan(), tmp_path_factory.mktemp("in-process")
    sites = {"runmc": tiny._TinySite(plan, "runmc", folder / "runmc")}
    with open_study(folder / "study", plan, tiny.MANIFEST, tiny.GENESIS) as relay:
        return digests(run(relay, InProcessEngine(sites, relay)))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of one tiny site that was created and not yet run."""
    with open_study(tmp_path / "study", a_plan(), tiny.MANIFEST, tiny.GENESIS):
        return tmp_path / "study"


class _Pause:
    """Holds a site in the middle of its next visit until it is lifted."""

    def __init__(self, workspace: Path) -> None:
        self._file, self._visits = workspace / "pause", workspace / "visits"
        self._begun = self._num_visits()
        self._file.touch()

    def wait(self) -> None:
        while self._num_visits() == self._begun:
            time.sleep(0.05)

    def lift(self) -> None:
        self._file.unlink()

    def _num_visits(self) -> int:
        return len(self._visits.read_text().splitlines()) if self._visits.exists() else 0


def test_a_study_whose_server_app_was_killed_goes_on_with_the_next_run(
    network, study, expected
) -> None:
    pause = _Pause(network.workspace("runmc"))
    killed = network.run(study)
    pause.wait()
    network.kill_server_app()
    killed.process.kill()
    pause.lift()
    log = network.run(study).log()
    assert digests(state_of(study)) == expected, log
    assert len(read_events(study / JOURNAL)) == NUM_EVENTS


def test_a_study_goes_on_when_a_killed_supernode_is_back(network, study, expected) -> None:
    """Flower takes a minute to notice, and as long to let the same key in again."""
    pause = _Pause(network.workspace("runmc"))
    run = network.run(study)
    pause.wait()
    network.kill_site("runmc")
    pause.lift()
    while run.process.poll() is None:
        network.keep_site("runmc")
        time.sleep(0.5)
    log = run.log()
    assert digests(state_of(study)) == expected, log
    assert len(read_events(study / JOURNAL)) == NUM_EVENTS
    assert "its SuperNode went away; the order is sent again" in log


def test_what_went_wrong_at_a_site_leaves_it_as_a_number(network, study) -> None:
    failing = network.workspace("runmc") / "fail"
    failing.touch()
    log = network.run(study).log()
    failing.unlink()
    assert "site 'runmc' could not carry out its visit order of visit 1 (status 1" in log
    assert "doe_jane" not in log
    assert network.status_of_runs()[-1] == "finished:failed"


def test_a_bundle_that_shadows_the_package_is_refused(network, study, tmp_path) -> None:
    app, mark = tmp_path / "shadow", tmp_path / "ran"
    shutil.copytree(bundle.FOLDER, app)
    shadow = app / "wardround" / "site_client" / "__init__.py"
    shadow.parent.mkdir(parents=True)
    shadow.write_text(f"open({str(mark)!r}, 'w').close()\n")
    log = network.run(study, app).log()
    assert "site 'runmc' did not take its evaluation order of visit 0: the bundle" in log
    assert not mark.exists()
    assert not list(network.workspace("runmc").glob("flower/apps/*"))
    subprocess.run([sys.executable, "-c", "import wardround.site_client"], cwd=app, check=True)
    assert mark.exists(), "the bundle does not shadow the package, so the test shows nothing"


@pytest.mark.skipif(not flower.NGINX, reason="the reverse proxy of docs/flower.md is an nginx")
@pytest.mark.parametrize("path", ["/v1/control/list-runs", "/v1/runtime/acquire-task", "/health"])
def test_the_recipe_exposes_the_path_of_the_sites_alone(network, path: str) -> None:
    method = None if path == "/health" else b""
    assert network.status_of(network.exposed, path, method) == 403
    assert network.status_of(network.address, path, method) not in (0, 403, 404)
    assert network.status_of(network.exposed, "/v1/fleet/activate-node", b"") not in (0, 403, 404)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Simulated:
    """A study of two mock sites with real networks, in one process."""
    from wardround.deploy import simulate as simulation
    from wardround.deploy.progress import watching
    from wardround.deploy.site_folders import Places

    folder, plan = tmp_path_factory.mktemp("simulated"), a_plan("runmc", "bmc")
    places = Places(study_dir=folder, data=None, variable=None, working_dir=folder)
    options = simulation.Options(
        out=folder / "study", places=places, mock_dir=folder / "mock", has_pictures=False
    )
    with watching("quiet", plan, sys.stderr) as watcher:
        report = simulation.simulate(plan, options, watcher)
    return Simulated(plan, folder / "mock" / "mock-4", [c.digest for c in report.checkpoints])


def test_real_networks_end_in_the_bytes_of_the_simulation(
    tmp_path, authority, simulated: Simulated
) -> None:
    plan, study = simulated.plan, tmp_path / "study"
    data = {site_id: simulated.data / site_id for site_id in plan.sites}
    (tmp_path / "federation").mkdir()
    with flower.network(tmp_path / "federation", authority, plan, data) as started:
        create = [*flower.WARDROUND, "study", "create", str(started.plan_file)]
        subprocess.run([*create, "--out", str(study)], check=True, stdout=subprocess.DEVNULL)
        for site_id in plan.sites:
            started.start_site(site_id, is_tiny=False)
        log = started.run(study).log()
    assert digests(state_of(study)) == simulated.digests, log
    assert "visit 2 at bmc: segmenter 2/2" in log


def test_the_simulation_runtime_goes_on_to_the_same_bytes(tmp_path, simulated: Simulated) -> None:
    """Killed in the middle, gone on with, and both times in processes of Flower's own."""
    plan, out = tmp_path / "plan.toml", tmp_path / "study"
    plan.write_text(plan_text.write(simulated.plan, heading=""), encoding="utf-8")
    words = [*flower.WARDROUND, "simulate", str(plan), "--engine", "flower", "--out", str(out)]
    words += ["--resume", "--quiet", "--no-pictures"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as cut:
        while not (out / JOURNAL).exists() or (out / JOURNAL).read_bytes().count(b"\n") < 4:
            assert cut.poll() is None
            time.sleep(0.05)
        cut.kill()
    assert not state_of(out).is_complete
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    assert digests(state_of(out)) == simulated.digests
    assert json.loads((out / "report.json").read_text())["engine"] == "flower"
