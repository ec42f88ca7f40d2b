"""The authority's register: who was invited, what was issued, what was revoked.

A file of JSON lines that only ever grows; a line is on the disk before anything acts on it. A write
that was cut short leaves a last line without its line break, which is dropped; a fault in any other
line is an error, never mended: a revocation must not be lost in silence.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
)

from wardround.shared.errors import IdentityError
from wardround.shared.identity import Role

SERIAL_DIGITS = 40  # longer than any name, so that a serial number cannot be taken for one


def serial_text(serial: int) -> str:
    """Return a serial number as it is shown: 40 hexadecimal digits."""
    return f"{serial:0{SERIAL_DIGITS}x}"


# In hexadecimal, for many programs read a JSON number as a float of 53 bits.
Serial = Annotated[
    int, BeforeValidator(lambda text: int(text, 16)), PlainSerializer(serial_text, return_type=str)
]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """Who knows the token may have one certificate for this holder, until it expires."""

    __pydantic_config__ = _STRICT
    kind: Literal["invited"] = "invited"
    at: AwareDatetime
    name: str
    role: Role
    hosts: tuple[str, ...]
    token_sha256: str
    expires: AwareDatetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """A token may not be used any more."""

    __pydantic_config__ = _STRICT
    kind: Literal["withdrawn"] = "withdrawn"
    at: AwareDatetime
    token_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate was made.

    Attributes:
        key_sha256: Digest of the holder's public key.
        token_sha256: Digest of the token it was made for; None when it renews another.
        certificate: The certificate itself, PEM.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["issued"] = "issued"
    at: AwareDatetime
    serial: Serial
    name: str
    role: Role
    hosts: tuple[str, ...]
    not_after: AwareDatetime
    key_sha256: str
    token_sha256: str | None
    certificate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A certificate may not be accepted any more."""

    __pydantic_config__ = _STRICT
    kind: Literal["revoked"] = "revoked"
    at: AwareDatetime
    serial: Serial


Record = Invited | Withdrawn | Issued | Revoked
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


class Register:
    """A register that is open for appending; made by `opened`."""

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file
        records, self._size_bytes = _read(path, path.read_bytes())
        self._records = list(records)
        os.ftruncate(file, self._size_bytes)

    @property
    def records(self) -> tuple[Record, ...]:
        """Return every record, oldest first."""
        return tuple(self._records)

    def append(self, record: Record) -> None:
        """Add a record; when this returns, it is on the disk.

        Raises:
            IdentityError: It could not be written. The register is as it was.
        """
        line = _RECORD.dump_json(record) + b"\n"
        try:
            written = os.write(self._file, line)
            if written != len(line):
                raise OSError(0, f"{written} of {len(line)} bytes were taken")
            os.fsync(self._file)
        except OSError as error:
            # If this fails too, opening the register drops the torn line.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size_bytes)
            raise IdentityError(
                f"register '{self._path}' cannot be written: {error.strerror}. "
                f"Make room on the disk and give the command again."
            ) from error
        self._records.append(record)
        self._size_bytes += len(line)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Register]:
    """Open a register for appending; no other process can do so meanwhile.

    Args:
        path: The file; it must exist, for an authority begins with an empty one.

    Raises:
        IdentityError: It is open elsewhere, cannot be opened, or holds a faulty line.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise IdentityError(
                f"register '{path}' is in use by another process. Wait for it to end and try again."
            ) from error
        yield Register(path, file)
    finally:
        os.close(file)


def read_records(path: Path) -> tuple[Record, ...]:
    """Return the records of a register that may be in use; a torn last line is left out.

    Raises:
        IdentityError: It cannot be read, or holds a faulty line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _read(path, data)[0]


def _read(path: Path, data: bytes) -> tuple[tuple[Record, ...], int]:
    """Return the records and the size in bytes of the lines they stand in."""
    end = data.rfind(b"\n") + 1
    records = []
    for number, line in enumerate(data[:end].splitlines(), start=1):
        try:
            records.append(_RECORD.validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "line"
            raise IdentityError(
                f"register '{path}', line {number}, '{key}': {first['msg']}. "
                f"A register is never edited; restore it from a copy."
            ) from error
    return tuple(records), end


def _unreadable(path: Path, error: OSError) -> IdentityError:
    return IdentityError(
        f"register '{path}' cannot be opened: {error.strerror}. Name the folder of an authority, "
        f"or make one: wardround ca init FOLDER --name NETWORK."
    )
