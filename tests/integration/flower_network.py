"""A Flower federation as real processes: a SuperLink, and sites by `wardround flower site`.

TLS everywhere, SuperNode authentication on, all with the credentials of a study network.
"""

import getpass
import json
import os
import shutil
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
from dataclasses import dataclass
from pathlib import Path

from wardround.deploy import plan_text
from wardround.deploy.flower import SWITCHES, bundle
from wardround.deploy.flower.keys import public_key
from wardround.shared.identity import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Role

NGINX = shutil.which("nginx")
BIN = Path(sys.executable).parent
WARDROUND = [sys.executable, "-m", "wardround.deploy.cli"]
TINY_PROGRAM = """#!{python}
import importlib.util
spec = importlib.util.spec_from_file_location("flower_tiny_site", {file!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.main({digest!r})
"""


@dataclass
class Run:
    """A run that was submitted: the process that follows it, and the file it writes."""

    process: subprocess.Popen[bytes]
    file: Path

    def log(self) -> str:
        """Wait for the end and return the log."""
        self.process.wait()
        return self.file.read_text(encoding="utf-8")


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
        self._num_runs = 0
        self._ports = {name: free_port() for name in ("superlink", "proxy", *plan.sites)}
        self.sites: dict[str, subprocess.Popen[bytes]] = {}
        hub = authority.issue(Role.COORDINATOR, "hub")
        (folder / "config.toml").write_text(
            f'[superlink.test]\naddress = "{self.address}"\nroot-certificates = "{hub / CA_FILE}"\n'
        )

    def start_superlink(self) -> None:
        hub = self._authority.issue(Role.COORDINATOR, "hub")
        self.superlink = self._start(
            *("flower-superlink", "--host", "127.0.0.1", "--port", str(self._ports["superlink"])),
            *("--ssl-ca-certfile", str(hub / CA_FILE), "--ssl-keyfile", str(hub / KEY_FILE)),
            *("--ssl-certfile", str(hub / CERTIFICATE_FILE), "--enable-supernode-auth"),
        )
        self._wait_until_healthy()
        if NGINX:
            self._expose_the_fleet_path(hub)
        for site_id in self.plan.sites:
            self._register(site_id)

    @property
    def address(self) -> str:
        """Where the SuperLink listens."""
        return f"127.0.0.1:{self._ports['superlink']}"

    @property
    def exposed(self) -> str:
        """Where the sites dial: the reverse proxy, if there is one on this machine."""
        return f"127.0.0.1:{self._ports['proxy' if NGINX else 'superlink']}"

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
            *("--credentials", str(credentials), "--superlink", self.exposed),
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

    def run(self, study: Path, app: Path = bundle.FOLDER) -> "Run":
        """Submit a run; the process writes its log and ends with it."""
        words = ["flwr", "run", str(app), "test", "--stream", "--run-config", f'study="{study}"']
        self._num_runs += 1
        log = self.folder / f"run-{self._num_runs}.log"
        with log.open("wb") as file:
            return Run(self._start(*words, stdout=file, stderr=subprocess.STDOUT), log)

    def status_of_runs(self) -> list[str]:
        """Return the status of every run so far, oldest first."""
        words = ["flwr", "ls", "test", "--format", "json"]
        done = subprocess.run(words, env=self._environment(), capture_output=True, check=True)
        runs = json.loads(done.stdout)["runs"]
        return [run["status"] for run in sorted(runs, key=lambda run: run["pending-at"])]

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

    def _register(self, site_id: str) -> None:
        credentials = self._authority.issue(Role.SITE, site_id)
        name, text = public_key((credentials / CERTIFICATE_FILE).read_bytes())
        file = self.folder / f"{name}.pub"
        file.write_text(text)
        words = ["flwr", "supernode", "register", str(file), "test", "--name", name]
        subprocess.run(words, env=self._environment(), check=True, stdout=subprocess.DEVNULL)

    def status_of(self, address: str, path: str, data: bytes | None = None) -> int:
        """Return the HTTP status that a path at an address answers with, 0 for none."""
        ca_file = str(self._authority.issue(Role.COORDINATOR, "hub") / CA_FILE)
        trusted = ssl.create_default_context(cafile=ca_file)
        try:
            with urllib.request.urlopen(
                f"https://{address}{path}", data, context=trusted
            ) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            return 0

    def _wait_until_healthy(self) -> None:
        while self.status_of(self.address, "/health") != 200:
            assert self.superlink.poll() is None
            time.sleep(0.1)

    def _expose_the_fleet_path(self, hub: Path) -> None:
        """Start nginx with the server that docs/flower.md recommends."""
        text = (Path(__file__).parents[2] / "docs" / "flower.md").read_text(encoding="utf-8")
        server = text.split("<!-- nginx -->\n```nginx\n")[1].split("```\n<!-- /nginx -->")[0]
        server = server.replace("/etc/wardround", str(hub))
        server = server.replace("listen 443", f"listen 127.0.0.1:{self._ports['proxy']}")
        server = server.replace("127.0.0.1:8000", self.address)
        paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        own = "".join(f"{name}_temp_path {self.folder}/{name};\n" for name in paths)
        config = self.folder / "nginx.conf"
        config.write_text(
            f"daemon off; user {getpass.getuser()}; pid {self.folder}/nginx.pid;\n"
            "error_log stderr;\nevents {}\n"
            f"http {{ access_log off;\n{own}{server}}}\n"
        )
        proxy = self._start(NGINX, "-e", "stderr", "-c", str(config), "-p", str(self.folder))
        while self.status_of(self.exposed, "/") != 403:
            assert proxy.poll() is None
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
    """Give a federation whose SuperLink is up and knows the sites' keys."""
    started = Network(folder, authority, plan, places)
    try:
        started.start_superlink()
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
