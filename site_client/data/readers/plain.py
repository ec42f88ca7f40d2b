"""Plain layout: `images/` and `labels/` with matching names, `fov/` masks where present."""

from pathlib import Path

from wardround.site_client.data.faults import Fault
from wardround.site_client.data.listing import ENDINGS, CaseFiles, Listing, files_by_stem


def recognises(folder: Path) -> bool:
    """Return whether `folder` holds `images/` or `labels/` and no `dataset.json`."""
    has_part = (folder / "images").is_dir() or (folder / "labels").is_dir()
    return has_part and not (folder / "dataset.json").is_file()


def listing(folder: Path) -> Listing:
    """List the cases of a plain folder; a case is every name met in `images/` or `labels/`."""
    images, image_faults = files_by_stem(folder / "images")
    labels, label_faults = files_by_stem(folder / "labels")
    fovs, fov_faults = files_by_stem(folder / "fov")
    faults = [*image_faults, *label_faults, *fov_faults]
    if not images and not labels:
        problem = f"no image found (endings read: {', '.join(ENDINGS)})"
        faults.append(Fault(file=folder / "images", problem=problem, remedy="Put the images there"))
    alone = sorted(images.keys() ^ labels.keys())
    faults += [_partner_missing(folder, stem, images, labels) for stem in alone]
    for stem in sorted(images.keys() - fovs.keys()) if fovs else ():
        problem = f"case '{stem}' has no field-of-view mask, others have one"
        remedy = "Add the mask, or remove the folder 'fov' to score whole images"
        faults.append(
            Fault(file=folder / "fov" / images[stem].name, problem=problem, remedy=remedy)
        )
    cases = tuple(
        CaseFiles(
            case_id=stem,
            image_files=(images[stem],),
            label_file=labels[stem],
            fov_file=fovs.get(stem),
        )
        for stem in sorted(images.keys() & labels.keys())
    )
    return Listing(layout="plain", cases=cases, faults=tuple(faults))


def _partner_missing(
    folder: Path, stem: str, images: dict[str, Path], labels: dict[str, Path]
) -> Fault:
    kind, there = ("label", images) if stem in images else ("image", labels)
    return Fault(
        file=folder / f"{kind}s" / there[stem].name,
        problem=f"missing, while '{there[stem].relative_to(folder)}' is there",
        remedy=f"Add the {kind} under the same name, or remove the case",
    )
