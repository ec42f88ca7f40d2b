"""What trails say of each other: the anchors that a site and a coordinator hold of one another.

Each holder could rewrite its own trail with its own key. What it told the other side of it, it
cannot take back: a line that was dropped, changed or cut off since is named by the other's anchor.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wardround.shared.trail_lines import Line, LineKind

SITE = "wardround://site/"
COORDINATOR = "wardround://coordinator/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """A line that is not what the other side was told of it.

    Attributes:
        trail: Place of its trail among those compared.
        line: The line that is missing or another one.
        told_in: Place of the trail that says so.
        told_by: The line that says so.
        why: What is wrong.
    """

    trail: int
    line: int
    told_in: int
    told_by: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of comparing trails.

    Attributes:
        num_anchors: How many anchors were held against the trail that they are of.
        disagreements: Those that did not fit, in the order of the trails that hold them.
    """

    num_anchors: int
    disagreements: tuple[Disagreement, ...]


def compare(trails: Sequence[Sequence[Line]]) -> Comparison:
    """Hold every anchor against the trail that it is of, where that is among those given.

    Args:
        trails: The lines of each trail, found sound by itself; the first line names the holder.
    """
    coordinators = {
        (line.facts["study"], line.facts["plan"]): place
        for place, lines in enumerate(trails)
        for line in lines
        if line.kind == LineKind.JOURNALLED and line.facts["event"] == "StudyCreated"
    }
    sites = {
        str(lines[0].facts["holder"]).removeprefix(SITE): place
        for place, lines in enumerate(trails)
        if lines and str(lines[0].facts["holder"]).startswith(SITE)
    }
    num_anchors, found = 0, []
    for place, lines in enumerate(trails):
        for line, of in _anchors(lines, sites, coordinators):
            num_anchors += 1
            seq, digest = line.facts["anchor"]
            if (why := _why_not(trails[of], seq, digest)) is not None:
                found.append(
                    Disagreement(trail=of, line=seq, told_in=place, told_by=line.seq, why=why)
                )
    found += _never_released(trails, sites)
    return Comparison(num_anchors=num_anchors, disagreements=tuple(found))


def _anchors(
    lines: Sequence[Line], sites: Mapping[str, int], coordinators: Mapping[tuple[str, str], int]
) -> Iterator[tuple[Line, int]]:
    """Yield each line with an anchor, and the place of the trail that the anchor is of."""
    for line in lines:
        if not line.facts.get("anchor"):
            continue
        if line.kind == LineKind.JOURNALLED and line.facts["site_id"] in sites:
            yield line, sites[line.facts["site_id"]]
        elif line.kind == LineKind.ORDERED:
            of = coordinators.get((line.facts["study"], line.facts["plan"]))
            if of is not None:
                yield line, of


def _why_not(lines: Sequence[Line], seq: int, digest: str) -> str | None:
    if seq > len(lines):
        return "is missing, and was there"
    if lines[seq - 1].digest != digest:
        return "is another one than it was, or follows on one that is"
    return None


def _never_released(
    trails: Sequence[Sequence[Line]], sites: Mapping[str, int]
) -> Iterator[Disagreement]:
    """Yield what a coordinator says arrived and the site's trail does not say left."""
    for place, lines in enumerate(trails):
        for line in lines:
            site = sites.get(str(line.facts.get("site_id")))
            if line.kind != LineKind.JOURNALLED or site is None or "report" not in line.facts:
                continue
            left = {
                released.facts["digest"]
                for released in trails[site]
                if released.kind == LineKind.RELEASED
            }
            if line.facts["report"] not in left:
                yield Disagreement(
                    trail=site,
                    line=len(trails[site]),
                    told_in=place,
                    told_by=line.seq,
                    why="and no other line says that the report left which arrived there",
                )
