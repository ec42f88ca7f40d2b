"""A Flower federation of real processes over loopback, with TLS and SuperNode authentication.

Killed anywhere and started again, a study ends in the bytes that the in-process engine gives. Two
sites, runmc and bmc, have real networks; ucl "trains" by arithmetic on a few numbers (those of
tiny_site.py); hk is registered and has no SuperNode. All of them are in one federation, whose
first study begins before the other tests, since Flower takes minutes over a killed SuperNode.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import pytest

pytest.importorskip("flwr", reason="the Flower engine needs flwr: pip install 'wardround[flower]'")

import flower_network as flower
import six_sites
from study_state import digests, state_of
from tiny_site import GENESIS, MANIFEST, TinySite
from wardround.deploy import plan_text
from wardround.deploy.flower import bundle
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.deploy.study_in_folder import StudyInFolder
from wardround.deploy.throwaway import ThrowawayAuthority
from wardround.server.events import VisitLeased
from wardround.server.journal import read_events
from wardround.server.loop import run
from wardround.server.study_folder import JOURNAL
from wardround.shared.errors import JournalError
from wardround.shared.identity import Role, read_credentials
from wardround.shared.plan import Simulation, StudyPlan
from wardround.shared.study_api import Change, Standing, Stop, StudyStatus

# Each order is a process that imports Flower and torch, and the first test starts the federation.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def a_plan(*sites: str) -> StudyPlan:
    return six_sites.a_plan().model_copy(update={"sites": sites})


def num_events(num_sites: int) -> int:
    """Created, completed; each visit leased and committed; each checkpoint scored everywhere."""
    return 2 + 2 * num_sites + (num_sites + 1) * num_sites


def tiny_study(folder: Path, site_id: str) -> Path:
    """Create a study of one tiny site."""
    with open_study(folder, a_plan(site_id), MANIFEST, GENESIS, engine="flower"):
        return folder


def wait_for(log: Path, text: str) -> None:
    while text not in log.read_text(encoding="utf-8"):
        time.sleep(0.05)


@dataclass
class Simulated:
    """A study that the in-process engine has made: plan, folder of the data, digests."""

    plan: StudyPlan
    data: Path
    digests: list[str]


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


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return ThrowawayAuthority(tmp_path_factory.mktemp("credentials"))


@pytest.fixture(scope="module")
def network(tmp_path_factory, authority, simulated: Simulated) -> Iterator:
    folder = tmp_path_factory.mktemp("flower")
    with flower.network(folder, authority, "runmc", "bmc", "ucl", "hk") as started:
        for site_id in ("runmc", "bmc"):
            started.start_site(site_id, simulated.plan, simulated.data / site_id)
        started.start_tiny_site("ucl", a_plan("ucl"))
        yield started


@dataclass
class Killed:
    """A run whose site was killed in the middle of its visit: the study's folder, the run."""

    study: Path
    run: object


@pytest.fixture(scope="module")
def killed(network, tmp_path_factory) -> Iterator[Killed]:
    """Kill the SuperNode of ucl in its visit; it is started again until it is let in."""
    study = tiny_study(tmp_path_factory.mktemp("killed") / "study", "ucl")
    workspace = network.workspace("ucl")
    (workspace / "pause").touch()
    started = network.run(study)
    while not (workspace / "visits").exists():
        time.sleep(0.05)
    network.kill_site("ucl")
    (workspace / "pause").unlink()
    over = Event()
    keeping = Thread(target=network.keep_tiny_site, args=("ucl", over))
    keeping.start()
    try:
        yield Killed(study, started)
    finally:
        over.set()
        keeping.join()


@pytest.fixture(scope="module")
def created(network, killed, authority, simulated: Simulated, tmp_path_factory) -> Path:
    """A study with real networks, created on hold and started by commands, not yet run."""
    folder = tmp_path_factory.mktemp("created")
    plan, study = folder / "plan.toml", folder / "study"
    plan.write_text(plan_text.write(simulated.plan, heading=""), encoding="utf-8")
    words = [*flower.WARDROUND, "study", "create", str(plan), "--out", str(study)]
    subprocess.run([*words, "--engine", "flower", "--hold"], check=True, stdout=subprocess.DEVNULL)
    own = authority.issue(Role.OPERATOR, "anna")
    words = [*flower.WARDROUND, "study", "start", simulated.plan.study_id, "--folder", str(study)]
    subprocess.run([*words, "--credentials", str(own)], check=True, stdout=subprocess.DEVNULL)
    return study


@pytest.fixture
def study(created: Path, tmp_path: Path) -> Path:
    """A study with real networks that was created and not yet run."""
    return shutil.copytree(created, tmp_path / "study")


def test_a_study_whose_server_app_was_killed_ends_in_the_bytes_of_the_simulation(
    network, study: Path, simulated: Simulated
) -> None:
    cut = network.run(study)
    while not isinstance(read_events(study / JOURNAL)[-1], VisitLeased):
        assert cut.process.poll() is None
        time.sleep(0.05)
    network.kill_loop(study)
    cut.process.kill()
    log = network.run(study).log()
    assert digests(state_of(study)) == simulated.digests, log
    assert len(read_events(study / JOURNAL)) == num_events(2) + 1  # and started
    assert "visit 2 at bmc: segmenter 2/2" in log


def test_what_went_wrong_at_a_site_leaves_it_as_a_number(
    network, study: Path, simulated: Simulated
) -> None:
    named = simulated.data / "runmc" / "imagesTr" / "doe_jane_1970-01-01_0000.nii.gz"
    named.write_bytes(b"torn")
    log = network.run(study).log()
    named.unlink()
    assert "site 'runmc' could not carry out its evaluation order of visit 0 (status 4" in log
    assert "doe_jane" not in log
    assert network.runs()[-1][1] == "finished:failed"


def test_a_bundle_that_shadows_the_package_is_refused(network, study: Path, tmp_path: Path) -> None:
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


def _changed_when_free(study: StudyInFolder, change: Change) -> StudyStatus:
    """Change a study when the process of the run that was stopped has let go of it."""
    while True:
        try:
            return study.change(change)
        except JournalError as in_use:
            if "in use" not in str(in_use):
                raise
            time.sleep(0.2)


def test_a_study_is_changed_when_its_run_was_stopped(network, authority, tmp_path: Path) -> None:
    study = tiny_study(tmp_path / "study", "hk")
    waiting = network.run(study)
    wait_for(waiting.file, "waiting for site hk: no SuperNode of that name is online")
    network.stop(network.runs()[-1][0])
    waiting.process.wait()
    own = read_credentials(authority.issue(Role.OPERATOR, "anna"))
    in_folder = StudyInFolder(study, own, a_plan().study_id)
    assert _changed_when_free(in_folder, Stop()).standing is Standing.STOPPED
    assert "study six is stopped" in network.run(study).log()


@pytest.mark.skipif(not flower.NGINX, reason="the reverse proxy of docs/flower.md is an nginx")
@pytest.mark.parametrize("path", ["/v1/control/list-runs", "/v1/runtime/acquire-task", "/health"])
def test_the_recipe_exposes_the_path_of_the_sites_alone(network, path: str) -> None:
    method = None if path == "/health" else b""
    assert network.status_of(network.exposed, path, method) == 403
    assert network.status_of(network.address, path, method) not in (0, 403, 404)
    assert network.status_of(network.exposed, "/v1/fleet/activate-node", b"") not in (0, 403, 404)


def test_a_study_goes_on_when_a_killed_supernode_is_back(killed: Killed, tmp_path: Path) -> None:
    plan = a_plan("ucl")
    with open_study(tmp_path / "study", plan, MANIFEST, GENESIS) as relay:
        sites = {"ucl": TinySite(plan, "ucl", tmp_path / "ucl")}
        expected = digests(run(relay, InProcessEngine(sites, relay)))
    log = killed.run.log()
    assert digests(state_of(killed.study)) == expected, log
    assert len(read_events(killed.study / JOURNAL)) == num_events(1)
    assert "its SuperNode went away; the order is sent again" in log


@pytest.fixture(scope="module")
def runtime(tmp_path_factory, authority) -> Iterator:
    """A SuperLink with Flower's simulation runtime."""
    with flower.simulation_runtime(tmp_path_factory.mktemp("runtime"), authority) as started:
        yield started


def test_flwr_run_in_the_simulation_runtime_ends_in_the_same_bytes(
    runtime, study: Path, simulated: Simulated
) -> None:
    log = runtime.run(study, bundle.SIMULATION, data=simulated.data).log()
    assert digests(state_of(study)) == simulated.digests, log
    assert len(read_events(study / JOURNAL)) == num_events(2) + 1
    assert "visit 2 at bmc: segmenter 2/2" in log
    assert runtime.runs()[-1][1] == "finished:completed"


def test_what_flwr_run_began_simulate_ends_in_the_same_bytes(
    runtime, study: Path, tmp_path: Path, simulated: Simulated
) -> None:
    cut = runtime.run(study, bundle.SIMULATION, data=simulated.data)
    while len(read_events(study / JOURNAL)) < 5:
        assert cut.process.poll() is None
        time.sleep(0.05)
    runtime.kill_loop(study)
    cut.process.kill()
    assert not state_of(study).is_complete
    plan = tmp_path / "plan.toml"
    here = Simulation(data_root=str(simulated.data))
    text = plan_text.write(simulated.plan.model_copy(update={"simulation": here}), heading="")
    plan.write_text(text, encoding="utf-8")
    words = [*flower.WARDROUND, "simulate", str(plan), "--engine", "flower", "--out", str(study)]
    words += ["--resume", "--quiet", "--no-pictures"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    assert digests(state_of(study)) == simulated.digests
    assert json.loads((study / "report.json").read_text())["engine"] == "flower"
