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
from threading import Event

from wardround.deploy import plan_text
from wardround.deploy.flower import SWITCHES, bundle
from wardround.deploy.flower.keys import public_key
from wardround.deploy.own_site import trail_of
from wardround.server.study_folder import JOURNAL
from wardround.shared.identity import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Role
from wardround.site_client.privacy.approval import approve_in_simulation
from wardround.site_client.privacy.policy import POLICY_FILE

NGINX = shutil.which("nginx")
BIN = Path(sys.executable).parent
WARDROUND = [sys.executable, "-m", "wardround.deploy.cli"]
TINY_PROGRAM = """#!{python}
import sys
sys.path.insert(0, {folder!r})
import flower_tiny_site
flower_tiny_site.main({digest!r})
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
    """

    def __init__(self, folder: Path, authority) -> None:
        self.folder, self._authority = folder, authority
        self._started: list[subprocess.Popen[bytes]] = []
        self._num_runs = 0
        self._ports = {"superlink": free_port(), "proxy": free_port()}
        self._site_words: dict[str, list[str]] = {}
        self.sites: dict[str, subprocess.Popen[bytes]] = {}
        self._hub = authority.issue(Role.COORDINATOR, "hub")
        (folder / "config.toml").write_text(
            f'[superlink.test]\naddress = "{self.address}"\n'
            f'root-certificates = "{self._hub / CA_FILE}"\n'
        )

    def start_superlink(self, *more: str) -> None:
        hub = self._hub
        self.superlink = self._start(
            *("flower-superlink", "--host", "127.0.0.1", "--port", str(self._ports["superlink"])),
            *("--ssl-ca-certfile", str(hub / CA_FILE), "--ssl-keyfile", str(hub / KEY_FILE)),
            *("--ssl-certfile", str(hub / CERTIFICATE_FILE), *more),
        )
        while self.status_of(self.address, "/health") != 200:
            assert self.superlink.poll() is None
            time.sleep(0.1)

    def register(self, *site_ids: str) -> None:
        """Tell the SuperLink the keys of sites, all at once."""
        registering = [self._register(site_id) for site_id in site_ids]
        assert [process.wait() for process in registering] == [0] * len(site_ids)

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

    def start_site(self, site_id: str, plan, data: Path) -> None:
        """Start the SuperNode of a site that approved a plan."""
        plan_file = self.folder / f"{site_id}.toml"
        plan_file.write_text(plan_text.write(plan, heading=""), encoding="utf-8")
        self.workspace(site_id).mkdir(parents=True, exist_ok=True)
        (self.workspace(site_id) / POLICY_FILE).write_text('network = "open"\n')
        approve_in_simulation(trail_of(site_id, self.workspace(site_id)), plan)
        self._site_words[site_id] = [
            *(*WARDROUND, "flower", "site", str(plan_file), "--site", site_id),
            *("--data", str(data), "--workspace", str(self.workspace(site_id))),
            *("--credentials", str(self._authority.issue(Role.SITE, site_id))),
            *("--superlink", self.exposed, "--port", str(free_port())),
        ]
        self.sites[site_id] = self._start(*self._site_words[site_id])

    def start_tiny_site(self, site_id: str, plan) -> None:
        """Start a SuperNode that carries orders out by arithmetic, under the same guard."""
        self.start_site(site_id, plan, self.folder)
        self._make_tiny(site_id)

    def kill_site(self, site_id: str) -> None:
        """Kill a SuperNode; the programs it has started find that out by themselves."""
        self.sites[site_id].kill()
        self.sites[site_id].wait()

    def keep_tiny_site(self, site_id: str, until: Event) -> None:
        """Start a tiny site's SuperNode again whenever it has ended, as a service manager does."""
        while not until.wait(0.5):
            if self.sites[site_id].poll() is not None:
                (self.workspace(site_id) / "flower" / "site.toml").unlink()
                self.sites[site_id] = self._start(*self._site_words[site_id])
                self._make_tiny(site_id)

    def run(self, study: Path, app: Path = bundle.FOLDER, **config: Path) -> "Run":
        """Submit a run; the process writes its log and ends with it."""
        settings = " ".join(f'{key}="{path}"' for key, path in {"study": study, **config}.items())
        words = ["flwr", "run", str(app), "test", "--stream", "--run-config", settings]
        self._num_runs += 1
        log = self.folder / f"run-{self._num_runs}.log"
        with log.open("wb") as file:
            return Run(self._start(*words, stdout=file, stderr=subprocess.STDOUT), log)

    def runs(self) -> list[tuple[str, str]]:
        """Return number and status of every run so far, oldest first."""
        done = self._flwr("ls", "test", "--format", "json", stdout=subprocess.PIPE)
        answer, _ = done.communicate()
        runs = sorted(json.loads(answer)["runs"], key=lambda run: run["pending-at"])
        return [(run["run-id"], run["status"]) for run in runs]

    def stop(self, run_id: str) -> None:
        """Stop a run as an operator does."""
        assert self._flwr("stop", run_id, "test").wait() == 0

    def kill_loop(self, study: Path) -> None:
        """Kill the process that runs a study's loop, as lack of memory would."""
        for process in descendants(self.superlink.pid):
            if str(study / JOURNAL) in open_files(process):
                os.kill(process, signal.SIGKILL)
                return
        raise AssertionError("no process has the journal of that study")

    def close(self) -> None:
        for process in reversed(self._started):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _register(self, site_id: str) -> subprocess.Popen[bytes]:
        credentials = self._authority.issue(Role.SITE, site_id)
        name, text = public_key((credentials / CERTIFICATE_FILE).read_bytes())
        file = self.folder / f"{name}.pub"
        file.write_text(text)
        return self._flwr("supernode", "register", str(file), "test", "--name", name)

    def _make_tiny(self, site_id: str) -> None:
        flower = self.workspace(site_id) / "flower"
        while not (flower / "site.toml").exists():  # what is written last
            assert self.sites[site_id].poll() is None
            time.sleep(0.05)
        (flower / "programs" / "flwr-clientapp").write_text(
            TINY_PROGRAM.format(
                python=sys.executable,
                folder=str(Path(__file__).parent),
                digest=bundle.digest(),
            )
        )

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

    def expose_the_fleet_path(self) -> None:
        """Start nginx, where there is one, with the server that docs/flower.md recommends."""
        if not NGINX:
            return
        text = (Path(__file__).parents[2] / "docs" / "flower.md").read_text(encoding="utf-8")
        server = text.split("<!-- nginx -->\n```nginx\n")[1].split("```\n<!-- /nginx -->")[0]
        server = server.replace("/etc/wardround", str(self._hub))
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
        quick = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2"}  # a second by itself
        return {**os.environ, **SWITCHES, **quick, "PATH": path, "FLWR_HOME": str(self.folder)}

    def _flwr(self, *words: str, **more) -> subprocess.Popen[bytes]:
        return self._start("flwr", *words, **{"stdout": subprocess.DEVNULL, **more})

    def _start(self, *words: str, **more) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(words, env=self._environment(), start_new_session=True, **more)
        self._started.append(process)
        return process


@contextmanager
def network(folder: Path, authority, *site_ids: str) -> Iterator[Network]:
    """Give a federation whose SuperLink is up and knows the sites' keys."""
    with _opened(folder, authority) as started:
        started.start_superlink("--enable-supernode-auth")
        started.expose_the_fleet_path()
        started.register(*site_ids)
        yield started


@contextmanager
def simulation_runtime(folder: Path, authority) -> Iterator[Network]:
    """Give a SuperLink that runs what it is given in Flower's simulation runtime."""
    with _opened(folder, authority) as started:
        started.start_superlink("--simulation")
        yield started


@contextmanager
def _opened(folder: Path, authority) -> Iterator[Network]:
    folder.mkdir(exist_ok=True)
    started = Network(folder, authority)
    try:
        yield started
    finally:
        started.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes under `pid`."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from descendants(int(child))


def open_files(pid: int) -> set[str]:
    """Return what a process has open."""
    return {str(link.resolve()) for link in Path(f"/proc/{pid}/fd").iterdir()}
