"""A coordinator and its sites as real processes over loopback with mutual TLS.

Killed anywhere and started again, a study ends in the bytes that the in-process engine gives. The
sites "train" by arithmetic on a few numbers (those of tiny_site.py), but for one study with real
networks.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import relay_tiny_site
from six_sites import SITES, a_plan
from study_state import digests, state_of
from tiny_site import GENESIS, MANIFEST, TinySite
from wardround.deploy import plan_text
from wardround.deploy.cli_relay import CONTACT
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.deploy.own_site import trail_of
from wardround.server.journal import read_events
from wardround.server.loop import run
from wardround.server.study_folder import JOURNAL
from wardround.shared.connection import Connection
from wardround.shared.identity import Role, read_credentials
from wardround.site_client.dial import work
from wardround.site_client.privacy.approval import approve_in_simulation
from wardround.site_client.privacy.policy import POLICY_FILE

NUM_EVENTS = 1 + 6 * 7 + 6 * 2 + 1
WARDROUND = [sys.executable, "-m", "wardround.deploy.cli"]


class Processes:
    """What a test has started; everything is ended with it."""

    def __init__(self, folder: Path, authority, sites: Callable[[str], list[str]]) -> None:
        self.folder, self._authority, self._sites = folder, authority, sites
        self.study = folder / "study"
        self.port = 0
        self._started: list[subprocess.Popen[str]] = []

    def coordinator(self) -> subprocess.Popen[str]:
        words = [*WARDROUND, "coordinator", "serve", str(self.study), "--credentials"]
        words += [str(self._authority.issue(Role.COORDINATOR, "hub"))]
        words += ["--listen", f"127.0.0.1:{self.port}"]
        process = self._start(words, stdout=subprocess.PIPE)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on port "), line
        self.port = int(line.split()[-1])
        return process

    def site(self, site_id: str, **environment: str) -> subprocess.Popen[str]:
        words = [*self._sites(site_id), "--site", site_id]
        words += ["--workspace", str(self.folder / "work" / site_id)]
        words += ["--credentials", str(self._authority.issue(Role.SITE, site_id))]
        words += ["--coordinator", f"127.0.0.1:{self.port}"]
        return self._start(words, env={**os.environ, **environment})

    def wait_for(self, num_events: int) -> None:
        """Wait until the journal has that many lines."""
        while (self.study / JOURNAL).read_bytes().count(b"\n") < num_events:
            assert all(process.poll() in (None, 0, -9) for process in self._started)
            time.sleep(0.01)

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _start(self, words: list[str], **more) -> subprocess.Popen[str]:
        process = subprocess.Popen(words, text=True, **more)
        self._started.append(process)
        return process


@contextmanager
def processes(folder: Path, authority, sites: Callable[[str], list[str]]) -> Iterator[Processes]:
    started = Processes(folder, authority, sites)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def tiny_study(tmp_path: Path, authority) -> Iterator[Processes]:
    """A study of six tiny sites that was created and not yet served."""
    plan = a_plan()
    (tmp_path / "plan.toml").write_text(plan_text.write(plan, heading=""), encoding="utf-8")
    (tmp_path / "work").mkdir()
    with open_study(tmp_path / "study", plan, MANIFEST, GENESIS):
        pass

    def words(site_id: str) -> list[str]:
        return [sys.executable, relay_tiny_site.__file__, "--plan", str(tmp_path / "plan.toml")]

    with processes(tmp_path, authority, words) as started:
        yield started


@pytest.fixture
def expected(tmp_path: Path) -> list[str]:
    """The digests that the in-process engine gives for the same plan."""
    plan, folder = a_plan(), tmp_path / "in-process"
    folder.mkdir()
    sites = {site_id: TinySite(plan, site_id, folder / site_id) for site_id in SITES}
    with open_study(folder / "study", plan, MANIFEST, GENESIS) as relay:
        return digests(run(relay, InProcessEngine(sites, relay)))


@pytest.mark.slow
def test_six_sites_over_the_network_end_in_the_bytes_of_the_in_process_engine(
    tiny_study: Processes, expected: list[str]
) -> None:
    coordinator = tiny_study.coordinator()
    sites = [tiny_study.site(site_id) for site_id in SITES]

    assert [site.wait() for site in sites] == [0] * 6
    assert coordinator.wait() == 0
    assert digests(state_of(tiny_study.study)) == expected
    assert len(read_events(tiny_study.study / JOURNAL)) == NUM_EVENTS


@pytest.mark.slow
def test_a_coordinator_killed_again_and_again_goes_on_to_the_same_bytes(
    tiny_study: Processes, expected: list[str]
) -> None:
    coordinator = tiny_study.coordinator()
    sites = [tiny_study.site(site_id) for site_id in SITES]
    for num_events in (4, 9, 23, 40):
        tiny_study.wait_for(num_events)
        coordinator.send_signal(signal.SIGKILL)
        coordinator.wait()
        coordinator = tiny_study.coordinator()

    assert [site.wait() for site in sites] == [0] * 6
    assert coordinator.wait() == 0
    assert digests(state_of(tiny_study.study)) == expected


class _Restarting:
    """A site that has the coordinator killed and started again in the middle of each order."""

    def __init__(self, site, restart: Callable[[], object]) -> None:
        self._site, self._restart = site, restart
        self.num_visits = 0

    def visit(self, order, link):
        self.num_visits += 1
        self._restart()
        self._site.visit(order, link)

    def evaluate(self, order, link):
        self._restart()
        self._site.evaluate(order, link)


def test_a_visit_goes_on_when_the_coordinator_is_started_anew_meanwhile(
    tmp_path: Path, authority
) -> None:
    """The lease of the earlier coordinator is stale, but the same order is still due."""
    plan = a_plan().model_copy(update={"sites": ("runmc",)})
    with open_study(tmp_path / "study", plan, MANIFEST, GENESIS):
        pass
    own = read_credentials(authority.issue(Role.SITE, "runmc"))
    with processes(tmp_path, authority, lambda site_id: []) as started:
        running = [started.coordinator()]

        def restart() -> None:
            running[-1].kill()
            running[-1].wait()
            running.append(started.coordinator())

        site = _Restarting(TinySite(plan, "runmc", tmp_path / "work"), restart)
        with Connection(f"127.0.0.1:{started.port}", own) as connection:
            work(connection, own, site, site_id="runmc", plan=plan, manifest=MANIFEST)
        assert running[-1].wait() == 0
    assert site.num_visits == 1
    assert len(running) == 4
    assert state_of(tmp_path / "study").is_complete


@pytest.mark.slow
def test_a_site_killed_in_mid_visit_is_started_again_to_the_same_bytes(
    tiny_study: Processes, expected: list[str]
) -> None:
    """It kills itself at every state: with its order, in a download, in training, in an upload,
    before and after its commit.
    """
    coordinator = tiny_study.coordinator()
    others = [tiny_study.site(site_id) for site_id in SITES[1:]]
    for moment in ("leased", "fetch", "train", "deliver", "commit", "committed"):
        assert tiny_study.site("runmc", KILL_AT=moment).wait() == -signal.SIGKILL
    last = tiny_study.site("runmc")

    assert [site.wait() for site in (*others, last)] == [0] * 6
    assert coordinator.wait() == 0
    assert digests(state_of(tiny_study.study)) == expected


@pytest.mark.slow
def test_a_study_with_real_networks_ends_in_the_bytes_of_the_in_process_engine(
    tmp_path: Path, authority
) -> None:
    # Here and not above, for the other tests do without torch.
    from wardround.deploy import simulate as simulation
    from wardround.deploy.progress import watching
    from wardround.deploy.site_folders import Places

    plan, mock = a_plan(), tmp_path / "mock"
    places = Places(study_dir=tmp_path, data=None, variable=None, working_dir=tmp_path)
    options = simulation.Options(
        out=tmp_path / "whole", places=places, mock_dir=mock, has_pictures=False
    )
    with watching("quiet", plan, sys.stderr) as watcher:
        report = simulation.simulate(plan, options, watcher)
    file = tmp_path / "plan.toml"
    file.write_text(plan_text.write(plan, heading=""), encoding="utf-8")
    create = [*WARDROUND, "study", "create", str(file), "--out", str(tmp_path / "study")]
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL)

    def words(site_id: str) -> list[str]:
        data, workspace = str(mock / "mock-4" / site_id), tmp_path / "work" / site_id
        workspace.mkdir(parents=True)
        (workspace / POLICY_FILE).write_text('network = "open"\n')
        approve_in_simulation(trail_of(site_id, workspace), plan)
        return [*WARDROUND, "site", "start", str(file), "--data", data]

    with processes(tmp_path, authority, words) as started:
        coordinator = started.coordinator()
        sites = [started.site(site_id) for site_id in SITES]

        assert [site.wait() for site in sites] == [0] * 6
        assert coordinator.wait() == 0
        assert digests(state_of(started.study)) == [c.digest for c in report.checkpoints]
    assert all((tmp_path / "work" / site_id / CONTACT).exists() for site_id in SITES)
