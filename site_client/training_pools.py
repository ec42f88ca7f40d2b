"""What the segmenter of one visit trains on: the site's own samples, and those of earlier sites."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from wardround.shared.checkpoint import LABELLER
from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import SiteData
from wardround.site_client.learning.exemplars import EarlierSite
from wardround.site_client.learning.generator_training import Remembered
from wardround.site_client.learning.methods.method import Method, ReplaySource
from wardround.site_client.learning.pool import Pool
from wardround.site_client.learning.relabel import relabelled
from wardround.site_client.learning.task_kinds import kind_of
from wardround.site_client.learning.weights import fill_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """One pool for each site, each drawn from alike.

    Attributes:
        own: Those that count as the visited site's.
        replay: One for each earlier site; empty where the method replays nothing.
        agreement: Dice of the labels that generated pairs were drawn with against those given;
            None where none were given.
    """

    own: list[Pool]
    replay: list[Pool]
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingPools:
    """Where the samples come from; the attributes are those of `Visit`."""

    plan: StudyPlan
    visited: Sequence[str]
    parent: Mapping[str, bytes]
    borrowed: Mapping[str, SiteData]

    def of(
        self, method: Method, own: Pool, remembered: Sequence[Remembered], segmenter: nn.Module
    ) -> Pools:
        """Return what `method` trains on.

        Args:
            method: Says what is replayed.
            own: Samples of the visited site.
            remembered: Earlier sites, with pairs drawn under their prompts.
            segmenter: As it arrived; labels such pairs where the plan says so.
        """
        if method.replay is ReplaySource.POOLED:
            others = [self.borrowed[site] for site in self.plan.sites if site in self.borrowed]
            return Pools(own=[own, *(self.samples(data) for data in others)], replay=[])
        if method.replay is ReplaySource.EXEMPLARS:
            earlier = [
                EarlierSite(
                    site_id=site,
                    cases=self.borrowed[site].train,
                    segmenter=self._labeller(site) if method.keeps_segmenters else None,
                )
                for site in self.visited
            ]
            return Pools(own=[own], replay=method.keep(earlier, self.plan))
        drawn = [site.pairs for site in remembered]
        if not drawn or not kind_of(self.plan.task).can_label:
            return Pools(own=[own], replay=drawn)
        replay, agreement = relabelled(drawn, self._labellers(segmenter), self.plan)
        return Pools(own=[own], replay=replay, agreement=agreement)

    def samples(self, data: SiteData) -> Pool:
        """Return the training samples of a site's cases."""
        return kind_of(self.plan.task).samples(data.train, self.plan, data.site_id)

    def _labellers(self, segmenter: nn.Module) -> Iterator[nn.Module]:
        """Yield who labels each earlier site's pairs."""
        for site_id in self.visited:
            yield self._labeller(site_id) if self.plan.replay.labels == "site" else segmenter

    def _labeller(self, site_id: str) -> nn.Module:
        """Return the segmenter as it was trained at an earlier site."""
        labeller = kind_of(self.plan.task).build(self.plan, 0)
        return fill_network(labeller, self.parent[LABELLER + site_id])
