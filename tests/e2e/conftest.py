"""Six hospitals and a coordinator in real containers, driven from outside as an operator would."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wardround.deploy import plan_text
from wardround.deploy import simulate as simulation
from wardround.deploy.progress import watching
from wardround.deploy.site_folders import Places
from wardround.server.journal import read_events
from wardround.server.state import StudyState, fold
from wardround.server.study_folder import JOURNAL
from wardround.shared import plan as plans

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "deploy/compose/docker-compose.yml"
SITES = ["runmc", "bmc", "i2cvb", "ucl", "bidmc", "hk"]
MOCK_CASES = 4
CONFIG = ["Image", "User", "Entrypoint", "Cmd", "Healthcheck", "StopSignal"]
HOST_CONFIG = [
    *("ReadonlyRootfs", "Tmpfs", "Privileged", "CapAdd", "CapDrop", "SecurityOpt"),
    *("NetworkMode", "Dns", "PortBindings", "ExtraHosts", "PidMode", "IpcMode", "RestartPolicy"),
]


def run(*words: str, **more) -> str:
    """Run a command and return what it prints; what it complains of is in the error."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _network(name: str, form: str) -> str:
    return run("docker", "network", "inspect", "--format", form, name).strip()


def _composes() -> list[str]:
    """Return the Composes that are installed, the one that `make` takes first."""
    named = os.environ.get("DOCKER_COMPOSE")
    words = [named] if named else ["docker compose", "docker-compose"]
    return [compose for compose in words if _answers(compose)]


def _answers(compose: str) -> bool:
    program, *more = compose.split()
    asked = (program, *more, "version")
    return bool(
        shutil.which(program)
        and subprocess.run(asked, capture_output=True, check=False).returncode == 0
    )


@pytest.fixture(scope="session")
def composes() -> list[str]:
    """Return the Composes that are installed, and have the images of this checkout built."""
    if shutil.which("docker") is None:
        pytest.skip("no Docker is installed, so nothing can be run in containers")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine answers, so nothing can be run in containers")
    composes = _composes()
    if not composes:
        pytest.skip("neither 'docker compose' nor 'docker-compose' is installed")
    run("make", "images", cwd=ROOT)  # what has not changed is not built again
    return composes


class Hospitals:
    """The containers of one study.

    Args:
        folder: What the compose files call WARDROUND_RUN.
        project: What all that Compose makes is named after.
        compose: `docker compose` or `docker-compose`.
    """

    def __init__(self, folder: Path, *, project: str, compose: str) -> None:
        self.folder = folder
        self.sites = SITES
        self._words = [*compose.split(), "--file", str(COMPOSE_FILE)]
        self.project = project
        self.environment = {
            **os.environ,
            "WARDROUND_RUN": str(folder),
            "COMPOSE_PROJECT_NAME": self.project,
            "DOCKER_COMPOSE": compose,
        }
        self._containers: dict[str, str] = {}

    def compose(self, *words: str) -> str:
        return run(*self._words, *words, env=self.environment)

    def container(self, service: str) -> str:
        if service not in self._containers:
            self._containers[service] = self.compose("ps", "--all", "--quiet", service).strip()
        return self._containers[service]

    def inspect(self, service: str, field: str):
        words = ("docker", "inspect", "--format", f"{{{{json {field}}}}}")
        return json.loads(run(*words, self.container(service)))

    def python(self, service: str, code: str, *words: str):
        """Run a program in a service's container; return what it prints, which is JSON."""
        inside = ("docker", "exec", "-i", self.container(service), "python3", "-", *words)
        return json.loads(run(*inside, input=code))

    def network(self, site: str) -> str:
        """Return the name of a site's own network."""
        return f"{self.project}_{site}"

    def container_as_made(self, service: str) -> dict[str, object]:
        """Return all that Compose asked the engine for when it made a service's container."""
        made = json.loads(run("docker", "inspect", self.container(service)))[0]
        config, host, mounts = made["Config"], made["HostConfig"], made["Mounts"]
        return {
            **{key: config.get(key) or None for key in CONFIG},
            **{key: host[key] or None for key in HOST_CONFIG},
            "networks": sorted(made["NetworkSettings"]["Networks"]),
            "mounts": sorted((m["Destination"], m["Source"], m["RW"]) for m in mounts),
        }

    def network_as_made(self, site: str) -> dict[str, object]:
        """Return all that Compose asked the engine for when it made a site's network."""
        made = json.loads(run("docker", "network", "inspect", self.network(site)))[0]
        return {key: made[key] for key in ("Driver", "Internal", "EnableIPv6", "Options")}

    def addresses(self, service: str) -> dict[str, str]:
        """Return network -> IPv4 address of a service's container."""
        networks = self.inspect(service, ".NetworkSettings.Networks")
        return {name: attached["IPAddress"] for name, attached in networks.items()}

    def gateways(self) -> list[str]:
        """Return the addresses at which this machine would be on each network."""
        networks = ["bridge", *map(self.network, self.sites)]
        field = "{{(index .IPAM.Config 0).Gateway}}"
        return [_network(name, field) for name in networks]

    def members(self, network: str) -> set[str]:
        """Return the containers that are attached to a network."""
        return set(json.loads(_network(network, "{{json .Containers}}")))

    def num_events(self) -> int:
        return self._journal().read_bytes().count(b"\n")

    def state(self) -> StudyState:
        state = fold(read_events(self._journal()))
        assert state is not None
        return state

    def wait_for(self, num_events: int) -> None:
        """Wait until the journal has that many lines."""
        while self.num_events() < num_events:
            for service in ("coordinator", *SITES):
                if service in self._containers:
                    assert self.inspect(service, ".State.ExitCode") in (0, 137), service
            time.sleep(0.2)

    def kill(self, service: str) -> None:
        run("docker", "kill", "--signal", "KILL", self.container(service))

    def start(self, service: str) -> None:
        run("docker", "start", self.container(service))

    def wait(self, service: str) -> int:
        """Wait until a service has ended; return its exit status."""
        return int(run("docker", "wait", self.container(service)))

    def disconnect(self, site: str) -> None:
        run("docker", "network", "disconnect", self.network(site), self.container(site))

    def connect(self, site: str) -> None:
        run("docker", "network", "connect", self.network(site), self.container(site))

    def _journal(self) -> Path:
        copy = self.folder / "journal-copy"
        run("docker", "cp", f"{self.container('coordinator')}:/study/{JOURNAL}", str(copy))
        return copy


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with study.toml and data/, and the same study simulated in simulated/."""
    folder = tmp_path_factory.mktemp("hospitals")
    plan = plans.parse(
        {
            "study_id": "six",
            "sites": SITES,
            "task": {"classes": ["organ"], "working_size": [16, 16]},
            "segmenter": {"features": [4, 8], "steps": 30, "batch_size": 2},
            "denoiser": {
                "channels": [16, 16],
                "prompt_tokens": 2,
                "prompt_width": 8,
                "first_steps": 30,
                "steps": 30,
                "batch_size": 2,
                "timesteps": 10,
                "sampling_steps": 2,
            },
            "replay": {"samples_per_site": 2},
            "compute": {"threads": 1},
            "simulation": {"mock": MOCK_CASES},
        },
        origin="test",
    )
    (folder / "study.toml").write_text(plan_text.write(plan, heading=""), encoding="utf-8")
    places = Places(study_dir=folder, data=None, variable=None, working_dir=folder)
    options = simulation.Options(
        out=folder / "simulated", places=places, mock_dir=folder / "mock", has_pictures=False
    )
    with watching("quiet", plan, sys.stderr) as watcher:
        simulation.simulate(plan, options, watcher)
    (folder / "mock" / f"mock-{MOCK_CASES}").rename(folder / "data")
    return folder


@pytest.fixture(scope="session")
def simulated(folder: Path) -> list[str]:
    """Return the digests of all checkpoints that the in-process engine gives."""
    state = fold(read_events(folder / "simulated" / JOURNAL))
    assert state is not None
    return [checkpoint.digest for checkpoint in state.checkpoints]


@pytest.fixture(scope="session")
def hospitals(composes: list[str], folder: Path) -> Iterator[Hospitals]:
    """Start a study whose last site is not there yet, so that it stands still before visit 1."""
    started = Hospitals(folder, project="wardround-e2e", compose=composes[0])
    started.compose("down", "--volumes")  # what a run that was cut may have left
    try:
        run(str(COMPOSE_FILE.with_name("prepare.sh")), env=started.environment)
        started.compose("up", "--detach", "coordinator", *SITES[:-1])
        started.wait_for(1 + len(SITES[:-1]))
        yield started
    finally:
        started.compose("down", "--volumes")


@pytest.fixture(scope="session")
def as_made(composes: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return what each Compose makes of the same files."""
    folder = tmp_path_factory.mktemp("nothing-is-run")
    services = ("coordinator", "study", SITES[0])
    found: dict[str, object] = {}
    for compose in composes:
        made = Hospitals(folder, project="wardround-made", compose=compose)
        try:
            made.compose("up", "--no-start", *services[1:])
            # 1.29 attaches a container to all of its networks only when it starts.
            made.compose("up", "--detach", "coordinator")
            found[compose] = {
                "containers": {name: made.container_as_made(name) for name in services},
                "networks": {site: made.network_as_made(site) for site in SITES},
            }
        finally:
            made.compose("down", "--volumes")
    return found
