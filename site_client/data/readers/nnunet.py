"""nnU-Net v2 layout (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

`dataset.json` with `channel_names`, `labels`, `numTraining`, `file_ending`; one image file a
channel, `imagesTr/CASE_0000.ext`; `labelsTr/CASE.ext`. `imagesTs` with `labelsTs` are the held-out
cases. A natural image may keep all its channels in one file `CASE_0000.png`.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from wardround.site_client.data.faults import Fault
from wardround.site_client.data.listing import (
    ENDINGS,
    CaseFiles,
    Listing,
    ending_of,
    files_by_stem,
)
from wardround.site_client.data.readers.description import foreground, read_description

CHANNEL_FILE = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def recognises(folder: Path) -> bool:
    """Return whether `folder` holds a `dataset.json` that is not the Decathlon's, or `imagesTr`."""
    if not (folder / "dataset.json").is_file():
        return (folder / "imagesTr").is_dir()
    description = read_description(folder)
    return isinstance(description, Fault) or not isinstance(description.get("training"), list)


def listing(folder: Path) -> Listing:
    """List the cases of an nnU-Net v2 data set, those of `imagesTs` with `labelsTs` as held-out."""
    description = read_description(folder)
    if isinstance(description, Fault):
        return Listing(layout="nnU-Net v2", cases=(), faults=(description,))
    file = folder / "dataset.json"
    label_names, faults = _label_names(description, file)
    num_channels, channel_faults = _num_channels(description, file)
    train, train_faults = _part(folder, "Tr")
    test, test_faults, notes = _heldout(folder)
    faults += [*channel_faults, *_ending_faults(description, file), *train_faults, *test_faults]
    if not train_faults:
        faults += _count_faults(description, len(train), file)
    for case_id in sorted({case.case_id for case in train} & {case.case_id for case in test}):
        problem = f"case '{case_id}' is in imagesTr as well"
        faults.append(Fault(file=folder / "imagesTs", problem=problem, remedy="Keep one of them"))
    return Listing(
        layout="nnU-Net v2",
        cases=tuple(sorted([*train, *test], key=lambda case: case.case_id)),
        heldout_ids=frozenset(case.case_id for case in test),
        label_names=label_names,
        num_channels=num_channels,
        faults=tuple(faults),
        notes=notes,
    )


def _part(folder: Path, part: str) -> tuple[list[CaseFiles], list[Fault]]:
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    channels_of, faults = _images_by_case(images)
    label_of, label_faults = files_by_stem(labels)
    faults += label_faults
    cases: list[CaseFiles] = []
    for case_id in sorted(channels_of.keys() | label_of.keys()):
        channels = channels_of.get(case_id, {})
        label = label_of.get(case_id)
        if label is None:
            name = f"{case_id}{ending_of(next(iter(channels.values())).name)}"
            faults.append(_missing(labels / name, "label", case_id))
        elif not channels:
            name = f"{case_id}_0000{ending_of(label.name)}"
            faults.append(_missing(images / name, "image", case_id))
        elif sorted(channels) != list(range(len(channels))):
            problem = f"case '{case_id}' has channel files {sorted(channels)}, expected 0, 1, ..."
            remedy = "Add the channel that is missing"
            faults.append(Fault(file=images, problem=problem, remedy=remedy))
        else:
            files = tuple(channels[number] for number in sorted(channels))
            cases.append(CaseFiles(case_id=case_id, image_files=files, label_file=label))
    if not cases and not faults:
        problem = f"no case found (endings read: {', '.join(ENDINGS)})"
        faults.append(Fault(file=images, problem=problem, remedy="Put the images there"))
    return cases, faults


def _images_by_case(folder: Path) -> tuple[dict[str, dict[int, Path]], list[Fault]]:
    files, faults = files_by_stem(folder)
    channels_of: dict[str, dict[int, Path]] = defaultdict(dict)
    for stem, path in files.items():
        match = CHANNEL_FILE.match(stem)
        if match:
            channels_of[match["case"]][int(match["channel"])] = path
        else:
            problem = "the file name has no channel number"
            remedy = f"Name it '{stem}_0000{ending_of(path.name)}'"
            faults.append(Fault(file=path, problem=problem, remedy=remedy))
    return channels_of, faults


def _missing(file: Path, kind: str, case_id: str) -> Fault:
    return Fault(
        file=file,
        problem=f"{kind} of case '{case_id}' is missing",
        remedy=f"Add the {kind} under this name, or remove the case",
    )


def _heldout(folder: Path) -> tuple[list[CaseFiles], list[Fault], tuple[str, ...]]:
    has_images, has_labels = (any(files_by_stem(folder / n)[0]) for n in ("imagesTs", "labelsTs"))
    if has_labels:
        return *_part(folder, "Ts"), ()
    if has_images:
        return [], [], ("imagesTs is left out: without labelsTs its cases cannot be scored",)
    return [], [], ()


def _label_names(
    description: dict[str, Any], file: Path
) -> tuple[dict[str, int] | None, list[Fault]]:
    labels = description.get("labels")
    if not isinstance(labels, dict):
        remedy = 'Write for example "labels": {"background": 0, "prostate": 1}'
        return None, [Fault(file=file, problem="'labels' is missing", remedy=remedy)]
    return foreground(labels, file)


def _num_channels(description: dict[str, Any], file: Path) -> tuple[int | None, list[Fault]]:
    channels = description.get("channel_names")
    if not isinstance(channels, dict) or not channels:
        remedy = 'Write for example "channel_names": {"0": "T2"}'
        return None, [Fault(file=file, problem="'channel_names' is missing", remedy=remedy)]
    return len(channels), []


def _ending_faults(description: dict[str, Any], file: Path) -> list[Fault]:
    ending = description.get("file_ending")
    if isinstance(ending, str) and ending.lower() in ENDINGS:
        return []
    problem = f"'file_ending' is {ending!r}, expected one of {', '.join(ENDINGS)}"
    return [Fault(file=file, problem=problem, remedy="Write the ending the files have")]


def _count_faults(description: dict[str, Any], num_cases: int, file: Path) -> list[Fault]:
    declared = description.get("numTraining")
    if declared is None or declared == num_cases:
        return []
    problem = f"'numTraining' is {declared!r}, but imagesTr and labelsTr hold {num_cases} cases"
    remedy = "Add the cases that are missing, or correct the number"
    return [Fault(file=file, problem=problem, remedy=remedy)]
