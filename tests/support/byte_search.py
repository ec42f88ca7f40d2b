"""Looks for a hospital's images, files and names in bytes, whatever form they were given.

Written apart from the product's own search, so that neither can hide a fault of the other. Eight
bytes in a row of an image or of a file count, in any encoding of its pixels; around them base64,
base85, hexadecimal, zlib, gzip and PNG are undone first, one in the other too.
"""

import base64
import binascii
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

NEEDLE = 8
MOST = 8_000  # needles of one image in one encoding; a large image is looked for in places
FILE_STEP = 32
_RUNS = (
    (re.compile(rb"[A-Za-z0-9+/_-]{12,}={0,2}"), "base64"),
    (re.compile(rb"[0-9A-Fa-f]{16,}"), "hex"),
    (re.compile(rb"[0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]{15,}"), "base85"),
)


class ByteSearch:
    """What must not be found.

    Args:
        images: Any shape; as stored, or float32 in [-1, 1] as a network sees them.
        files: Whose content counts, as it lies on the disk.
        names: Case identifiers and file names.
    """

    def __init__(
        self, images: Iterable[np.ndarray], files: Iterable[Path], names: Iterable[str]
    ) -> None:
        needles = [_needles(raw, step) for image in images for raw, step in _encodings(image)]
        needles += [_needles(path.read_bytes(), FILE_STEP) for path in files]
        self._needles = np.unique(np.concatenate(needles))
        self._names = [name.encode(code) for name in names for code in ("utf-8", "utf-16-le")]

    def find(self, stream: bytes) -> set[str]:
        """Return what of it is in a stream: "image or file", or a name."""
        found: set[str] = set()
        for view in _views(stream, depth=2):
            found |= {name.decode("latin1") for name in self._names if name in view}
            for shift in range(min(NEEDLE, max(0, len(view) - NEEDLE + 1))):
                windows = np.frombuffer(view, "<u8", (len(view) - shift) // NEEDLE, shift)
                places = np.searchsorted(self._needles, windows).clip(max=len(self._needles) - 1)
                if (self._needles[places] == windows).any():
                    found.add("image or file")
                    break
        return found


def _encodings(image: np.ndarray) -> Iterator[tuple[bytes, int]]:
    """Yield an image's bytes in each encoding, and the bytes from one needle to the next."""
    pixels = max(1, image.size // MOST)
    kinds: list[np.ndarray] = [image.astype("<f4"), image.astype("<f8"), image.astype("<f2")]
    kinds.append((image.astype("<f4").view("<u4") >> 16).astype("<u2"))  # brain floats
    if float(image.min()) >= -1 and float(image.max()) <= 1:
        share = (image.astype(np.float64) + 1) / 2
        kinds += [np.rint(share * 255).astype("u1"), np.rint(share * 65535).astype("<u2")]
        kinds += [share.astype("<f4")]
    elif (image == np.rint(image)).all() and image.min() >= 0:
        kinds += [image.astype("<u2")] + ([image.astype("u1")] if image.max() < 256 else [])
    for kind in kinds:
        yield kind.tobytes(), pixels * kind.itemsize
        if kind.itemsize > 1:
            yield kind.byteswap().tobytes(), pixels * kind.itemsize


def _needles(raw: bytes, step: int) -> np.ndarray:
    """Return the eight bytes in a row that begin at every `step`-th one and are not flat."""
    if len(raw) < NEEDLE:
        return np.zeros(0, np.uint64)
    views = np.lib.stride_tricks.sliding_window_view(np.frombuffer(raw, np.uint8), NEEDLE)[::step]
    ordered = np.sort(views, axis=1)
    varied = (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1) >= 4
    return np.ascontiguousarray(views[varied]).view("<u8").ravel()


def _views(stream: bytes, depth: int) -> Iterator[bytes]:
    """Yield the bytes as they are, and what is left of them when wrappings are undone."""
    yield stream
    if not depth:
        return
    for inner in (*_unpacked(stream), *_decoded(stream)):
        yield from _views(inner, depth - 1)


def _unpacked(stream: bytes) -> Iterator[bytes]:
    for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", stream):
        window = 47 if stream[start.start()] == 0x1F else 15
        opened = zlib.decompressobj(window)
        try:
            inner = opened.decompress(stream[start.start() :], 2**24)
        except zlib.error:
            continue
        if len(inner) >= NEEDLE:
            yield inner
    for start in re.finditer(re.escape(b"\x89PNG\r\n\x1a\n"), stream):
        with Image.open(io.BytesIO(stream[start.start() :])) as picture:
            yield np.asarray(picture).tobytes()


def _decoded(stream: bytes) -> Iterator[bytes]:
    for pattern, kind in _RUNS:
        for run in set(pattern.findall(stream)):
            for skip in range({"base64": 4, "hex": 2, "base85": 5}[kind]):
                text = run[skip:]
                try:
                    if kind == "base64":
                        bare = text.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
                        yield base64.b64decode(bare[: len(bare) // 4 * 4])
                    elif kind == "hex":
                        yield bytes.fromhex(text[: len(text) // 2 * 2].decode())
                    else:
                        yield base64.b85decode(text[: len(text) // 5 * 5])
                except (ValueError, binascii.Error):
                    continue
