"""Divide a step's samples by the sites they came from, for methods that treat sites as domains."""

import torch
from torch import Tensor

from wardround.site_client.learning.pool import Batch, concatenate


def by_site(incoming: Batch, replay: Batch | None) -> list[Batch]:
    """Return the samples of each site on their own, the visited site's first."""
    samples = incoming if replay is None else concatenate([incoming, replay])
    return [samples.select(samples.group_B == site) for site in samples.group_B.unique()]


def split_sites(
    incoming: Batch, replay: Batch | None, generator: torch.Generator
) -> tuple[Batch, Batch]:
    """Divide the samples into two disjoint groups, whole sites where there are two or more."""
    samples = incoming if replay is None else concatenate([incoming, replay])
    sites = samples.group_B.unique()
    if len(sites) < 2:
        chosen_B = _random_half(torch.arange(len(samples)), generator)
        return samples.select(chosen_B), samples.select(~chosen_B)
    picked = sites[_random_half(sites, generator)]
    chosen_B = torch.isin(samples.group_B, picked)
    return samples.select(chosen_B), samples.select(~chosen_B)


def other_sites(samples: Batch, group: Batch) -> Batch:
    """Return the samples of the sites that `group` has none of."""
    return samples.select(~torch.isin(samples.group_B, group.group_B))


def _random_half(items: Tensor, generator: torch.Generator) -> Tensor:
    """Return a mask with half of the items, rounded down, at least one."""
    mask = torch.zeros(len(items), dtype=torch.bool)
    mask[torch.randperm(len(items), generator=generator)[: max(1, len(items) // 2)]] = True
    return mask
