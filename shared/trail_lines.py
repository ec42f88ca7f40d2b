"""The lines of an audit trail: how one is written, and what is wrong with many; pure.

A line is canonical JSON: a number, a time, a kind, facts, the SHA-256 of the line before, and an
Ed25519 signature over all of that. The first line names the holder and its public key. A second,
one-line file, the head, names the last line and is signed too, so that a trail whose end was cut
off is found out. What a holder could rewrite with its own key, the other side's anchors tell.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from wardround.shared.messages import Anchor

NO_LINE = "0" * 64  # what the first line follows on
Fact = str | int | float | bool | None | Sequence["Fact"] | Mapping[str, "Fact"]

_KEYS = {"seq", "at", "kind", "facts", "previous", "signature"}
_LINE_PURPOSE = b"wardround trail line\n"
_HEAD_PURPOSE = b"wardround trail head\n"
_HEAD = re.compile(rb"(\d{20}) ([0-9a-f]{64}) ([0-9a-f]{128})\n")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}")


class LineKind(StrEnum):
    """What a line of a trail tells."""

    OPENED = "opened"  # the first line: holder and public_key
    APPROVED = "approved"  # site: its staff approved a plan
    REVOKED = "revoked"  # site: its staff ended an approval
    PROBED = "probed"  # site: what its machine can reach was looked at
    ORDERED = "ordered"  # site: an order was taken
    RELEASED = "released"  # site: the egress guard let something out
    SPENT = "spent"  # site: a prompt that is about to leave is charged to its privacy budget
    REFUSED = "refused"  # site: the egress guard kept something in
    AUDITED = "audited"  # site: a denoiser was looked at for copies of the site's cases
    JOURNALLED = "journalled"  # coordinator: an event of the study is in the journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that was read.

    Attributes:
        seq: Its number, from 1.
        at: When it was written: ISO 8601, UTC.
        kind: What it tells; a later release may know more kinds than `LineKind` has.
        facts: What it says of that.
        digest: SHA-256 of its bytes, which the next line repeats.
    """

    seq: int
    at: str
    kind: str
    facts: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a trail: the first bad line, and why."""

    line: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was found in a trail.

    Attributes:
        lines: The lines before the first bad one.
        size_bytes: How long these are.
        fault: The first bad line, if any. A last line that a power cut left unfinished is none.
    """

    lines: tuple[Line, ...]
    size_bytes: int
    fault: Fault | None = None

    @property
    def head(self) -> Anchor:
        """Return what names the last line; of an empty trail, line 0."""
        if not self.lines:
            return Anchor(seq=0, digest=NO_LINE)
        return Anchor(seq=self.lines[-1].seq, digest=self.lines[-1].digest)


def line_after(
    head: Anchor, key: Ed25519PrivateKey, *, at: str, kind: LineKind, facts: Mapping[str, Fact]
) -> tuple[bytes, Anchor]:
    """Return the line that follows on `head`, with its line break, and what names it.

    Raises:
        ValueError: A fact is not a finite number or not of JSON.
    """
    content = {
        "seq": head.seq + 1,
        "at": at,
        "kind": kind.value,
        "facts": facts,
        "previous": head.digest,
    }
    signature = key.sign(_LINE_PURPOSE + _spelled(content)).hex()
    line = _spelled({**content, "signature": signature})
    return line + b"\n", Anchor(seq=head.seq + 1, digest=hashlib.sha256(line).hexdigest())


def head_of(anchor: Anchor, key: Ed25519PrivateKey) -> bytes:
    """Return the head file's content, which is as long for any trail."""
    named = f"{anchor.seq:020d} {anchor.digest}".encode()
    return named + b" " + key.sign(_HEAD_PURPOSE + named).hex().encode() + b"\n"


def public_key_of(key: Ed25519PrivateKey) -> str:
    """Return a key's public half: 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def read(data: bytes, head: bytes | None, *, every_signature: bool = True) -> Reading:
    """Return the lines in `data` up to the first bad one.

    Args:
        data: A trail's bytes.
        head: The content of its head file; None where there is none.
        every_signature: Check them all. Without, only the last line's and the head's, which is
            enough to know that no line was changed, but not always which.
    """
    reading = _read_lines(data, every_signature=every_signature)
    if not reading.lines:
        fault = reading.fault if b"\n" in data else None  # else not even one line was finished
        if head is not None and fault is None:
            fault = Fault(line=1, why="is missing, though there is a head file")
        return _with_fault(reading, fault)
    key = _key_in(reading.lines[0])
    named = _named_by(head, key, len(reading.lines))
    if isinstance(named, Fault):
        return reading if reading.fault is not None else _with_fault(reading, named)
    if reading.fault is not None:
        is_torn = reading.fault.line > named.seq and _is_torn(data[reading.size_bytes :])
        return _with_fault(reading, None) if is_torn else reading
    if named.seq > len(reading.lines):
        return _with_fault(
            reading,
            Fault(
                line=len(reading.lines) + 1,
                why=f"is missing: the trail ends before it, and had {named.seq} lines",
            ),
        )
    if named.seq and reading.lines[named.seq - 1].digest != named.digest:
        return _with_fault(
            reading, Fault(line=named.seq, why="is not the line that the head file names")
        )
    return reading


def _read_lines(data: bytes, *, every_signature: bool) -> Reading:
    lines: list[Line] = []
    previous, start, key, last = NO_LINE, 0, None, b""
    while start < len(data):
        number, end = len(lines) + 1, data.find(b"\n", start)
        raw = data[start:] if end < 0 else data[start:end]
        content = None if end < 0 else _content(raw)
        why = _why_not(content, number, previous)
        if content is not None and why is None:
            key = key or _key_of(content)
            if (every_signature or number == 1) and not _is_signed(key, content):
                why = "was changed: its signature does not fit"
        if content is None or why is not None:
            return Reading(
                lines=tuple(lines),
                size_bytes=start,
                fault=Fault(line=number, why=why or "cannot be read"),
            )
        previous, start, last = hashlib.sha256(raw).hexdigest(), end + 1, raw
        lines.append(_line(content, previous))
    fault = None
    if lines and not every_signature and not _is_signed(key, _content(last)):
        fault = Fault(line=len(lines), why="or one before it was changed")
    return Reading(lines=tuple(lines), size_bytes=start, fault=fault)


def _why_not(content: Mapping[str, Any] | None, number: int, previous: str) -> str | None:
    """Return why a line cannot be the one of this number; None where it can."""
    if content is None:
        return "was changed or cut off: it is not in the form of a trail's line"
    if content["seq"] != number:
        return f"has the number {content['seq']}: a line was dropped, added or moved here"
    if content["previous"] != previous:
        return "does not follow on the line before it: one of the two was changed"
    if number == 1 and _key_of(content) is None:
        return "does not open a trail: it names no holder with a public key"
    return None


def _content(raw: bytes) -> dict[str, Any] | None:
    """Return what a line holds if it is in the one spelling of a trail's line."""
    try:
        content = json.loads(raw)
        if not isinstance(content, dict) or set(content) != _KEYS or _spelled(content) != raw:
            return None
    except (ValueError, RecursionError):
        return None
    kinds = {"seq": int, "at": str, "kind": str, "facts": dict, "previous": str, "signature": str}
    if any(type(content[key]) is not kind for key, kind in kinds.items()):
        return None
    # In one spelling, for hexadecimal digits can be read in two.
    return content if _SIGNATURE.fullmatch(content["signature"]) else None


def _line(content: Mapping[str, Any], digest: str) -> Line:
    return Line(
        seq=content["seq"],
        at=content["at"],
        kind=content["kind"],
        facts=content["facts"],
        digest=digest,
    )


def _key_of(content: Mapping[str, Any]) -> Ed25519PublicKey | None:
    facts = content["facts"]
    public_key = facts.get("public_key")
    if content["kind"] != LineKind.OPENED or type(facts.get("holder")) is not str:
        return None
    if type(public_key) is not str or not _PUBLIC_KEY.fullmatch(public_key):
        return None
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))


def _key_in(first: Line) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(first.facts["public_key"]))


def _is_signed(key: Ed25519PublicKey | None, content: Mapping[str, Any] | None) -> bool:
    if key is None or content is None:
        return False
    rest = {name: value for name, value in content.items() if name != "signature"}
    return _fits(key, content["signature"], _LINE_PURPOSE + _spelled(rest))


def _named_by(head: bytes | None, key: Ed25519PublicKey, num_lines: int) -> Anchor | Fault:
    """Return the line that a head file names; the opening line needs none."""
    if head is None:
        if num_lines <= 1:
            return Anchor(seq=0, digest=NO_LINE)
        return Fault(line=num_lines, why="cannot be told to be the last: the head file is gone")
    parsed = _HEAD.fullmatch(head)
    if parsed is None or not _fits(key, parsed[3].decode(), _HEAD_PURPOSE + head[:85]):
        return Fault(line=num_lines, why="cannot be told to be the last: the head file was changed")
    return Anchor(seq=int(parsed[1]), digest=parsed[2].decode())


def _fits(key: Ed25519PublicKey, signature: str, data: bytes) -> bool:
    try:
        key.verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_torn(rest: bytes) -> bool:
    """Return whether this can be what a cut write left: one line, and not a whole one."""
    return b"\n" not in rest[:-1] and _content(rest.removesuffix(b"\n")) is None


def _with_fault(reading: Reading, fault: Fault | None) -> Reading:
    return Reading(lines=reading.lines, size_bytes=reading.size_bytes, fault=fault)


def _spelled(content: Mapping[str, Any]) -> bytes:
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()
