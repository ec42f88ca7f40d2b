"""What a part holds is checked while its bytes pass, so that none need be read a second time.

A part must hold exactly the manifest's tensors, and every number in it must be finite. Both show in
the bytes; no tensor is built.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from wardround.shared.checkpoint import (
    ITEM_BYTES,
    LONGEST_HEADER_BYTES,
    Chunk,
    chunks_of,
    header_end,
    verify_header,
)
from wardround.shared.errors import CheckpointError
from wardround.shared.messages import PartRef, TensorSpec

_FLOATS: Mapping[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_BF16_EXPONENT = 0x7F80  # one of ones is infinity or NaN


class TensorCheck:
    """Looks at the bytes of one part as they pass.

    What is wrong is told at the end: bytes that are not the announced ones have a digest that says
    so, and whatever else is found in them is of no interest.

    Args:
        part: Its name is for messages; the header must speak of as many bytes as the part has.
        forms: The tensors it must hold, in each form that it may have.
    """

    def __init__(self, part: PartRef, *forms: Sequence[TensorSpec]) -> None:
        self._part, self._forms = part, forms
        self._beginning = bytearray()  # what passed, until the header is whole
        self._numbers: _Numbers | None = None
        self._fault: CheckpointError | None = None

    def update(self, chunk: Chunk) -> None:
        """Look at the next bytes."""
        if self._fault is None:
            try:
                self._look_at(chunk)
            except CheckpointError as fault:
                self._fault = fault

    def finish(self) -> None:
        """Say whether all of it was as it must be.

        Raises:
            CheckpointError: Naming the tensors that are missing, unexpected or of another kind, or
                the first one with an infinite value or a NaN.
        """
        if self._fault is not None:
            raise self._fault
        if self._numbers is None:  # so short that not even its header is whole
            verify_header(self._part.name, bytes(self._beginning), *self._forms)

    def _look_at(self, chunk: Chunk) -> None:
        if self._numbers is None:
            self._beginning += chunk
            end = header_end(self._beginning)
            if end is None or len(self._beginning) < min(end, LONGEST_HEADER_BYTES):
                return
            beginning = bytes(self._beginning)
            self._beginning.clear()
            name, size_bytes = self._part.name, self._part.size_bytes
            specs = verify_header(name, beginning, *self._forms, size_bytes=size_bytes)
            self._numbers = _Numbers(name, specs)
            chunk = beginning[end:]
        self._numbers.look_at(chunk)


class _Numbers:
    """Looks at tensors that follow on each other without a gap."""

    def __init__(self, part_name: str, specs: Sequence[TensorSpec]) -> None:
        self._part_name = part_name
        self._specs = iter([spec for spec in specs if prod(spec.shape)])
        self._spec: TensorSpec | None = None
        self._left = 0  # bytes of the tensor that are still to come
        self._cut = b""  # the first bytes of a number whose others are still to come

    def look_at(self, chunk: Chunk) -> None:
        raw, start = self._cut + chunk if self._cut else chunk, 0
        while start < len(raw):
            if self._spec is None:
                self._spec = next(self._specs)
                self._left = prod(self._spec.shape) * ITEM_BYTES[self._spec.dtype]
            span = min(self._left, len(raw) - start)
            count = span // ITEM_BYTES[self._spec.dtype]
            if not count:
                break
            if not _is_finite(raw, self._spec.dtype, count, start):
                raise CheckpointError(
                    f"part '{self._part_name}': tensor '{self._spec.name}' holds a value that is "
                    f"not finite. Training diverged; lower the learning rate and repeat the visit."
                )
            seen = count * ITEM_BYTES[self._spec.dtype]
            start, self._left = start + seen, self._left - seen
            if not self._left:
                self._spec = None
        self._cut = bytes(raw[start:])


def verify_part(part: PartRef, data: bytes, *forms: Sequence[TensorSpec]) -> None:
    """Check size, tensors and finiteness of a part that is at hand; its digest is not looked at.

    Raises:
        CheckpointError: It is not what the manifest allows.
    """
    if len(data) != part.size_bytes:
        raise CheckpointError(
            f"part '{part.name}' has {len(data)} bytes, expected {part.size_bytes}. "
            f"Transfer it again."
        )
    check = TensorCheck(part, *forms)
    for chunk in chunks_of(data):
        check.update(chunk)
    check.finish()


def _is_finite(raw: Chunk, dtype: str, count: int, start: int) -> bool:
    if dtype == "BF16":
        bits = np.frombuffer(raw, "<u2", count, start)
        return not bool((bits & _BF16_EXPONENT == _BF16_EXPONENT).any())
    if dtype not in _FLOATS:
        return True
    return bool(np.isfinite(np.frombuffer(raw, _FLOATS[dtype], count, start)).all())
