"""A checkpoint is a set of safetensors files, addressed by SHA-256, that holds its manifest.

Both sides check what they are given with the functions here, and neither needs a tensor library:
the header of a safetensors file is JSON, and whether numbers are finite shows in their bytes. A
file is taken in one spelling only (no metadata, no blanks, no gaps), so that nothing but tensors
fits into it.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from wardround.shared.errors import CheckpointError
from wardround.shared.messages import CheckpointRef, PartRef, TensorSpec
from wardround.shared.plan import PER_SITE, StudyPlan
from wardround.shared.plan_method import GROWS_DECODERS

Chunk = bytes | memoryview
Form = tuple[TensorSpec, ...]  # every tensor that one file holds

CHUNK_BYTES = 2**20
LONGEST_HEADER_BYTES = 2**20  # its length included; enough for ten thousand tensors
PROMPT = "prompt."
LABELLER = "labeller."
DECODER = "decoder."
SITE_KINDS = (PROMPT, LABELLER, DECODER)  # before a site's name: parts that its visit makes
ENCODER = "encoder"
METHOD = "method"
ITEM_BYTES: Mapping[str, int] = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
_DTYPE_ORDER = ("I64", "F64", "F32", "I32", "BF16", "F16", "I16", "I8", "U8", "BOOL")
_ENTRY = ["dtype", "shape", "data_offsets"]
_LENGTH_BYTES = 8
_PADDING = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Every tensor a checkpoint of one study may hold, known before any visit.

    Attributes:
        parts: Part name ("segmenter", "denoiser", "method") to its tensors in name order.
        prompt: The tensors of each site's prompt, in name order; empty where there are no prompts.
        labeller: Likewise of each site's labeller, the segmenter as it was trained there.
        decoder: Likewise of each site's decoder, once for every width that it may have: which one
            it gets is known after the visit. No two are equal.
    """

    parts: Mapping[str, Form]
    prompt: Form = ()
    labeller: Form = ()
    decoder: tuple[Form, ...] = ()

    def __post_init__(self) -> None:
        """Put parts and tensors in name order, so that equal manifests have equal bytes."""
        ordered = {name: _by_name(self.parts[name]) for name in sorted(self.parts)}
        object.__setattr__(self, "parts", ordered)
        object.__setattr__(self, "prompt", _by_name(self.prompt))
        object.__setattr__(self, "labeller", _by_name(self.labeller))
        object.__setattr__(self, "decoder", tuple(_by_name(form) for form in self.decoder))

    def expected(self, visited: Sequence[str]) -> Mapping[str, tuple[Form, ...]]:
        """Return the parts of a checkpoint that has visited the sites `visited`.

        Each part's name leads to the forms it may have: one, but for decoders.
        """
        kinds = {kind: forms for kind in SITE_KINDS if (forms := self._forms_of_kind(kind))}
        of_sites = {kind + site: forms for site in visited for kind, forms in kinds.items()}
        return {name: (form,) for name, form in self.parts.items()} | of_sites

    def forms_of(self, part: str) -> tuple[Form, ...]:
        """Return the forms that a part may have, such as "segmenter" or "prompt.runmc"."""
        if part in self.parts:
            return (self.parts[part],)
        return self._forms_of_kind(part[: part.index(".") + 1])

    def _forms_of_kind(self, kind: str) -> tuple[Form, ...]:
        if kind == DECODER:
            return self.decoder
        form = self.prompt if kind == PROMPT else self.labeller
        return (form,) if form else ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values from which `from_json` makes an equal manifest."""
        content: dict[str, Any] = {
            "parts": {name: [_spec_json(s) for s in specs] for name, specs in self.parts.items()},
            "prompt": [_spec_json(s) for s in self.prompt],
        }
        if self.labeller:  # left out where empty, so that older manifests keep their digests
            content["labeller"] = [_spec_json(s) for s in self.labeller]
        if self.decoder:  # likewise
            content["decoder"] = [[_spec_json(s) for s in form] for form in self.decoder]
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Manifest":
        """Return the manifest that `to_json` wrote.

        Raises:
            CheckpointError: It is of another form.
        """
        try:
            needed = {"parts", "prompt"}
            if not needed <= set(content) <= needed | {"labeller", "decoder"}:
                raise KeyError(
                    f"keys {sorted(content)}, expected parts, prompt, perhaps labeller and decoder"
                )
            return cls(
                parts={name: _specs(specs) for name, specs in content["parts"].items()},
                prompt=_specs(content["prompt"]),
                labeller=_specs(content.get("labeller", [])),
                decoder=tuple(_specs(form) for form in content.get("decoder", [])),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"a manifest cannot be read: {error}. It was changed by hand or written by a later "
                f"release; use the release that wrote it."
            ) from error

    def digest(self) -> str:
        """Return the SHA-256 of the manifest's canonical JSON."""
        return hashlib.sha256(_canonical(self.to_json())).hexdigest()


def judged_parts(checkpoint: CheckpointRef, plan: StudyPlan, site_id: str) -> tuple[PartRef, ...]:
    """Return the parts of a checkpoint that a site needs to score it, in name order."""
    parts = {part.name: part for part in checkpoint.parts}
    return tuple(parts[name] for name in judged_names(parts, plan, site_id))


def judged_names(parts: Collection[str], plan: StudyPlan, site_id: str) -> tuple[str, ...]:
    """Return which of a checkpoint's parts a site scores, in name order.

    It is the segmenter; where the plan's method has one model per site, the one that left this site
    if it was visited; where it grows decoders, the encoder with all of them.
    """
    if plan.method.name == GROWS_DECODERS:
        return tuple(sorted(name for name in parts if name.startswith((ENCODER, DECODER))))
    own = LABELLER + site_id
    return (own,) if plan.method.name == PER_SITE and own in parts else ("segmenter",)


def digest_of(parts: Sequence[PartRef]) -> str:
    """Return a checkpoint's digest: SHA-256 over its parts' names, digests and sizes, by name."""
    content = [[p.name, p.digest, p.size_bytes] for p in sorted(parts, key=lambda p: p.name)]
    return hashlib.sha256(_canonical(content)).hexdigest()


def ref_of(parts: Iterable[PartRef]) -> CheckpointRef:
    """Return the checkpoint made of `parts`, in name order."""
    ordered = tuple(sorted(parts, key=lambda part: part.name))
    return CheckpointRef(digest=digest_of(ordered), parts=ordered)


def part_ref(name: str, data: bytes) -> PartRef:
    """Return the reference of the part `name` whose file is `data`."""
    return PartRef(name=name, digest=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def chunks_of(data: Chunk, offset: int = 0) -> Iterator[Chunk]:
    """Yield `data` from `offset` on in chunks of 1 MiB."""
    for start in range(offset, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def verified(part: PartRef, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield `chunks` and check, when they end, that they were the file of `part`.

    Raises:
        CheckpointError: After the last chunk, or as soon as there are too many bytes.
    """
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > part.size_bytes:
            break
        sha256.update(chunk)
        yield chunk
    if size != part.size_bytes or sha256.hexdigest() != part.digest:
        more = "more than " if size > part.size_bytes else ""
        raise CheckpointError(
            f"part '{part.name}': {more}{min(size, part.size_bytes)} bytes arrived with digest "
            f"{sha256.hexdigest()}, expected {part.size_bytes} with {part.digest}. "
            f"Send the part again."
        )


def header_end(beginning: bytes | bytearray) -> int | None:
    """Return where a safetensors file says that its header ends; None of fewer than 8 bytes."""
    if len(beginning) < _LENGTH_BYTES:
        return None
    return _LENGTH_BYTES + int.from_bytes(beginning[:_LENGTH_BYTES], "little")


def read_header(data: bytes | Path, *, size_bytes: int | None = None) -> tuple[TensorSpec, ...]:
    """Return the tensors that a safetensors file declares, in the file's order.

    Args:
        data: The file's bytes, or its path; only the header is read.
        size_bytes: How many bytes the file has, where `data` is but its beginning.

    Raises:
        CheckpointError: The file is not safetensors, is cut short or has bytes beside its tensors.
    """
    with _open(data) as stream:
        return _read_header(stream, _size(data) if size_bytes is None else size_bytes)


def verify_header(
    name: str, data: bytes | Path, *forms: Sequence[TensorSpec], size_bytes: int | None = None
) -> Form:
    """Check that the part `name` declares exactly the tensors of one of the `forms`.

    Args:
        name: For messages.
        data: As for `read_header`.
        forms: At least one, each in any order.
        size_bytes: As for `read_header`.

    Returns:
        The tensors in the file's order.

    Raises:
        CheckpointError: Naming the tensors that are missing, unexpected or of another kind; where
            there are several forms, compared with the nearest.
    """
    try:
        specs = read_header(data, size_bytes=size_bytes)
    except CheckpointError as error:
        raise CheckpointError(f"part '{name}': {error}") from error
    nearest = min(forms, key=lambda form: len(set(form) ^ set(specs)))
    got, want = ({spec.name: spec for spec in some} for some in (specs, nearest))
    faults = [f"missing {_names(want.keys() - got.keys())}"] if want.keys() - got.keys() else []
    faults += [f"unexpected {_names(got.keys() - want.keys())}"] if got.keys() - want.keys() else []
    changed = [key for key in sorted(want.keys() & got.keys()) if want[key] != got[key]]
    faults += [f"'{key}' is {_kind(got[key])}, expected {_kind(want[key])}" for key in changed[:4]]
    if faults:
        allowed = "tensors" if len(forms) == 1 else f"tensors, in any of {len(forms)} forms"
        raise CheckpointError(
            f"part '{name}' does not hold the manifest's {allowed}: {'; '.join(faults)}. "
            f"Both sides must run the same release and the same plan."
        )
    return specs


def verify_parts(ref: CheckpointRef, expected: Iterable[str]) -> None:
    """Check that a checkpoint lists exactly the `expected` part names and carries its own digest.

    Raises:
        CheckpointError: Naming the parts that are missing or unexpected.
    """
    got, want = [part.name for part in ref.parts], sorted(expected)
    if got != want:
        missing, extra = set(want) - set(got), set(got) - set(want)
        raise CheckpointError(
            f"the checkpoint has the parts {_names(got)}, expected {_names(want)} in this order "
            f"(missing {_names(missing)}, unexpected {_names(extra)}). "
            f"Both sides must run the same release and the same plan."
        )
    if ref.digest != digest_of(ref.parts):
        raise CheckpointError(
            f"the checkpoint says digest {ref.digest}, its parts give {digest_of(ref.parts)}. "
            f"Repeat the visit."
        )


def _read_header(stream: BinaryIO, size: int) -> tuple[TensorSpec, ...]:
    start = header_end(stream.read(_LENGTH_BYTES))
    if start is None or start > min(size, LONGEST_HEADER_BYTES):
        raise _not_safetensors(f"{size} bytes do not begin with a header and its length")
    text = stream.read(start - _LENGTH_BYTES)
    try:
        content = json.loads(text.decode("ascii"), object_pairs_hook=_unique)
        specs, spans = _declared(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _not_safetensors(f"its header cannot be read ({error})") from error
    bare = text.rstrip(b" ")
    is_padded = len(text) % _PADDING == 0 and len(text) - len(bare) < _PADDING
    if bare != _canonical(content, sort_keys=False) or not is_padded:
        raise _not_safetensors("its header has blanks or spellings that safetensors does not write")
    order = [(_DTYPE_ORDER.index(spec.dtype), spec.name) for spec in specs]
    if order != sorted(order):
        raise _not_safetensors("its tensors are not in the order that safetensors writes")
    end = 0
    for spec, (first, stop) in zip(specs, spans, strict=True):
        if first != end or stop - first != prod(spec.shape) * ITEM_BYTES[spec.dtype]:
            raise _not_safetensors(f"tensor '{spec.name}' has bytes {first} to {stop}")
        end = stop
    if start + end != size:
        raise _not_safetensors(f"it has {size} bytes, its header says {start + end}")
    return specs


def _declared(content: Any) -> tuple[tuple[TensorSpec, ...], list[tuple[int, int]]]:
    specs, spans = [], []
    for name, entry in content.items():
        if list(entry) != _ENTRY:  # in this order, as safetensors writes them
            raise ValueError(f"'{name}' is not a tensor")
        specs.append(_spec(name, entry["shape"], entry["dtype"]))
        start, stop = entry["data_offsets"]
        if type(start) is not int or type(stop) is not int:
            raise TypeError(f"offsets of '{name}' are not integers")
        spans.append((start, stop))
    return tuple(specs), spans


def _open(data: bytes | Path) -> BinaryIO:
    if not isinstance(data, Path):
        return BytesIO(data)
    try:
        return data.open("rb")
    except OSError as error:
        raise CheckpointError(
            f"'{data}' cannot be opened: {error.strerror}. Restore the file."
        ) from error


def _size(data: bytes | Path) -> int:
    return data.stat().st_size if isinstance(data, Path) else len(data)


def _specs(content: Any) -> Form:
    return tuple(_spec(name, shape, dtype) for name, shape, dtype in content)


def _spec(name: Any, shape: Any, dtype: Any) -> TensorSpec:
    if type(name) is not str or not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"tensor {name!r} of type {dtype!r}; types are {', '.join(ITEM_BYTES)}")
    if not isinstance(shape, list) or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"shape {shape!r} of tensor '{name}'")
    return TensorSpec(name=name, shape=tuple(shape), dtype=dtype)


def _spec_json(spec: TensorSpec) -> list[Any]:
    return [spec.name, list(spec.shape), spec.dtype]


def _by_name(specs: Sequence[TensorSpec]) -> Form:
    return tuple(sorted(specs, key=lambda spec: spec.name))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _canonical(content: Any, *, sort_keys: bool = True) -> bytes:
    return json.dumps(content, sort_keys=sort_keys, separators=(",", ":")).encode()


def _names(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = f" and {len(ordered) - 6} more" if len(ordered) > 6 else ""
    return ", ".join(f"'{name}'" for name in ordered[:6]) + rest if ordered else "none"


def _kind(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}"


def _not_safetensors(why: str) -> CheckpointError:
    return CheckpointError(f"not a safetensors file of tensors alone: {why}. Transfer it again.")
