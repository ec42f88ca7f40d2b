"""A coordinator and its sites as real processes over loopback with mutual TLS.

Killed anywhere and started again, a study ends in the bytes that the in-process engine gives. The
sites "train" by arithmetic on a few numbers (those of test_resume.py), but for one study with real
networks. This file is also the program that such a site's process runs: see the end.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wardround.deploy import plan_text
from wardround.deploy.cli_relay import CONTACT
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.deploy.own_site import trail_of
from wardround.server.journal import read_events
from wardround.server.loop import run
from wardround.server.state import StudyState, fold
from wardround.server.study_folder import JOURNAL
from wardround.shared import plan as plans
from wardround.shared.checkpoint import chunks_of
from wardround.shared.connection import Connection
from wardround.shared.identity import Role, read_credentials
from wardround.site_client import dial
from wardround.site_client.dial import work
from wardround.site_client.privacy.approval import approve_in_simulation
from wardround.site_client.privacy.policy import POLICY_FILE

SITES = ["runmc", "bmc", "hk", "i2cvb", "ucl", "bidmc"]
NUM_EVENTS = 1 + 6 * 7 + 6 * 2 + 1
WARDROUND = [sys.executable, "-m", "wardround.deploy.cli"]


def _load(name: str):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = _load("test_resume")


def a_plan(steps: int = 2) -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "six",
            "sites": SITES,
            "task": {"classes": ["organ"], "working_size": [16, 16]},
            "segmenter": {"features": [4, 8], "steps": steps, "batch_size": 2},
            "denoiser": {
                "channels": [16, 16],
                "prompt_tokens": 2,
                "prompt_width": 8,
                "first_steps": steps,
                "steps": steps,
                "batch_size": 2,
                "timesteps": 10,
                "sampling_steps": 2,
            },
            "replay": {"samples_per_site": 2},
            "compute": {"threads": 1},
            "simulation": {"mock": 4},
        },
        origin="test",
    )


def digests(state: StudyState) -> list[str]:
    return [checkpoint.digest for checkpoint in state.checkpoints]


def state_of(folder: Path) -> StudyState:
    state = fold(read_events(folder / JOURNAL))
    assert state is not None
    return state


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
    with open_study(tmp_path / "study", plan, tiny.MANIFEST, tiny.GENESIS):
        pass

    def words(site_id: str) -> list[str]:
        return [sys.executable, __file__, "--plan", str(tmp_path / "plan.toml")]

    with processes(tmp_path, authority, words) as started:
        yield started


@pytest.fixture
def expected(tmp_path: Path) -> list[str]:
    """The digests that the in-process engine gives for the same plan."""
    plan, folder = a_plan(), tmp_path / "in-process"
    folder.mkdir()
    sites = {site_id: tiny._TinySite(plan, site_id, folder / site_id) for site_id in SITES}
    with open_study(folder / "study", plan, tiny.MANIFEST, tiny.GENESIS) as relay:
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
    with open_study(tmp_path / "study", plan, tiny.MANIFEST, tiny.GENESIS):
        pass
    own = read_credentials(authority.issue(Role.SITE, "runmc"))
    with processes(tmp_path, authority, lambda site_id: []) as started:
        running = [started.coordinator()]

        def restart() -> None:
            running[-1].kill()
            running[-1].wait()
            running.append(started.coordinator())

        site = _Restarting(tiny._TinySite(plan, "runmc", tmp_path / "work"), restart)
        with Connection(f"127.0.0.1:{started.port}", own) as connection:
            work(connection, own, site, site_id="runmc", plan=plan, manifest=tiny.MANIFEST)
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
    # Here and not above, for the tiny sites' processes are not to wait for torch.
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


class _SuicidalLink:
    """A link whose process kills itself at one call, before or after it."""

    def __init__(self, link, moment: str) -> None:
        self._link, self._moment = link, moment

    def trail_head(self):
        return self._link.trail_head()

    def fetch(self, part):
        for chunk in self._link.fetch(part):
            self.die_at("fetch")
            yield chunk

    def progress(self, message):
        self._link.progress(message)
        self.die_at("train")

    def deliver(self, announcement, part_name, data):
        def some(*arguments):
            for number, chunk in enumerate(chunks_of(*arguments)):
                if number:  # the first one is on its way
                    self.die_at("deliver")
                yield chunk

        dial.chunks_of = some
        self._link.deliver(announcement, part_name, data)

    def commit(self, report, upload):
        self.die_at("commit")
        self._link.commit(report, upload)
        self.die_at("committed")

    def evaluated(self, report):
        self._link.evaluated(report)

    def die_at(self, moment: str) -> None:
        if moment == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)


class _SuicidalSite:
    """Visits with a link that kills; evaluates with one that does not."""

    def __init__(self, site, moment: str) -> None:
        self._site, self._moment = site, moment

    def visit(self, order, link):
        suicidal = _SuicidalLink(link, self._moment)
        suicidal.die_at("leased")
        self._site.visit(order, suicidal)

    def evaluate(self, order, link):
        self._site.evaluate(order, link)


def main(words: list[str]) -> None:
    """Be a tiny site; the options are those of `wardround site start`, with --plan for STUDY."""
    given = dict(zip(words[::2], words[1::2], strict=True))
    plan, site_id = plans.load(Path(given["--plan"])), given["--site"]
    site = tiny._TinySite(plan, site_id, Path(given["--workspace"]))
    gateway = _SuicidalSite(site, os.environ.get("KILL_AT", ""))
    credentials = read_credentials(Path(given["--credentials"]))
    with Connection(given["--coordinator"], credentials) as connection:
        work(
            connection,
            credentials,
            gateway,
            site_id=site_id,
            plan=plan,
            manifest=tiny.MANIFEST,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
