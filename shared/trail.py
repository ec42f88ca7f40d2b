"""An audit trail on the disk: what happened here, line by line, each signed and chained.

A trail is a folder: `trail.jsonl`, its head `trail.head`, and the key that signs both, which is
made here and never leaves. Lines are only ever added; each is on the disk before what it tells of
may happen. Several processes may write one trail: each takes the file's lock for a line.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from wardround.shared import trail_lines
from wardround.shared.errors import TrailError
from wardround.shared.files import PRIVATE, fsync_folder, write_once
from wardround.shared.messages import Anchor
from wardround.shared.trail_lines import NO_LINE, Fact, Line, LineKind, Reading

LINES_FILE = "trail.jsonl"
HEAD_FILE = "trail.head"
KEY_FILE = "trail.key"
AUDIT = "audit"  # the folder of a trail, in that of a study or of a site


def _now() -> datetime:
    return datetime.now(UTC)


class Trail:
    """One holder's trail.

    Args:
        folder: Made, for its owner alone, with the first line.
        holder: Whose trail it is, such as "wardround://site/utrecht".
        clock: Returns the time of a line, in UTC.
    """

    def __init__(self, folder: Path, *, holder: str, clock: Callable[[], datetime] = _now) -> None:
        self.folder, self.holder = folder, holder
        self._clock = clock
        self._head = Anchor(seq=0, digest=NO_LINE)  # as far as this process has read
        self._size_bytes = 0

    def append(self, kind: LineKind, facts: Mapping[str, Fact]) -> Anchor:
        """Add a line; when this returns, it is on the disk.

        Args:
            kind: What it tells.
            facts: What it says of that: plain JSON, numbers finite, no content of any case.

        Returns:
            What names the line.

        Raises:
            TrailError: The trail is broken or cannot be written; it is as it was.
        """
        with self._locked() as file:
            return self._write(file, self._key(), kind, facts)

    def head(self) -> Anchor:
        """Return what names the last line; a trail that was empty is opened.

        Raises:
            TrailError: The trail is broken or cannot be written.
        """
        with self._locked():
            return self._head

    def lines(self) -> tuple[Line, ...]:
        """Return every line, oldest first; of a trail that nobody opened yet, none.

        Raises:
            TrailError: The trail is broken or cannot be read.
        """
        if not (self.folder / LINES_FILE).exists():
            return ()
        reading = read(self.folder)
        _expect_sound(self.folder, reading)
        return reading.lines

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the file, read up to its end, and opened where it was empty."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            file = os.open(self.folder / LINES_FILE, flags, 0o644)
        except OSError as error:
            raise _unusable(self.folder, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_size != self._size_bytes:
                self._catch_up(file)
            if not self._head.seq:
                key = self._key(may_make=True)
                opening = {"holder": self.holder, "public_key": trail_lines.public_key_of(key)}
                self._write(file, key, LineKind.OPENED, opening)
                fsync_folder(self.folder)
            yield file
        except OSError as error:
            raise _unusable(self.folder, error) from error
        finally:
            os.close(file)

    def _catch_up(self, file: int) -> None:
        with (self.folder / LINES_FILE).open("rb") as whole:
            reading = _read(self.folder, whole, every_signature=False)
            if reading.fault is not None:
                whole.seek(0)
                reading = _read(self.folder, whole, every_signature=True)  # exactly which line
        _expect_sound(self.folder, reading)
        if reading.lines:
            opened = reading.lines[0].facts
            expected = trail_lines.public_key_of(self._key())
            if (opened["holder"], opened["public_key"]) != (self.holder, expected):
                raise TrailError(
                    f"'{self.folder}' holds the audit trail of {ascii(opened['holder'])[:80]} with "
                    f"another key, expected {self.holder} with the key in '{KEY_FILE}'. Name this "
                    f"holder's own folder, or restore the key from a copy."
                )
        os.ftruncate(file, reading.size_bytes)  # drops a line that a power cut left unfinished
        self._head, self._size_bytes = reading.head, reading.size_bytes

    def _write(
        self, file: int, key: Ed25519PrivateKey, kind: LineKind, facts: Mapping[str, Fact]
    ) -> Anchor:
        at = self._clock().isoformat(timespec="milliseconds")
        try:
            line, head = trail_lines.line_after(self._head, key, at=at, kind=kind, facts=facts)
        except (TypeError, ValueError) as error:
            raise TrailError(
                f"a line '{kind}' of the audit trail holds what JSON does not: {error}. "
                f"This is a fault of wardround; report it."
            ) from error
        try:
            if (written := os.write(file, line)) != len(line):
                raise OSError(0, f"{written} of {len(line)} bytes were taken")
            os.fsync(file)
            self._put_head(trail_lines.head_of(head, key))
        except OSError:
            # If this fails too, reading the trail drops the torn line.
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._size_bytes)
            raise
        self._head, self._size_bytes = head, self._size_bytes + len(line)
        return head

    def _put_head(self, content: bytes) -> None:
        # In its place and not waited for: a head that a power cut left behind is still true.
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        file = os.open(self.folder / HEAD_FILE, flags, 0o644)
        try:
            os.pwrite(file, content, 0)
        finally:
            os.close(file)

    def _key(self, *, may_make: bool = False) -> Ed25519PrivateKey:
        path = self.folder / KEY_FILE
        if may_make and not path.exists():
            made = Ed25519PrivateKey.generate()
            pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_once(path, pem, mode=PRIVATE)
            return made
        remedy = "Restore the key from a copy; without it a trail cannot be gone on with."
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise TrailError(f"'{path}' holds no key that can be read. {remedy}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise TrailError(f"'{path}' holds a key of another kind than Ed25519. {remedy}")
        return key


def read(folder: Path, *, every_signature: bool = True) -> Reading:
    """Return what a trail's folder holds, up to the first bad line.

    Raises:
        TrailError: It cannot be read.
    """
    try:
        with (folder / LINES_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # else a line might come between the two files
            return _read(folder, file, every_signature=every_signature)
    except OSError as error:
        raise _unusable(folder, error) from error


def _read(folder: Path, file: BinaryIO, *, every_signature: bool) -> Reading:
    head = folder / HEAD_FILE
    return trail_lines.read(
        file.read(),
        head.read_bytes() if head.exists() else None,
        every_signature=every_signature,
    )


def _expect_sound(folder: Path, reading: Reading) -> None:
    if reading.fault is not None:
        raise TrailError(
            f"audit trail '{folder / LINES_FILE}', line {reading.fault.line} {reading.fault.why}. "
            f"A trail is never edited: find out who did, and restore it from a copy."
        )


def _unusable(folder: Path, error: OSError) -> TrailError:
    return TrailError(
        f"the audit trail in '{folder}' cannot be used: {error.strerror}. "
        f"Name a folder that its owner can write, with room on the disk."
    )
