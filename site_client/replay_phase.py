"""The phase of a visit that draws pairs under every earlier site's prompt, kept in the memo."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wardround.shared.checkpoint import PROMPT
from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.generator_training import Remembered
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.pool import Pool
from wardround.site_client.learning.weights import PROMPT_TENSOR, fill_network, unpack
from wardround.site_client.memo import Memo, Result
from wardround.site_client.side_by_side import Watch, two_at_a_time


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPhase:
    """What the phase is made from.

    Attributes:
        plan: The study plan.
        parent: Part name -> safetensors bytes of the checkpoint that arrived.
        memo: Where drawn pairs are kept.
    """

    plan: StudyPlan
    parent: Mapping[str, bytes]
    memo: Memo

    def run(
        self,
        sites: Sequence[str],
        *,
        key: Callable[[str], Mapping[str, Any]],
        stream: Callable[[str], torch.Generator],
        watch: Watch,
    ) -> tuple[list[Remembered], float]:
        """Return each site's prompt and pairs, and the seconds that the memo spared.

        A site's pairs come from a stream of its own, so they are the same beside whichever others
        they are drawn.

        Args:
            sites: The earlier sites, in the order of the lineage.
            key: What determines a site's pairs.
            stream: Where a site's noise comes from.
            watch: Called with (pairs drawn, pairs in all), on the caller's thread.
        """
        kind = find_method(self.plan.method.name).generator
        denoiser = kind.build(self.plan.task, self.plan.denoiser, 0)
        fill_network(denoiser, self.parent["denoiser"])
        prompts = {s: unpack(self.parent[PROMPT + s])[PROMPT_TENSOR] for s in sites}

        def work(site_id: str) -> Callable[[Watch], Result]:
            def drawn(watch_one: Watch) -> Result:
                torch.set_num_threads(self.plan.compute.threads)  # torch counts them per thread
                return self.memo.recall(
                    key(site_id),
                    lambda: self._draw(denoiser, prompts[site_id], stream(site_id), watch_one),
                )

            return drawn

        def watch_all(places: Sequence[tuple[int, int]]) -> None:
            each = self.plan.replay.samples_per_site
            watch(sum(done for done, _ in places), each * len(sites))

        results = two_at_a_time([work(site_id) for site_id in sites], watch_all)
        remembered = [
            Remembered(
                prompt_PW=prompts[site_id],
                pairs=Pool(
                    images_NCX=result.tensors["images"], targets_NKX=result.tensors["targets"]
                ),
            )
            for site_id, result in zip(sites, results, strict=True)
        ]
        return remembered, sum(result.saved_seconds for result in results) / min(2, len(sites))

    def _draw(
        self, denoiser: nn.Module, prompt_PW: Tensor, generator: torch.Generator, watch: Watch
    ) -> Result:
        pairs = find_method(self.plan.method.name).generator.draw(
            denoiser,
            prompt_PW,
            self.plan.replay.samples_per_site,
            plan=self.plan,
            generator=generator,
            watch=watch,
        )
        return Result(
            tensors={"images": pairs.images_NCX, "targets": pairs.targets_NKX}, numbers={}
        )
