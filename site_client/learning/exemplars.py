"""Real cases that a buffer method keeps of earlier sites, as pools. Simulation only.

A visit is given every earlier site's training cases and picks those that the method would have
kept; which they are depends on the seed and on the sites visited up to then alone, so that every
later visit replays the same ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from wardround.shared import seeds
from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.inference import logits
from wardround.site_client.learning.pool import Pool
from wardround.site_client.learning.task_kinds import Specimen, kind_of


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierSite:
    """What there is to keep of a site.

    Attributes:
        site_id: Its name.
        cases: Its training cases.
        segmenter: The network as it left the site; None where it does not travel along.
    """

    site_id: str
    cases: Sequence[Case]
    segmenter: nn.Module | None

    @property
    def network(self) -> nn.Module:
        """Return the segmenter that left the site, for methods with which it travels along."""
        if self.segmenter is None:
            raise TypeError(f"no segmenter travels along for site '{self.site_id}'")
        return self.segmenter


Keep = Callable[[Sequence[EarlierSite], StudyPlan], list[Pool]]


def drawn(earlier: Sequence[EarlierSite], plan: StudyPlan) -> list[Pool]:
    """Return K cases (pairs) of each site, drawn once per study; fewer where it has fewer."""
    kind = kind_of(plan.task)
    return [kind.pool(_draw(site, plan), plan, site.site_id) for site in earlier]


def drawn_with_logits(earlier: Sequence[EarlierSite], plan: StudyPlan) -> list[Pool]:
    """Return the pools of `drawn` with what the segmenter that left the site says of them."""
    pools = []
    for site, pool in zip(earlier, drawn(earlier, plan), strict=True):
        said_NKX = logits(site.network, pool.images_NCX, plan.task)
        pools.append(replace(pool, logits_NKX=said_NKX))
    return pools


def _draw(site: EarlierSite, plan: StudyPlan) -> list[Specimen]:
    every = kind_of(plan.task).specimens(site.cases, plan, site.site_id)
    generator = torch.Generator().manual_seed(seeds.derive(plan.seed, "exemplars", site.site_id))
    kept = torch.randperm(len(every), generator=generator)[: plan.method.exemplars]
    return [every[index] for index in sorted(kept.tolist())]
