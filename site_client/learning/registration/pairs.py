"""Which images are registered with each other, and the samples of a pair.

A site's cases stand in a ring, in the order of their names; each is the fixed one with the next few
as the moving ones. Where a site registers images of one person alone, each person's form a ring of
their own. Nothing is drawn, so the pairs are the same in every study; held-out cases have one
partner each, so that there are as many scores as cases.

Volumes are registered slice by slice in 2-D: a slice of the fixed volume with that of the moving
one at the same share of its depth.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from wardround.shared import seeds
from wardround.shared.errors import DataError
from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import Case, SiteData
from wardround.site_client.data.preprocess import Samples, to_samples
from wardround.site_client.learning.pool import Pool, labelled, side_by_side

Pair = tuple[Case, Case]  # the fixed case and the moving one


def training_pairs(cases: Sequence[Case], plan: StudyPlan, site_id: str) -> list[Pair]:
    """Return the pairs that a site trains on; see the module."""
    return _paired(cases, plan, site_id, plan.registration.partners)


def heldout_pairs(cases: Sequence[Case], plan: StudyPlan, site_id: str) -> list[Pair]:
    """Return the pairs that a site is scored on: each held-out case is the fixed one once."""
    return _paired(cases, plan, site_id, 1)


def pairing(plan: StudyPlan, sites: Sequence[SiteData]) -> dict[str, Any]:
    """Return what determines pairs and loss beside the cases themselves: settings and names."""
    names = [[case.case_id for case in site.train] for site in sites]
    return plan.model_dump(mode="json", include={"registration"}) | {"names": names}


def pair_pool(pairs: Sequence[tuple[Case, ...]], plan: StudyPlan, site_id: str) -> Pool:
    """Return samples of pairs: (N, 2C, *X) and targets (N, 2K, *X), those of the fixed image first.

    Slices on which neither image shows a class are left out, unless all are so. Where more are left
    than `registration.samples`, so many are drawn.
    """
    once = {id(case): to_samples(case, plan.task) for pair in pairs for case in pair}
    of_pairs = [(once[id(fixed)], once[id(moving)]) for fixed, moving in pairs]
    every = [
        (number, fixed_slice, moving_slice)
        for number, (fixed, moving) in enumerate(of_pairs)
        for fixed_slice, moving_slice in _same_depth(fixed, moving)
    ]
    shown = [
        (n, f, m)
        for n, f, m in every
        if of_pairs[n][0].labels_NX[f].any() or of_pairs[n][1].labels_NX[m].any()
    ]
    chosen = _drawn(shown or every, plan, site_id)
    return side_by_side(
        [
            labelled(
                torch.stack([of_pairs[p[0]][role].images_NCX[p[1 + role]] for p in chosen]),
                torch.stack([of_pairs[p[0]][role].labels_NX[p[1 + role]] for p in chosen]),
                len(plan.task.classes),
            )
            for role in (0, 1)
        ]
    )


def place_at_same_depth(place: int, depth: int, other_depth: int) -> int:
    """Return which slice of another volume lies at the same share of the depth as slice `place`."""
    return min(other_depth - 1, int((place + 0.5) / depth * other_depth))


def _same_depth(fixed: Samples, moving: Samples) -> Iterator[tuple[int, int]]:
    depth, other_depth = len(fixed.images_NCX), len(moving.images_NCX)
    return ((n, place_at_same_depth(n, depth, other_depth)) for n in range(depth))


def _drawn(
    places: list[tuple[int, int, int]], plan: StudyPlan, site_id: str
) -> list[tuple[int, int, int]]:
    most = plan.registration.samples
    if len(places) <= most:
        return places
    generator = torch.Generator().manual_seed(seeds.derive(plan.seed, "pairs", site_id))
    kept = torch.randperm(len(places), generator=generator)[:most]
    return [places[index] for index in sorted(kept.tolist())]


def _paired(cases: Sequence[Case], plan: StudyPlan, site_id: str, partners: int) -> list[Pair]:
    num_parts = plan.registration.within.get(site_id, 0)
    rings: defaultdict[tuple[str, ...], list[Case]] = defaultdict(list)
    for case in cases:
        rings[tuple(case.case_id.split("_")[:num_parts])].append(case)
    alone = [ring[0].case_id for ring in rings.values() if len(ring) == 1]
    if alone:
        raise DataError(
            f"site '{site_id}': case '{alone[0]}' ({len(alone)} such) has no other to be "
            f"registered with among the {len(cases)} cases on its side of the split. Keep two "
            f"images of a person, on one side of split.csv, or correct registration.within "
            f"(= {num_parts or 'not set'})."
        )
    return [
        (fixed, ring[(place + step) % len(ring)])
        for ring in rings.values()
        for place, fixed in enumerate(ring)
        for step in range(1, min(partners, len(ring) - 1) + 1)
    ]
