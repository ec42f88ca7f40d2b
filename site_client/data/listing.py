"""What lies in a site's folder, before any image is opened: cases, their files, what is missing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wardround.site_client.data.faults import Fault

ENDINGS = (".nii.gz", ".nii", ".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFiles:
    """The files of one case. Several image files are channels, in order."""

    case_id: str
    image_files: tuple[Path, ...]
    label_file: Path
    fov_file: Path | None = None
    points_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The cases of one site in the order of their ids.

    Attributes:
        cases: Those with both an image and a label; what lacks one is among `faults`.
        heldout_ids: Cases that the layout itself sets apart for evaluation (may be empty).
        label_names: Foreground name -> label value, where the layout says so.
        num_channels: Image channels, where the layout says so.
        notes: Things worth knowing that stop nothing, such as test images without labels.
    """

    layout: str
    cases: tuple[CaseFiles, ...]
    heldout_ids: frozenset[str] = frozenset()
    label_names: Mapping[str, int] | None = None
    num_channels: int | None = None
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()


def ending_of(name: str) -> str | None:
    """Return the ending of a file name that can be read, as it is spelt there, else None."""
    for ending in ENDINGS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[-len(ending) :]
    return None


def stem_of(name: str) -> str:
    """Return a file name without the ending that `ending_of` finds; dots in it stay."""
    ending = ending_of(name)
    return name[: -len(ending)] if ending else name


def files_by_stem(folder: Path) -> tuple[dict[str, Path], list[Fault]]:
    """Return the readable files of a folder by their stem, and a fault for each stem met twice.

    Hidden files and files of other endings are passed over; a folder that does not exist is empty.
    """
    found: dict[str, Path] = {}
    faults: list[Fault] = []
    for path in _files(folder):
        stem = stem_of(path.name)
        if stem in found:
            problem = f"case '{stem}' has two files, '{found[stem].name}' and '{path.name}'"
            faults.append(Fault(file=path, problem=problem, remedy="Keep one of them"))
        found.setdefault(stem, path)
    return found, faults


def _files(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return ()
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if ending_of(path.name) and path.is_file())
