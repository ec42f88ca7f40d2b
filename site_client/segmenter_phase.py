"""The phase of a visit that trains the segmenter with the plan's method, kept in the memo."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wardround.shared.checkpoint import LABELLER
from wardround.shared.messages import Metric
from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.generator_training import Remembered
from wardround.site_client.learning.genesis import keeps_segmenters, untrained_segmenter
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.methods.method import Arrival
from wardround.site_client.learning.outer_step import outer_step_of, stepped
from wardround.site_client.learning.pool import Pool
from wardround.site_client.learning.segmenter_training import step_samples, train_segmenter
from wardround.site_client.learning.task_kinds import kind_of
from wardround.site_client.learning.weights import fill_network, pack, unpack
from wardround.site_client.memo import Result
from wardround.site_client.training_pools import Pools, TrainingPools

_STATE = "method/"  # before the names of what a method remembers, in the memo


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmented:
    """What the phase made.

    Attributes:
        parts: `segmenter`; where segmenters are kept, the site's labeller; where the method
            remembers something, `method`.
        metrics: Loss, gradient cosines, agreement of replayed labels, as far as there are any.
    """

    parts: dict[str, bytes]
    metrics: dict[Metric, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterPhase:
    """What the phase is made from.

    Attributes:
        plan: The study plan.
        site_id: Whose visit it is.
        parent: Part name -> safetensors bytes of the checkpoint that arrived.
        pools: Where samples come from.
        recall: Returns the result kept under a key, or computes it.
        stream: The generator of a purpose.
    """

    plan: StudyPlan
    site_id: str
    parent: Mapping[str, bytes]
    pools: TrainingPools
    recall: Callable[[Mapping[str, Any], Callable[[], Result]], Result]
    stream: Callable[[str], torch.Generator]

    def run(
        self,
        own: Pool,
        remembered: Sequence[Remembered],
        *,
        key: Mapping[str, Any],
        watch: Callable[[int, int], None],
    ) -> Segmented:
        """Train the segmenter that arrived, or a new one where the method has one per site.

        Args:
            own: Samples that count as the visited site's.
            remembered: Earlier sites, with pairs drawn under their prompts.
            key: What determines the result.
            watch: Called with (step, steps).
        """
        method, plan = find_method(self.plan.method.name), self.plan
        if method.is_per_site:
            segmenter = untrained_segmenter(plan)
        else:
            segmenter = fill_network(kind_of(plan.task).build(plan, 0), self.parent["segmenter"])
        if method.has_intensity_stack:
            stack = plan.augmentation.model_copy(update={"intensity": True})
            plan = plan.model_copy(update={"augmentation": stack})
        pools = self.pools.of(method, own, remembered, segmenter)
        result = self.recall(key, lambda: self._trained(segmenter, pools, plan, watch))
        metrics = {Metric(name): number for name, number in result.numbers.items()}
        if pools.agreement is not None:
            metrics[Metric.REPLAY_AGREEMENT] = pools.agreement
        return Segmented(parts=self._parts(result.tensors), metrics=metrics)

    def _parts(self, tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
        trained, state = {}, {}
        for name, tensor in tensors.items():
            if name.startswith(_STATE):
                state[name.removeprefix(_STATE)] = tensor
            else:
                trained[name] = tensor
        size = outer_step_of(self.plan, self.pools.visited)
        parts = {"segmenter": pack(stepped(unpack(self.parent["segmenter"]), trained, size))}
        if keeps_segmenters(self.plan):
            parts[LABELLER + self.site_id] = pack(trained)
        return parts | ({"method": pack(state)} if state else {})

    def _trained(
        self, segmenter: nn.Module, pools: Pools, plan: StudyPlan, watch: Callable[[int, int], None]
    ) -> Result:
        learner = find_method(plan.method.name).begin(
            Arrival(
                segmenter=segmenter,
                state=unpack(self.parent["method"]) if "method" in self.parent else {},
                is_first=not self.pools.visited,
                plan=plan,
                draw=partial(step_samples, pools.own, pools.replay, plan),
            )
        )
        outcome = train_segmenter(
            segmenter,
            own=pools.own,
            replay=pools.replay,
            learner=learner,
            plan=plan,
            generator=self.stream("segmenter"),
            watch=watch,
        )
        state = learner.leave(pools.own, pools.replay, self.stream("method"))
        numbers = {
            Metric.SEGMENTER_LOSS: outcome.loss,
            Metric.GRADIENT_COSINE_FIRST: outcome.cosine_first,
            Metric.GRADIENT_COSINE_LAST: outcome.cosine_last,
        }
        tensors = {f"{_STATE}{name}": tensor for name, tensor in state.items()}
        return Result(
            tensors={**segmenter.state_dict(), **tensors},
            numbers={name.value: value for name, value in numbers.items() if value is not None},
        )
