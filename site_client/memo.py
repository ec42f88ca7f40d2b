"""Remember what a site has computed, by what it was computed from.

Each phase of a visit is a pure function of its inputs (checkpoint digests, data digest, settings,
seed), so its result may be kept under the digest of those inputs. A visit that was cut goes on
after its last finished phase, and studies of one comparison that train the same denoiser train it
once. What is kept stays in the site's own workspace; losing it costs time and nothing else.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "wardround.memo.5"
LINEAGE = "lineage"  # the sites that a result was made from: a key's value, kept with the result
UNKNOWN = ""  # among the sites of a result that does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a phase produced: tensors and numbers.

    `saved_seconds` is 0 where it was computed just now; where it was kept, what computing it took.
    """

    tensors: dict[str, Tensor]
    numbers: dict[str, float]
    saved_seconds: float = 0.0


class Memo:
    """A folder of results, each in a file named by the digest of what it was computed from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def recall(self, key: Mapping[str, Any], compute: Callable[[], Result]) -> Result:
        """Return the result kept under `key`, or compute and keep it.

        Args:
            key: Plain JSON values that determine the result completely.
            compute: Called where nothing usable is kept.
        """
        path = self.folder / f"{self._digest(key)}.safetensors"
        kept = _load(path)
        if kept is not None:
            return kept
        start = time.perf_counter()
        result = compute()
        self._save(path, result, time.perf_counter() - start, key.get(LINEAGE, [UNKNOWN]))
        return result

    def forget(self, sites: Collection[str]) -> int:
        """Delete every result that was made from what one of `sites` gave; return how many.

        A result whose file does not say which sites it was made from is deleted too.
        """
        if not sites or not self.folder.is_dir():
            return 0
        made = [
            path
            for path in self.folder.iterdir()
            if path.suffix != ".safetensors" or not _lineage(path).isdisjoint({*sites, UNKNOWN})
        ]
        for path in made:
            path.unlink(missing_ok=True)
        return len(made)

    def _digest(self, key: Mapping[str, Any]) -> str:
        text = json.dumps({"format": FORMAT, **key}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def _save(self, path: Path, result: Result, seconds: float, lineage: Sequence[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        os.close(handle)
        tensors = {key: tensor.contiguous() for key, tensor in result.tensors.items()}
        metadata = {
            "numbers": json.dumps(result.numbers),
            "seconds": json.dumps(seconds),
            LINEAGE: json.dumps(list(lineage)),
        }
        save_file(tensors, name, metadata=metadata)
        Path(name).replace(path)


def _load(path: Path) -> Result | None:
    """Return a kept result, or None where there is none or the file is damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
            return Result(
                tensors=tensors,
                numbers=json.loads(metadata["numbers"]),
                saved_seconds=json.loads(metadata["seconds"]),
            )
    except (SafetensorError, OSError, KeyError, ValueError):
        return None


def _lineage(path: Path) -> frozenset[str]:
    """Return the sites that a kept result was made from."""
    try:
        with safe_open(path, framework="pt") as file:
            return frozenset(json.loads(file.metadata()[LINEAGE]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return frozenset({UNKNOWN})
