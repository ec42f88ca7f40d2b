"""A Flower federation as real processes: a SuperLink, and sites by `wardround flower site`.

TLS everywhere, SuperNode authentication on, all with the credentials of a study network.
"""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wardround.deploy import plan_text
from wardround.deploy.flower import SWITCHES, bundle
from wardround.deploy.flower.keys import public_key
from wardround.shared.identity import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Role

BIN = Path(sys.executable).parent
WARDROUND = [sys.executable, "-m", "wardround.deploy.cli"]
TINY_PROGRAM = """#!{python}
import importlib.util
spec = importlib.util.spec_from_file_location("flower_tiny_site", {file!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.main({digest!r})
"""


class Network:
    """What a test has started; everything is ended with it.

    Args:
        folder: For all files.
        authority: Issues the credentials.
        plan: Of the sites' studies; `places` names the data folder of each site.
    """

    def __init__(self, folder: Path, authority, plan, places: dict[str, Path]) -> None:
        self.folder, self.plan, self._authority, self._places = folder, plan, authority, places
        self.plan_file = folder / "plan.toml"
        self.plan_file.write_text(plan_text.write(plan, heading=""), encoding="utf-8")
        self._started: list[subprocess.Popen[bytes]] = []
        self._ports = {name: free_port() for name in ("superlink", *plan.sites)}
        self.sites: dict[str, subprocess.Popen[bytes]] = {}
        hub = authority.issue(Role.COORDINATOR, "hub")
        (folder / "config.toml").write_text(
            f'[superlink.test]\naddress = "{self.address}"\nroot-certificates = "{hub / CA_FILE}"\n'
        )
        self.superlink = self._start(
            *("flower-superlink", "--host", "127.0.0.1", "--port", str(self._ports["superlink"])),
            *("--ssl-ca-certfile", str(hub / CA_FILE), "--ssl-keyfile", str(hub / KEY_FILE)),
            *("--ssl-certfile", str(hub / CERTIFICATE_FILE), "--enable-supernode-auth"),
        )
        self._wait_until_healthy(hub / CA_FILE)
        for site_id in plan.sites:
            self._register(site_id)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._ports['superlink']}"

    def workspace(self, site_id: str) -> Path:
        return self.folder / "work" / site_id

    def start_site(self, site_id: str, *, is_tiny: bool) -> None:
        """Start a SuperNode; a tiny one carries orders out by arithmetic, under the same guard."""
        credentials = self._authority.issue(Role.SITE, site_id)
        workspace = self.workspace(site_id)
        node_config = workspace / "flower" / "site.toml"
        node_config.unlink(missing_ok=True)
        self.sites[site_id] = self._start(
            *(*WARDROUND, "flower", "site", str(self.plan_file), "--site", site_id),
            *("--data", str(self._places[site_id]), "--workspace", str(workspace)),
            *("--credentials", str(credentials), "--superlink", self.address),
            *("--port", str(self._ports[site_id])),
        )
        while not node_config.exists():
            assert self.sites[site_id].poll() is None
            time.sleep(0.05)
        if is_tiny:
            program = workspace / "flower" / "programs" / "flwr-clientapp"
            file = str(Path(__file__).with_name("flower_tiny_site.py"))
            program.write_text(
                TINY_PROGRAM.format(python=sys.executable, file=file, digest=bundle.digest())
            )

    def run(self, study: Path, app: Path = bundle.FOLDER) -> subprocess.Popen[bytes]:
        """Submit a run; the process shows its log and ends with it."""
        words = ["flwr", "run", str(app), "test", "--stream", "--run-config", f'study="{study}"']
        return self._start(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def status_of_runs(self) -> list[str]:
        """Return the status of every run so far, oldest first."""
        words = ["flwr", "ls", "test", "--format", "json"]
        done = subprocess.run(words, env=self._environment(), capture_output=True, check=True)
        runs = json.loads(done.stdout)["runs"]
        return [
            run["status"] for run in sorted(runs, key=lambda run: run["timestamps"]["pending-at"])
        ]

    def kill_server_app(self) -> None:
        """Kill the process that runs the study's loop, as lack of memory would."""
        for process, words in descendants(self.superlink.pid):
            if any(word.endswith("flwr-serverapp") for word in words):
                os.kill(process, signal.SIGKILL)
                return
        raise AssertionError("no ServerApp is running")

    def kill_site(self, site_id: str) -> None:
        """Kill a SuperNode; the programs it has started find that out by themselves."""
        self.sites[site_id].kill()
        self.sites[site_id].wait()

    def keep_site(self, site_id: str) -> None:
        """Start a killed SuperNode again where it has ended, as a service manager does."""
        if self.sites[site_id].poll() is not None:
            self.start_site(site_id, is_tiny=True)

    def close(self) -> None:
        for process in reversed(self._started):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _register(self, site_id: str) -> None:
        credentials = self._authority.issue(Role.SITE, site_id)
        name, text = public_key((credentials / CERTIFICATE_FILE).read_bytes())
        file = self.folder / f"{name}.pub"
        file.write_text(text)
        words = ["flwr", "supernode", "register", str(file), "test", "--name", name]
        subprocess.run(words, env=self._environment(), check=True, stdout=subprocess.DEVNULL)

    def _wait_until_healthy(self, authority: Path) -> None:
        trusted = ssl.create_default_context(cafile=str(authority))
        while True:
            assert self.superlink.poll() is None
            try:
                with urllib.request.urlopen(f"https://{self.address}/health", context=trusted):
                    return
            except urllib.error.URLError:
                time.sleep(0.1)

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(BIN), os.environ["PATH"]])
        quick = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05"}
        return {**os.environ, **SWITCHES, **quick, "PATH": path, "FLWR_HOME": str(self.folder)}

    def _start(self, *words: str, **more) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(words, env=self._environment(), start_new_session=True, **more)
        self._started.append(process)
        return process


@contextmanager
def network(folder: Path, authority, plan, places: dict[str, Path]) -> Iterator[Network]:
    started = Network.__new__(Network)
    started._started = []
    try:
        started.__init__(folder, authority, plan, places)
        yield started
    finally:
        started.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def descendants(pid: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the processes under `pid` with their command lines."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        yield int(child), [word.decode() for word in words]
        yield from descendants(int(child))
