"""A buffer of fixed size in which every sample of a stream has the same chance to be kept.

Algorithm R (Vitter 1985): the first samples fill the slots; sample n is then taken with probability
size / n, in the place of one kept at random, and changes nothing where it is not taken. The stream
is every earlier site's training samples in the order of the visits, each site's once and in random
order. So which samples are kept follows from the seed and the sites visited, and a visit that is
made again, or resumed, replays the same ones.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch

from wardround.shared import seeds
from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.exemplars import EarlierSite
from wardround.site_client.learning.pool import Pool
from wardround.site_client.learning.task_kinds import kind_of

_T = TypeVar("_T")


def in_reservoir(earlier: Sequence[EarlierSite], plan: StudyPlan) -> list[Pool]:
    """Return what the buffer holds of each earlier site; a site of which nothing is left has none.

    Args:
        earlier: The sites in the order of their visits.
        plan: Size of the buffer (`method.samcl_buffer`), seed and task.
    """
    slots: list[tuple[int, int]] = []
    pools, num_seen = [], 0
    for number, site in enumerate(earlier):
        seed = seeds.derive(plan.seed, "reservoir", site.site_id)
        generator = torch.Generator().manual_seed(seed)
        pool = kind_of(plan.task).samples(site.cases, plan, site.site_id)
        for index in torch.randperm(len(pool), generator=generator).tolist():
            offer(slots, (number, index), num_seen, plan.method.samcl_buffer, generator)
            num_seen += 1
        pools.append(pool)
    kept = [sorted(i for owner, i in slots if owner == n) for n in range(len(pools))]
    return [pool.select(places) for pool, places in zip(pools, kept, strict=True) if places]


def offer(slots: list[_T], item: _T, num_seen: int, size: int, generator: torch.Generator) -> None:
    """Offer the next item of a stream to a reservoir, in place.

    Args:
        slots: What is kept, at most `size` items.
        item: The next one.
        num_seen: How many were offered before.
        size: How many are kept.
        generator: The stream of the draw.
    """
    if len(slots) < size:
        slots.append(item)
        return
    place = int(torch.randint(num_seen + 1, (1,), generator=generator))
    if place < size:
        slots[place] = item
