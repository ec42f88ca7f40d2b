"""Divide one folder of cases into several sites, so that cases of one group stay together.

A group is what a pattern finds in the case's name, such as the patient. Groups are dealt to the
sites in turn, in the order of their names and those of one split word after those of another, so
each site gets its share of what is trained on and of what is held out. The sites' folders have the
plain layout and hold copies; where there is a `split.csv`, each gets one with its cases' words.
"""

import csv
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wardround.shared.errors import DataError
from wardround.site_client.data import keypoints
from wardround.site_client.data.faults import error_of
from wardround.site_client.data.listing import CaseFiles, ending_of
from wardround.site_client.data.readers import list_cases
from wardround.site_client.data.split import SPLIT_FILE, words_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one site got: its folder, and how many groups and cases."""

    folder: Path
    num_groups: int
    num_cases: int


def divide_folder(
    folder: Path, sites: Sequence[str], group: re.Pattern[str], out: Path
) -> dict[str, Share]:
    """Write one folder a site under `out`, with copies of the files.

    Args:
        folder: Cases with one image file each, in any layout that is read.
        sites: Their names, in the order in which they are dealt groups.
        group: Finds the group in a case's name: what its first bracket matches, or all of it.
        out: Gets one new folder a site.

    Returns:
        Site -> what it got, in the order of `sites`.

    Raises:
        DataError: The folder is at fault, a name has no group, a group has several split words,
            there are fewer groups than sites, or a site's folder is there already.
    """
    listing = keypoints.with_points(list_cases(folder), folder)
    words, faults = words_of(folder)
    if listing.faults or faults:
        raise error_of(folder.name, folder, [*listing.faults, *faults])
    for site in sites:
        if (out / site).exists():
            raise DataError(f"'{out / site}' is there already. Remove it or choose another --out.")
    groups = _groups_of(listing.cases, group)
    dealt = deal({name: _word_of(name, cases, words) for name, cases in groups.items()}, sites)
    for site, names in dealt.items():
        _write(out / site, [case for name in names for case in groups[name]], words)
    return {
        site: Share(
            folder=out / site,
            num_groups=len(names),
            num_cases=sum(len(groups[name]) for name in names),
        )
        for site, names in dealt.items()
    }


def deal(words: Mapping[str, str], sites: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return site -> its groups, dealt in turn, in the order of words and then of names.

    Args:
        words: Group -> its split word; the empty word where there is none.
        sites: At least one.

    Raises:
        DataError: There are fewer groups than sites.
    """
    if len(words) < len(sites):
        raise DataError(
            f"{len(words)} groups cannot be dealt to {len(sites)} sites. Name fewer sites, or a "
            f"pattern for --group that tells more groups apart."
        )
    order = sorted(words, key=lambda name: (words[name], name))
    return {site: tuple(order[place :: len(sites)]) for place, site in enumerate(sites)}


def _groups_of(cases: Sequence[CaseFiles], group: re.Pattern[str]) -> dict[str, list[CaseFiles]]:
    groups: dict[str, list[CaseFiles]] = {}
    for case in cases:
        found = group.search(case.case_id)
        if found is None:
            raise DataError(
                f"case '{case.case_id}' has no group: '{group.pattern}' is not in its name. "
                f"Give a pattern for --group that every name holds."
            )
        if len(case.image_files) != 1:
            raise DataError(
                f"case '{case.case_id}' has {len(case.image_files)} image files, expected one: "
                f"the plain layout has no channels in files of their own. Join them first."
            )
        groups.setdefault(found[1] if group.groups else found[0], []).append(case)
    return groups


def _word_of(name: str, cases: Sequence[CaseFiles], words: Mapping[str, str]) -> str:
    found = {words.get(case.case_id, "") for case in cases}
    if len(found) > 1:
        raise DataError(
            f"group '{name}' has cases of several split words ({', '.join(sorted(found))}), which "
            f"no site could keep apart. Give the group one word in {SPLIT_FILE}."
        )
    return found.pop()


def _write(folder: Path, cases: Sequence[CaseFiles], words: Mapping[str, str]) -> None:
    for case in cases:
        files = {"images": case.image_files[0], "labels": case.label_file}
        if case.fov_file is not None:
            files["fov"] = case.fov_file
        if case.points_file is not None:
            files[keypoints.FOLDERS[0]] = case.points_file
        for kind, file in files.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            ending = ending_of(file.name) or keypoints.ENDING
            shutil.copyfile(file, folder / kind / f"{case.case_id}{ending}")
    if words:
        with (folder / SPLIT_FILE).open("w", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(["case", "split"])
            rows.writerows(
                [case.case_id, words[case.case_id]]
                for case in sorted(cases, key=lambda case: case.case_id)
                if case.case_id in words
            )
