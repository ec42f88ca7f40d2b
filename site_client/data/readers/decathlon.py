"""Medical Segmentation Decathlon layout (Antonelli et al. 2022, arXiv:2106.05735).

`dataset.json` with `"training": [{"image": "./imagesTr/x.nii.gz", "label": "./labelsTr/x.nii.gz"}]`
and `"labels": {"0": "background", "1": "..."}` and `"modality": {"0": "MRI"}`. Several modalities
are the last axis of a 4-D image. The cases under `"test"` have no labels and are left out.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from wardround.site_client.data.faults import Fault
from wardround.site_client.data.listing import CaseFiles, Listing, ending_of, stem_of
from wardround.site_client.data.readers.description import foreground, read_description


def recognises(folder: Path) -> bool:
    """Return whether `folder` holds a `dataset.json` with a `training` list."""
    description = read_description(folder)
    return not isinstance(description, Fault) and isinstance(description.get("training"), list)


def listing(folder: Path) -> Listing:
    """List the cases under `training`, named after their image files."""
    description = read_description(folder)
    if isinstance(description, Fault):
        return Listing(layout="Decathlon", cases=(), faults=(description,))
    file = folder / "dataset.json"
    label_names, faults = _label_names(description.get("labels"), file)
    cases: dict[str, CaseFiles] = {}
    for number, entry in enumerate(description["training"]):
        case = _case(folder, number, entry)
        if isinstance(case, list):
            faults += case
        elif case.case_id in cases:
            problem = f"training[{number}]: case '{case.case_id}' is listed twice"
            faults.append(Fault(file=file, problem=problem, remedy="Keep one of them"))
        else:
            cases[case.case_id] = case
    if not cases and not faults:
        remedy = 'List the cases as {"image": ..., "label": ...}'
        faults.append(Fault(file=file, problem="'training' is empty", remedy=remedy))
    modality = description.get("modality")
    return Listing(
        layout="Decathlon",
        cases=tuple(cases[case_id] for case_id in sorted(cases)),
        label_names=label_names,
        num_channels=len(modality) if isinstance(modality, dict) and modality else None,
        faults=tuple(faults),
        notes=("the cases under 'test' are left out: they have no labels",)
        if description.get("test")
        else (),
    )


def _case(folder: Path, number: int, entry: object) -> CaseFiles | list[Fault]:
    description = folder / "dataset.json"
    if not isinstance(entry, dict) or not {"image", "label"} <= entry.keys():
        problem = f"training[{number}] is not an object with 'image' and 'label'"
        remedy = 'Write {"image": "./imagesTr/x.nii.gz", "label": "./labelsTr/x.nii.gz"}'
        return [Fault(file=description, problem=problem, remedy=remedy)]
    files: list[Path] = []
    faults: list[Fault] = []
    for kind in ("image", "label"):
        relative = PurePosixPath(str(entry[kind]))
        if relative.is_absolute() or ".." in relative.parts or not ending_of(relative.name):
            problem = (
                f"training[{number}]: '{relative}' is not a .nii.gz, .nii or .png in this folder"
            )
            remedy = "Name a file below the folder of dataset.json"
            faults.append(Fault(file=description, problem=problem, remedy=remedy))
        elif not (folder / relative).is_file():
            problem = f"{kind} of training[{number}] is missing"
            remedy = f"Add the {kind}, or remove the entry from dataset.json"
            ending = ending_of(relative.name)
            if (folder / relative).with_name(f"{stem_of(relative.name)}_0000{ending}").is_file():
                remedy = "This is nnU-Net's first layout: describe it as nnU-Net v2 does"
            faults.append(Fault(file=folder / relative, problem=problem, remedy=remedy))
        files.append(folder / relative)
    if faults:
        return faults
    image, label = files
    return CaseFiles(case_id=stem_of(image.name), image_files=(image,), label_file=label)


def _label_names(labels: Any, file: Path) -> tuple[dict[str, int] | None, list[Fault]]:
    if not isinstance(labels, dict):
        remedy = 'Write for example "labels": {"0": "background", "1": "prostate"}'
        return None, [Fault(file=file, problem="'labels' is missing", remedy=remedy)]
    pairs: dict[str, object] = {
        str(name): int(value) if str(value).isdecimal() else value for value, name in labels.items()
    }
    if len(pairs) != len(labels):
        problem = "two labels share a name"
        return None, [Fault(file=file, problem=problem, remedy="Give every class its own name")]
    return foreground(pairs, file)
