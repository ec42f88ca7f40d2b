"""Faults of a data set: each names a file, what is wrong with it and how to mend it.

Reading never stops at the first fault. Everything that looks at files returns its faults as values,
and only the outermost function turns the whole list into one `DataError`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wardround.shared.errors import DataError

MAX_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a data set. `problem` and `remedy` are sentences without a full stop."""

    file: Path
    problem: str
    remedy: str

    def line(self, folder: Path) -> str:
        """Return the fault as one line; a file inside `folder` is named relative to it."""
        inside = self.file != folder and self.file.is_relative_to(folder)
        name = self.file.relative_to(folder) if inside else self.file
        return f"{name}: {self.problem}. {self.remedy}."


def error_of(site_id: str, folder: Path, faults: Sequence[Fault]) -> DataError:
    """Return one error that lists the first twenty of `faults` and counts the others."""
    lines = [fault.line(folder) for fault in faults[:MAX_SHOWN]]
    if len(faults) > MAX_SHOWN:
        lines.append(f"and {len(faults) - MAX_SHOWN} more; mend these first")
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return DataError(f"site '{site_id}': {count} in '{folder}':\n  " + "\n  ".join(lines))
