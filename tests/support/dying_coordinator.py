"""The program of a coordinator that kills itself at one step, chosen beforehand.

It patches what it is made of, and is therefore a process of its own.
"""

import os
import signal
import sys
from pathlib import Path

from wardround.server import coordinator, journal
from wardround.server.incoming import Incoming
from wardround.server.journal import Journal
from wardround.server.store import ArtefactStore
from wardround.shared.identity import read_credentials


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_before(owner: type, name: str) -> None:
    setattr(owner, name, lambda *arguments, **options: _die())


def _die_after(owner: type, name: str) -> None:
    act = getattr(owner, name)

    def acts_and_dies(*arguments, **options):
        act(*arguments, **options)
        _die()

    setattr(owner, name, acts_and_dies)


def _die_at_an_event(how: str, kind: str) -> None:
    append, write_all = Journal.append, journal._write_all

    def tears(file: int, line: bytes) -> None:
        if how == "torn" and f'"{kind}"'.encode() in line:
            write_all(file, line[: len(line) // 2])
            _die()
        write_all(file, line)

    def appends(self, event) -> None:
        is_it = type(event).__name__ == kind
        if is_it and how == "append":
            _die()
        append(self, event)
        if is_it:
            _die()

    journal._write_all, Journal.append = tears, appends


def _die_between_chunks() -> None:
    read = ArtefactStore.read

    def stops(store, part, offset=0):
        for chunk in read(store, part, offset):
            yield chunk
            if part.name == "denoiser":
                _die()

    ArtefactStore.read = stops


def main(study: str, credentials: str, port: str, moment: str) -> None:
    """Be a coordinator that ends at `moment`."""
    match moment.split():
        case [how, kind]:
            _die_at_an_event(how, kind)
        case ["fetch"]:
            _die_between_chunks()
        case ["deliver"]:
            _die_after(Incoming, "write")
        case ["adopt"]:
            _die_before(ArtefactStore, "adopt")
        case ["adopted"]:
            _die_after(ArtefactStore, "adopt")
    coordinator.serve(
        Path(study),
        read_credentials(Path(credentials)),
        f"127.0.0.1:{port}",
        on_listening=lambda port: sys.stdout.write(f"{port}\n") and sys.stdout.flush(),
        poll_s=0.05,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
