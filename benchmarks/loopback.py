"""A study network on this machine for measuring: an authority, credentials, processes, memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from wardround.server.authority import Authority, init
from wardround.server.coordinator import serve
from wardround.shared.enrolment import install, make_request
from wardround.shared.identity import CA_FILE, Role, read_credentials

_processes = get_context("spawn")  # each process is as it would be on a machine of its own


def issue(root: Path, role: Role, name: str) -> Path:
    """Return a folder of new credentials of the authority under `root`, made where missing."""
    now, ca = datetime.now(UTC), root / "ca"
    authority = Authority(ca) if ca.exists() else init(ca, "loopback", now=now)
    hosts = ("127.0.0.1",) if role is Role.COORDINATOR else ()
    folder = root / name
    token = authority.invite(name, role, now=now, hosts=hosts)
    certificate = authority.approve(make_request(folder, role, name).read_bytes(), token, now=now)
    install(folder, certificate, now=now, authority=(ca / CA_FILE).read_bytes())
    return folder


@contextmanager
def running(target: Callable[..., None], *arguments: Any) -> Iterator[tuple[BaseProcess, Pipe]]:
    """Run `target(*arguments, pipe)` in a process of its own; yield it and the pipe's other end."""
    here, there = _processes.Pipe()
    process = _processes.Process(target=target, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        process.terminate()
        process.join()


def serve_study(study: Path, credentials: Path, pipe: Pipe) -> None:
    """Be the coordinator; send the port through `pipe`."""
    serve(study, read_credentials(credentials), "127.0.0.1:0", on_listening=pipe.send)


def resident_mib(pid: int | None) -> tuple[float, float]:
    """Return the memory a process holds and the most it has held, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    sizes = dict(line.split(":", 1) for line in lines)
    now, most = (int(sizes[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    return now, most
