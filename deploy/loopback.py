"""The gRPC engine of a simulation: a coordinator and a process per site on this machine.

What runs is what runs between machines, mutual TLS included; the certificates are of an authority
that lives as long as the run. This process starts the others, watches the study as its operator,
and ends them all; where it is killed itself, they end by themselves.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import SpawnProcess
from pathlib import Path

from wardround.deploy.own_site import run_site
from wardround.deploy.progress import Watcher
from wardround.deploy.study_client import StudyClient
from wardround.deploy.study_watch import follow
from wardround.deploy.throwaway import ThrowawayAuthority
from wardround.server import coordinator
from wardround.server.journal import read_events
from wardround.server.state import StudyState, fold
from wardround.server.study_folder import JOURNAL
from wardround.shared.errors import JournalError, WardroundError
from wardround.shared.identity import Credentials, Role, read_credentials
from wardround.shared.plan import StudyPlan
from wardround.shared.study_api import News

ENGINE = "grpc"
LOGS = "logs"
HOST = "127.0.0.1"
TO_END_S = 10.0  # for a process that was asked to end


def run(
    plan: StudyPlan,
    folders: Mapping[str, Path],
    out: Path,
    watcher: Watcher,
    *,
    memo: Path | None = None,
) -> StudyState:
    """Carry the study in `out` to its end, and return its final state.

    Args:
        plan: Its plan.
        folders: Site -> folder with its cases.
        out: The study's folder; each process writes its log under `out`/logs.
        watcher: Is told of the study.
        memo: Where the sites keep finished phases; each in its own workspace where left out.

    Raises:
        WardroundError: Whatever stopped one of the processes; the study can be resumed.
    """
    known = len(read_events(out / JOURNAL))
    (out / LOGS).mkdir(exist_ok=True)
    watcher.note(f"starting a coordinator and {len(folders)} sites, each a process of its own")
    with _credentials() as issued, _processes() as processes:
        hub = issued(Role.COORDINATOR, "coordinator")
        log = out / LOGS / "coordinator.log"
        processes.start(_be_coordinator, out, hub, log=log)
        address = f"{HOST}:{processes.hear_first()}"
        for site_id, data in folders.items():
            processes.start(
                _be_site,
                plan,
                site_id,
                data,
                out / "sites" / site_id,
                issued(Role.SITE, site_id),
                address,
                memo,
                log=out / LOGS / f"{site_id}.log",
            )
        own = issued(Role.OPERATOR, "simulation")
        with (
            StudyClient(address, own, plan.study_id, sleep=processes.sleep) as client,
            contextlib.suppress(_Served),
        ):
            follow(processes.while_all_live(client.watch(known)), watcher)
        processes.join()
    state = fold(read_events(out / JOURNAL))
    if state is None:
        raise JournalError(f"journal '{out / JOURNAL}' is empty. Run the study anew with --fresh.")
    return state


class _Served(Exception):
    """The coordinator has served the study to its end."""


class _Processes:
    """The processes of one run. Each has a pipe on which it says what ended it."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")  # threads do not outlive a fork
        self._started: list[tuple[SpawnProcess, Pipe]] = []

    def start(self, act: Callable[..., None], *arguments: object, log: Path) -> None:
        """Start a process that does `act`, given the arguments and its end of the pipe."""
        told, telling = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_live, args=(act, arguments, telling, log))
        with _without_interrupts():
            process.start()
        telling.close()
        self._started.append((process, told))

    def hear_first(self) -> object:
        """Return the first thing that the first process says.

        Raises:
            WardroundError: What ended it before it was ready.
        """
        process, told = self._started[0]
        try:
            said = told.recv()
        except EOFError:
            process.join()
            self._check()
            raise
        if isinstance(said, WardroundError):
            raise said
        return said

    def while_all_live(self, news: Iterator[News]) -> Iterator[News]:
        """Yield what comes, and raise what ended a process as soon as something comes after it."""
        for one in news:
            self._check()
            yield one

    def sleep(self, seconds: float) -> None:
        """Wait for the coordinator, while it may still answer.

        Raises:
            WardroundError: What ended a process.
            _Served: The coordinator has ended, and so has the study.
        """
        self._check()
        if not self._started[0][0].is_alive():
            raise _Served
        time.sleep(seconds)

    def join(self) -> None:
        """Wait until every process has ended; they do when the study has.

        Raises:
            WardroundError: What ended one of them.
        """
        for process, _ in self._started:
            process.join()
        self._check()

    def end(self) -> None:
        """End whatever still runs."""
        for process, _ in self._started:
            process.terminate()
        for process, told in self._started:
            process.join(TO_END_S)
            if process.is_alive():
                process.kill()
                process.join()
            told.close()
            process.close()

    def _check(self) -> None:
        for process, told in self._started:
            if process.exitcode:
                with contextlib.suppress(EOFError):
                    raise told.recv()
                raise WardroundError(
                    f"a process of the simulation ended with status {process.exitcode}. "
                    f"Look into the folder '{LOGS}' and go on with --resume."
                )


@contextmanager
def _processes() -> Iterator[_Processes]:
    processes = _Processes()
    try:
        yield processes
    finally:
        processes.end()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let a process that is started meanwhile hear no Ctrl-C: whoever started it will end it.

    The block is what it inherits. A Ctrl-C that comes meanwhile is heard here when this ends.
    """
    resource_tracker.ensure_running()  # where it had to start, it would take the block off again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _credentials() -> Iterator[Callable[[Role, str], Credentials]]:
    """Yield what issues credentials of an authority that is gone, with its keys, afterwards."""
    with tempfile.TemporaryDirectory(prefix="wardround-") as folder:
        authority = ThrowawayAuthority(Path(folder))
        yield lambda role, name: read_credentials(authority.issue(role, name))


def _live(
    act: Callable[..., None], arguments: tuple[object, ...], telling: Pipe, log: Path
) -> None:
    """Be one of the processes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(
        filename=log, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        act(*arguments, telling)
    except WardroundError as error:
        telling.send(error)
        raise SystemExit(error.exit_status) from None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _be_coordinator(study_dir: Path, own: Credentials, telling: Pipe) -> None:
    coordinator.serve(study_dir, own, f"{HOST}:0", on_listening=telling.send)


def _be_site(
    plan: StudyPlan,
    site_id: str,
    data: Path,
    workspace: Path,
    own: Credentials,
    address: str,
    memo: Path | None,
    _telling: Pipe,
) -> None:
    run_site(
        plan,
        site_id,
        data=data,
        workspace=workspace,
        credentials=own,
        coordinator=address,
        memo=memo,
    )
