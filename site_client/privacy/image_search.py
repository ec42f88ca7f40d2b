"""Does a file that is to leave hold one of the site's own images? The site can look: it has them.

*As bytes*: eight bytes in a row of an image, in any encoding an image is likely to have (as stored;
on the working grid as 8 or 16 bits, as half, brain or single floats; either byte order), are looked
for at every place of the file. A hit is eight equal bytes, none of them half flat, so chance makes
none.

*As numbers*: an image keeps its look under any scale and offset. Weights are noise from one to the
next and images are smooth. So the stretches of a tensor (or of its change) that are smooth are
picked out, those alone are compared with every stretch of every image by their correlation, and a
run of stretches that are alike with the place in the image where they would come from.

*As something smooth*: where most of a tensor, or a long run of it, is smoother than weights are,
and smooth from one kernel to the next as well, it is an image of whatever origin. In a six-site
study of the packaged benchmark no tensor had a share of smooth stretches above 0.16 or a run of
more than 6; no image of the sites had a share below 0.58. Longer training makes smooth kernels: on
retinal images runs of up to 20. But a kernel knows nothing of the next: over their borders
neighbours had a correlation of at most 0.15 there, in images laid into a tensor of at least 0.77.
The change of a tensor is left out: that of a layer fed with waves is smooth by nature. So are a
layer that began at nought, which after few steps is its own change, and what a method remembers of
how much weights matter, over the pixels of a kernel; own images are looked for in these all the
same.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from wardround.shared.errors import EgressRefused

WINDOW_BYTES = 8
LEAST_DISTINCT = 5  # bytes of a window; flat stretches are in every file
FLAT_BYTES = 4  # equal ones in a row: nought beside a weight is in files too, and tells four bytes
LEAST_HITS = 3
MAX_WINDOWS = 2**18  # of one encoding of all images together
TABLE_BITS = 25
STRETCH = 64  # numbers compared at a time
RUN = 4  # stretches in a row that must be alike
SMOOTH = 0.5  # correlation of neighbours from which on a stretch counts as smooth
ALIKE = 0.9
IMAGE_SMOOTH, IMAGE_SHARE, IMAGE_RUN = 0.7, 0.5, 16  # a tensor that is an image, of any origin
IMAGE_BORDER = 0.5  # correlation over the borders of kernels from which on they are no kernels
MAX_STRETCHES = 2048
MAX_TEMPLATES = 100_000
CHUNK = 8192  # templates compared at a time
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class ImageSearch:
    """A site's own images, ready to be looked for.

    Args:
        stored: Images as they are stored, any shape.
        working: The same on the working grid as a network sees them, float32 in [-1, 1]; the last
            axis is a row of pixels.
    """

    def __init__(self, stored: Sequence[np.ndarray], working: Sequence[np.ndarray]) -> None:
        self._known = _windows_of(stored, working)
        self._table = np.zeros(2**TABLE_BITS, bool)
        self._table[_slots(self._known)] = True
        self._flats = [image.astype(np.float32).ravel() for image in working]
        self._templates, self._places, self._stride = _templates(self._flats)

    def expect_absent(self, name: str, data: bytes) -> None:
        """Look for the images' bytes in the file of a part.

        Raises:
            EgressRefused: They are there.
        """
        hits: set[int] = set()
        for shift in range(min(WINDOW_BYTES, len(data))):
            windows = np.frombuffer(data, np.uint64, (len(data) - shift) // WINDOW_BYTES, shift)
            maybe = windows[self._table[_slots(windows)]]
            places = np.searchsorted(self._known, maybe).clip(max=max(0, len(self._known) - 1))
            if len(self._known):
                hits.update(maybe[self._known[places] == maybe].tolist())
            if len(hits) >= LEAST_HITS:
                raise EgressRefused(
                    f"part '{name}' holds bytes of this site's own images. Nothing was released; "
                    f"find out what put them there."
                )

    def expect_unlike(
        self,
        name: str,
        key: str,
        values: np.ndarray,
        change: np.ndarray,
        *,
        kernel: int = 1,
        is_smooth: bool,
    ) -> None:
        """Compare a tensor and its change in this visit, both flat, with images.

        Args:
            name: Of the part.
            key: Of the tensor.
            values: The tensor.
            change: Its change.
            kernel: How many of its numbers in a row are one convolution kernel.
            is_smooth: It is smooth by nature, so only own images are looked for.

        Raises:
            EgressRefused: One looks like an image.
        """
        if values.size < STRETCH * RUN:
            return
        is_image = not is_smooth and _is_image(values, kernel)
        if is_image or self._resembles(values) or self._resembles(change):
            raise EgressRefused(
                f"part '{name}': tensor '{key}' looks like an image. Nothing was released; find "
                f"out what made it."
            )

    def _resembles(self, values: np.ndarray) -> bool:
        """Return whether a run of a tensor is, up to scale and offset, a run of an own image."""
        unit, smoothness = _stretches(values)
        smooth = np.flatnonzero(smoothness > SMOOTH)
        if len(smooth) < RUN or not len(self._templates):
            return False
        smooth = smooth[np.argsort(-smoothness[smooth])[:MAX_STRETCHES]]
        best = np.zeros(len(unit), np.float32)
        which = np.zeros(len(unit), np.int64)
        for start in range(0, len(self._templates), CHUNK):
            likeness = np.abs(unit[smooth] @ self._templates[start : start + CHUNK].T)
            nearest = likeness.argmax(axis=1)
            found = likeness[np.arange(len(smooth)), nearest]
            better = found > best[smooth]
            best[smooth[better]], which[smooth[better]] = found[better], start + nearest[better]
        alike = np.convolve(best > ALIKE, np.ones(RUN, int), "valid") == RUN
        return any(
            self._is_run(
                values[first * STRETCH : (first + RUN) * STRETCH], which[first + step], step
            )
            for first in np.flatnonzero(alike)
            for step in range(RUN)
        )

    def _is_run(self, run: np.ndarray, template: int, step: int) -> bool:
        """Return whether a run is one of the image in which its stretch `step` was found."""
        image, offset = self._places[template]
        flat, base = self._flats[image], offset - step * STRETCH
        starts = range(max(0, base - self._stride), base + self._stride + 1)
        there = [flat[s : s + run.size] for s in starts if s + run.size <= flat.size]
        if not there:
            return False
        likeness = _normalised(np.stack(there))[0] @ _normalised(run[None])[0][0]
        return float(np.abs(likeness).max()) > ALIKE


def _is_image(values: np.ndarray, kernel: int) -> bool:
    """Return whether a tensor is so smooth, within kernels and beyond them, that it is an image."""
    unit, smoothness = _stretches(values)
    is_smooth = smoothness > IMAGE_SMOOTH
    is_most = len(is_smooth) >= IMAGE_RUN and float(is_smooth.mean()) > IMAGE_SHARE
    suspects = [np.flatnonzero(is_smooth)] if is_most else []
    runs = np.convolve(is_smooth, np.ones(IMAGE_RUN, int), "valid") == IMAGE_RUN
    suspects += [np.arange(first, first + IMAGE_RUN) for first in np.flatnonzero(runs)]
    return any(_over_borders(unit, which, kernel) > IMAGE_BORDER for which in suspects)


def _over_borders(unit: np.ndarray, which: np.ndarray, kernel: int) -> float:
    """Return the correlation of neighbours in two kernels, over the stretches `which`."""
    after = which[:, None] * STRETCH + np.arange(1, STRETCH)  # places of the second of each pair
    first, second = unit.ravel()[after - 1], unit.ravel()[after]
    is_border = after % kernel == 0
    first, second = first[is_border], second[is_border]
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / size if size else 1.0


def _windows_of(stored: Sequence[np.ndarray], working: Sequence[np.ndarray]) -> np.ndarray:
    """Return every window that is looked for, sorted, each once."""
    found: list[np.ndarray] = []
    for images, encodings in ((stored, _stored_encodings), (working, _working_encodings)):
        size = sum(image.size for image in images)
        stride = max(1, size // MAX_WINDOWS + 1)
        for image in images:
            found += [_windows(encoded, stride) for encoded in encodings(image)]
    # np.unique hashes integers: a hundred times as long as sorting for a few million of them.
    windows = np.sort(np.concatenate(found)) if found else np.zeros(0, np.uint64)
    is_new = np.ones(len(windows), bool)
    is_new[1:] = windows[1:] != windows[:-1]
    unique: np.ndarray = windows[is_new]
    return unique


def _windows(encoded: np.ndarray, stride: int) -> np.ndarray:
    """Return the windows that begin at every `stride`-th number and are not flat."""
    raw = np.frombuffer(np.ascontiguousarray(encoded).tobytes(), np.uint8)
    if len(raw) < WINDOW_BYTES:
        return np.zeros(0, np.uint64)
    views = np.lib.stride_tricks.sliding_window_view(raw, WINDOW_BYTES)
    views = np.ascontiguousarray(views[:: stride * encoded.itemsize])
    ordered = np.sort(views, axis=1)
    distinct = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)
    same = views[:, 1:] == views[:, :-1]
    runs = np.lib.stride_tricks.sliding_window_view(same, FLAT_BYTES - 1, axis=1)
    is_flat = np.any(np.all(runs, axis=2), axis=1)
    windows: np.ndarray = views[(distinct >= LEAST_DISTINCT) & ~is_flat].view(np.uint64).ravel()
    return windows


def _stored_encodings(image: np.ndarray) -> Iterator[np.ndarray]:
    yield from _both_orders(image.astype("<f4"))
    if not (image == np.rint(image)).all():
        return
    for kind in ("u1", "<u2", "<i2"):
        limits = np.iinfo(kind)
        if limits.min <= image.min() and image.max() <= limits.max:
            yield from _both_orders(image.astype(kind))


def _working_encodings(image: np.ndarray) -> Iterator[np.ndarray]:
    share = (image.astype(np.float64) + 1) / 2
    single = image.astype("<f4")
    yield np.rint(share * 255).astype("u1")
    yield from _both_orders(np.rint(share * 65535).astype("<u2"))
    yield from _both_orders(image.astype("<f2"))
    yield from _both_orders((single.view("<u4") >> 16).astype("<u2"))  # brain floats, cut
    yield from _both_orders(single)
    yield from _both_orders(share.astype("<f4"))


def _both_orders(values: np.ndarray) -> Iterator[np.ndarray]:
    yield values
    if values.itemsize > 1:
        yield values.byteswap()


def _templates(flats: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return stretches of flat images of mean 0 and norm 1, their (image, offset), their stride."""
    stride = max(1, sum(flat.size for flat in flats) // MAX_TEMPLATES + 1)
    found, places = [np.zeros((0, STRETCH), np.float32)], [np.zeros((0, 2), np.int64)]
    for number, flat in enumerate(flats):
        if flat.size >= STRETCH:
            views = np.lib.stride_tricks.sliding_window_view(flat, STRETCH)[::stride]
            unit, norm = _normalised(views)
            offsets = np.arange(len(views)) * stride
            places.append(np.stack([np.full(len(views), number), offsets], axis=1)[norm > 0])
            found.append(unit[norm > 0])
    return np.concatenate(found), np.concatenate(places), stride


def _stretches(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a flat tensor in stretches of mean 0 and norm 1, and how smooth each is."""
    cut = values[: values.size // STRETCH * STRETCH].reshape(-1, STRETCH).astype(np.float32)
    unit, _ = _normalised(cut)
    return unit, np.einsum("ij,ij->i", unit[:, :-1], unit[:, 1:])


def _normalised(stretches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centred = stretches - stretches.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1)
    return centred / np.maximum(norm, 1e-30)[:, None], norm


def _slots(windows: np.ndarray) -> np.ndarray:
    slots: np.ndarray = (windows * _MULTIPLIER) >> np.uint64(64 - TABLE_BITS)
    return slots
