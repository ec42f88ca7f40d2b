"""Processes on this machine for measuring, a coordinator among them, and the memory they hold."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from wardround.server.coordinator import serve
from wardround.shared.identity import read_credentials

_processes = get_context("spawn")  # each process is as it would be on a machine of its own


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


def processor_s(pid: int | None) -> float:
    """Return the seconds that a process, this one where None, has had of the processor."""
    # Linux numbers the clock of another process so; see clock_getcpuclockid(3).
    return time.process_time() if pid is None else time.clock_gettime(~pid << 3 | 2)
