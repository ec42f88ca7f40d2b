"""The study's journal: JSON lines that are only ever appended, each chained to the one before.

A line is on the disk before anything acts on it. A write that was cut short can only harm the last
line, which is dropped when the journal is opened; a fault anywhere else is an error, never mended.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wardround.server import events
from wardround.server.events import Event
from wardround.shared.errors import JournalError
from wardround.shared.files import fsync_folder

NO_LINE = "0" * 64
_KEYS = {"seq", "at", "previous", "event", "check"}


class Journal:
    """A journal that is open for appending; no other process can open it meanwhile.

    Args:
        path: The file; made when it does not exist, its folder must exist.
        clock: Returns the time noted with each event, in UTC.

    Raises:
        JournalError: It is open elsewhere, cannot be opened, or a line before the last is faulty.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.path = path
        self._clock = clock
        self._file = _open_locked(path)
        try:
            lines = _read(path, path.read_bytes())
            os.ftruncate(self._file, lines.size_bytes)
            os.fsync(self._file)
            fsync_folder(path.parent)
        except BaseException:
            os.close(self._file)
            raise
        self._events = list(lines.events)
        self._checks = list(lines.checks)
        self._size_bytes = lines.size_bytes
        self._is_open = True

    @property
    def events(self) -> tuple[Event, ...]:
        """Return every event, oldest first."""
        return tuple(self._events)

    @property
    def checks(self) -> tuple[str, ...]:
        """Return the check sum of each event's line."""
        return tuple(self._checks)

    def append(self, event: Event) -> None:
        """Add an event; when this returns, it is on the disk.

        Raises:
            JournalError: It could not be written. The journal then is as it was, and closed.
        """
        if not self._is_open:
            raise JournalError(f"journal '{self.path}' is closed. Open it again to append.")
        previous = self._checks[-1] if self._checks else NO_LINE
        line, check = _line(len(self._events) + 1, self._clock(), previous, event)
        try:
            _write_all(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            self._take_back()
            raise JournalError(
                f"journal '{self.path}' cannot be written: {error.strerror}. "
                f"Make room on the disk and resume the study."
            ) from error
        self._events.append(event)
        self._checks.append(check)
        self._size_bytes += len(line)

    def close(self) -> None:
        """Let other processes open the journal."""
        if self._is_open:
            self._is_open = False
            os.close(self._file)

    def __enter__(self) -> Self:
        """Return the open journal."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _take_back(self) -> None:
        # If this fails too, opening the journal drops the torn line.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._size_bytes)
        self.close()


def read_events(path: Path) -> tuple[Event, ...]:
    """Return the events of a journal that may be in use; a torn last line is left out.

    Raises:
        JournalError: It cannot be read, or a line before the last is faulty.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JournalError(
            f"journal '{path}' cannot be read: {error.strerror}. Name the folder of a study."
        ) from error
    return _read(path, data).events


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    events: tuple[Event, ...]
    checks: tuple[str, ...]
    size_bytes: int  # up to the end of the last whole line


def _read(path: Path, data: bytes) -> _Lines:
    read: list[Event] = []
    checks: list[str] = []
    previous, start = NO_LINE, 0
    while start < len(data):
        end = data.find(b"\n", start) + 1
        content = _checked(data[start : end - 1]) if end else None
        if content is None:
            if end and end < len(data):
                raise _faulty(path, len(read) + 1, "its content does not give its check sum")
            break
        if content["seq"] != len(read) + 1 or content["previous"] != previous:
            raise _faulty(path, len(read) + 1, "it does not follow on the line before it")
        try:
            read.append(events.from_json(content["event"]))
        except JournalError as error:
            raise _faulty(path, len(read) + 1, str(error)) from error
        previous, start = content["check"], end
        checks.append(previous)
    return _Lines(events=tuple(read), checks=tuple(checks), size_bytes=start)


def _checked(line: bytes) -> dict[str, Any] | None:
    """Return a line's content if it is whole: of our form and with the right check sum."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or set(content) != _KEYS:
        return None
    check = content["check"]
    rest = {key: value for key, value in content.items() if key != "check"}
    try:
        whole = line == _spelled(content) and check == _check_of(rest)
    except (ValueError, UnicodeEncodeError):
        return None
    return content if whole else None


def _line(seq: int, at: datetime, previous: str, event: Event) -> tuple[bytes, str]:
    rest = {
        "seq": seq,
        "at": at.isoformat(timespec="milliseconds"),
        "previous": previous,
        "event": events.to_json(event),
    }
    check = _check_of(rest)
    return _spelled({**rest, "check": check}) + b"\n", check


def _check_of(rest: dict[str, Any]) -> str:
    return hashlib.sha256(_spelled(rest)).hexdigest()


def _spelled(content: dict[str, Any]) -> bytes:
    return events.canonical(content).encode()


def _open_locked(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise JournalError(
            f"journal '{path}' cannot be opened: {error.strerror}. "
            f"Name a folder that exists and can be written."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise JournalError(
            f"journal '{path}' is in use by another process. "
            f"Wait for it to end or stop it; two coordinators cannot run one study."
        ) from error
    return file


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _faulty(path: Path, number: int, why: str) -> JournalError:
    return JournalError(
        f"journal '{path}', line {number}: {why.rstrip('.')}. "
        f"A journal is never edited; restore it from a copy."
    )
