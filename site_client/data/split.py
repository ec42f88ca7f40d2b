"""Which cases of a site are trained on and which are kept for evaluation.

The first of these that applies:

1. `split.csv` in the site's folder, or beside it in the parent folder for several sites. Columns
   `case`, `split` and, in the parent's file, `site` (the name of the site's folder); `split` is one
   of train, val, test. `train` is trained on, `test` is held out; `val` is trained on, unless the
   site has no `test` row: then `val` is held out. Every case has exactly one row.
2. The layout's own held-out cases (nnU-Net's `imagesTs` with `labelsTs`).
3. A share of the cases, chosen by the SHA-256 of their ids: it does not depend on the study's seed,
   the folder or the machine, and adding a case moves few others.

Which cases belong to one person cannot be told from file names: where a person has several, write a
`split.csv` that keeps them together.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wardround.site_client.data.faults import Fault
from wardround.site_client.data.listing import Listing

SPLIT_FILE = "split.csv"
WORDS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The case ids of either side, sorted."""

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    origin: str
    faults: tuple[Fault, ...] = ()


def divide(listing: Listing, folder: Path, heldout_fraction: float) -> Split:
    """Return the split of a site's cases by the rules at the top of this file.

    Args:
        listing: The site's cases.
        folder: The site's folder, for `split.csv`.
        heldout_fraction: Share of the cases that rule 3 keeps for evaluation; at least one case
            lands on either side where there are two.
    """
    ids = [case.case_id for case in listing.cases]
    written = _file_of(folder)
    if written is not None:
        file, site = written
        return _from_file(file, listing, site=site)
    if listing.heldout_ids:
        return _split(ids, listing.heldout_ids, origin="layout", where=folder)
    return _split(ids, _chosen(ids, heldout_fraction), origin="chosen", where=folder)


def words_of(folder: Path) -> tuple[dict[str, str], list[Fault]]:
    """Return case id -> train, val or test as a `split.csv` says (rule 1), and what is wrong in it.

    Both are empty where there is no such file.
    """
    written = _file_of(folder)
    return _words_by_case(*written) if written is not None else ({}, [])


def _file_of(folder: Path) -> tuple[Path, str | None] | None:
    """Return the `split.csv` that holds for a folder, and the site whose rows of it count."""
    own, beside = folder / SPLIT_FILE, folder.parent / SPLIT_FILE
    if own.is_file():
        return own, None
    if beside.is_file():
        return beside, folder.name or folder.resolve().name
    return None


def _chosen(ids: Sequence[str], fraction: float) -> frozenset[str]:
    count = max(1, min(len(ids) - 1, round(len(ids) * fraction)))
    ranked = sorted(ids, key=lambda case_id: hashlib.sha256(case_id.encode()).digest())
    return frozenset(ranked[:count])


def _split(ids: Sequence[str], heldout: frozenset[str], *, origin: str, where: Path) -> Split:
    train = tuple(case_id for case_id in ids if case_id not in heldout)
    kept = tuple(case_id for case_id in ids if case_id in heldout)
    faults = []
    for side, cases in (("training", train), ("held-out", kept)):
        if ids and not cases:
            problem = f"no {side} case is left of {len(ids)}"
            remedy = "Write a split.csv (case,split) with train and test rows"
            faults.append(Fault(file=where, problem=problem, remedy=remedy))
    return Split(train=train, heldout=kept, origin=origin, faults=tuple(faults))


def _from_file(file: Path, listing: Listing, *, site: str | None) -> Split:
    ids = [case.case_id for case in listing.cases]
    words, faults = _words_by_case(file, site)
    # A case that lacks a file is already among the listing's faults: naming it once is enough.
    for case_id in sorted(words.keys() - set(ids)) if not listing.faults else ():
        problem = f"case '{case_id}' has a row, but not both an image and a label"
        faults.append(Fault(file=file, problem=problem, remedy="Add its files or remove the row"))
    for case_id in sorted(set(ids) - words.keys()) if words else ():
        remedy = f"Add a row with one of: {', '.join(WORDS)}"
        faults.append(Fault(file=file, problem=f"case '{case_id}' has no row", remedy=remedy))
    held_word = "test" if "test" in words.values() else "val"
    heldout = frozenset(case_id for case_id, word in words.items() if word == held_word)
    if faults:
        return Split(train=(), heldout=(), origin=str(file), faults=tuple(faults))
    return _split(ids, heldout, origin=str(file), where=file)


def _words_by_case(file: Path, site: str | None) -> tuple[dict[str, str], list[Fault]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        remedy = "Save it as a UTF-8 file with commas"
        return {}, [Fault(file=file, problem=f"cannot be read ({error})", remedy=remedy)]
    needed = {"case", "split"} | ({"site"} if site else set())
    columns = set(rows[0]) if rows else set()
    if not needed <= columns:
        found = ", ".join(sorted(str(column) for column in columns)) or "no row"
        problem = f"columns {', '.join(sorted(needed))} are needed, found {found}"
        return {}, [Fault(file=file, problem=problem, remedy="Name them in the first line")]
    mine = [(n, row) for n, row in enumerate(rows, 2) if site is None or row["site"] == site]
    if not mine:
        sites = ", ".join(sorted({str(row["site"]) for row in rows})) if site else "none"
        remedy = f"Add its rows, or rename the folder (sites there: {sites})"
        return {}, [Fault(file=file, problem=f"no row for site '{site}'", remedy=remedy)]
    words: dict[str, str] = {}
    faults: list[Fault] = []
    for number, row in mine:
        case_id, word = (row["case"] or "").strip(), (row["split"] or "").strip().lower()
        if word not in WORDS:
            problem = f"line {number}: split is '{word}', expected one of {', '.join(WORDS)}"
            faults.append(Fault(file=file, problem=problem, remedy="Write one of these words"))
        if case_id in words:
            problem = f"line {number}: case '{case_id}' has a second row"
            faults.append(Fault(file=file, problem=problem, remedy="Keep one of them"))
        words[case_id] = word
    return words, faults
