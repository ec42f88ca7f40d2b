"""The buffer of `sga`: cases that stand for their site and differ from what is kept already.

After Xu et al. 2022 (arXiv:2206.06813), which adds diversity between sites to the usual choice of
representative exemplars and publishes no formula. Ours: f(x) is a case's feature under the
segmenter as it left the site, the innermost layer averaged over pixels and slices, of length 1; K
cases are chosen one after another, each time the one with the greatest

    - |f(x) - mean of the site|^2                            it stands for its site
    + sga_within  * distance to the nearest one chosen       and is not like those
    + sga_between * distance to the nearest of other sites   nor like those kept of sites before

With both weights 0 these are the cases nearest to the mean.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wardround.shared.plan import StudyPlan, Task
from wardround.site_client.data.cases import Case
from wardround.site_client.data.preprocess import to_samples
from wardround.site_client.learning.exemplars import EarlierSite
from wardround.site_client.learning.inference import INFERENCE_BATCH
from wardround.site_client.learning.pool import Pool
from wardround.site_client.learning.pools import case_pool
from wardround.site_client.learning.segmenter import innermost

# N cases of a site, M cases kept of other sites, D numbers in a feature


def diverse(earlier: Sequence[EarlierSite], plan: StudyPlan) -> list[Pool]:
    """Return K cases of each site, chosen as the sites were visited; fewer where it has fewer."""
    kept: list[list[Case]] = []
    for site in earlier:
        others = [case for cases in kept for case in cases]
        chosen = choose(
            features(site.network, site.cases, plan.task),
            features(site.network, others, plan.task),
            count=plan.method.exemplars,
            within=plan.method.sga_within,
            between=plan.method.sga_between,
        )
        kept.append([site.cases[place] for place in sorted(chosen)])
    return [case_pool(cases, plan.task) for cases in kept]


def choose(
    own_ND: Tensor, others_MD: Tensor, *, count: int, within: float, between: float
) -> list[int]:
    """Return the places of the `count` cases to keep, first choice first; of equals the first.

    Args:
        own_ND: Features of the site's cases.
        others_MD: Features of the cases kept of other sites; M may be 0.
        count: How many; all where there are fewer.
        within: Weight of the distance to those chosen.
        between: Weight of the distance to those of other sites.
    """
    score_N = -(own_ND - own_ND.mean(0)).pow(2).sum(1)
    if len(others_MD):
        score_N = score_N + between * _distances(own_ND, others_MD).amin(1)
    apart_NN, chosen = _distances(own_ND, own_ND), list[int]()
    while len(chosen) < min(count, len(own_ND)):
        gain_N = score_N + within * apart_NN[:, chosen].amin(1) if chosen else score_N
        gain_N = gain_N.clone()
        gain_N[chosen] = -torch.inf
        chosen.append(int(gain_N.argmax()))
    return chosen


@torch.no_grad()
def features(segmenter: nn.Module, cases: Sequence[Case], task: Task) -> Tensor:
    """Return a feature of length 1 for each case, (N, D)."""
    found: list[Tensor] = []
    layer = innermost(segmenter)
    hook = layer.register_forward_hook(lambda _layer, _given, out: found.append(out))
    means = []
    for case in cases:
        found.clear()
        for batch in to_samples(case, task).images_NCX.split(INFERENCE_BATCH):
            segmenter(batch)
        means.append(torch.cat(found).flatten(2).mean((0, 2)))
    hook.remove()
    return F.normalize(torch.stack(means), dim=1) if means else torch.zeros(0, 1)


def _distances(first_ND: Tensor, second_MD: Tensor) -> Tensor:
    return (first_ND[:, None] - second_MD[None]).pow(2).sum(2).sqrt()
