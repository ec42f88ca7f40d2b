"""The layouts of a data set that can be read, one reader a file.

A reader has `recognises(folder)` and `listing(folder)`. It looks at names and descriptions only;
`wardround.site_client.data.images` opens the files. Adding a layout is one file and one line here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wardround.site_client.data.faults import Fault
from wardround.site_client.data.listing import Listing
from wardround.site_client.data.readers import decathlon, nnunet, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One layout: what it looks like, how to tell it, how to list its cases."""

    looks_like: str
    recognises: Callable[[Path], bool]
    listing: Callable[[Path], Listing]


READERS: tuple[Reader, ...] = (
    Reader(
        looks_like="Medical Segmentation Decathlon: dataset.json with a 'training' list",
        recognises=decathlon.recognises,
        listing=decathlon.listing,
    ),
    Reader(
        looks_like="nnU-Net v2: dataset.json with 'channel_names', imagesTr/CASE_0000.ext, "
        "labelsTr/CASE.ext",
        recognises=nnunet.recognises,
        listing=nnunet.listing,
    ),
    Reader(
        looks_like="plain: images/NAME.ext and labels/NAME.ext",
        recognises=plain.recognises,
        listing=plain.listing,
    ),
)


def reader_of(folder: Path) -> Reader | None:
    """Return the reader that recognises `folder`, or None."""
    return next((reader for reader in READERS if reader.recognises(folder)), None)


def list_cases(folder: Path) -> Listing:
    """Return what lies in `folder`; where no reader recognises it, a listing of one fault."""
    if not folder.is_dir():
        remedy = "Name the folder of the site; a study file names it under [simulation]"
        fault = Fault(file=folder, problem="there is no such folder", remedy=remedy)
        return Listing(layout="none", cases=(), faults=(fault,))
    reader = reader_of(folder)
    if reader is None:
        looks = "; ".join(reader.looks_like for reader in READERS)
        remedy = f"Arrange it as one of: {looks}"
        fault = Fault(file=folder, problem="the layout is not known", remedy=remedy)
        return Listing(layout="none", cases=(), faults=(fault,))
    return reader.listing(folder)
