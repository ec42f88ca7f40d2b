"""What a continual method is: where its replay comes from, how it learns, what it remembers.

A method is a value. In each visit it begins a `Learner`, which is asked for a gradient at every
step and, when the visit ends, for what is to travel on. Most methods remember nothing between
visits and are a gradient rule alone (`memoryless`). What travels in the checkpoint's part `method`
has names, shapes and types that follow from the plan, as `blank` says, so that each site knows them
before any visit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor, nn

from wardround.shared.plan import StudyPlan
from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.exemplars import Keep, drawn
from wardround.site_client.learning.generators import DIFFUSION, PairGenerator
from wardround.site_client.learning.pool import Batch, Pool, Samples

State = Mapping[str, Tensor]


class ReplaySource(Enum):
    """Where samples of earlier sites come from."""

    NONE = "none"
    GENERATED = "generated"  # drawn from the denoiser under earlier sites' prompts
    EXEMPLARS = "exemplars"  # real cases kept from earlier sites
    POOLED = "pooled"  # every site's real cases at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient:
    """One step's gradient, parameter by parameter, and what it was made from."""

    tensors: tuple[Tensor, ...]
    loss: float
    cosine: float | None = None  # between the incoming and the replay gradient, in [-1, 1]


GradientRule = Callable[[nn.Module, Batch, Batch | None, MethodConfig, torch.Generator], Gradient]


def _nobody_draws(_generator: torch.Generator) -> Samples:
    raise TypeError("this method draws samples itself, and was begun without pools to draw from")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a method is given when the model arrives at a site.

    Attributes:
        segmenter: The network, as it arrived; it will be trained in place.
        state: The part `method` of what arrived; empty where the method remembers nothing.
        is_first: Whether no site was visited before.
        plan: The study plan.
        draw: Draws a step's samples, for methods that need more of them than they are given.
    """

    segmenter: nn.Module
    state: State
    is_first: bool
    plan: StudyPlan
    draw: Callable[[torch.Generator], Samples] = _nobody_draws


class Learner(Protocol):
    """A method at work during one visit."""

    def gradient(
        self, incoming: Batch, replay: Batch | None, generator: torch.Generator
    ) -> Gradient:
        """Return the gradient to follow in this step, at the segmenter's weights as they are."""
        ...

    def leave(
        self, own: Sequence[Pool], replay: Sequence[Pool], generator: torch.Generator
    ) -> State:
        """End the visit: return what travels on, named and shaped as `Method.blank` says.

        The segmenter may be changed a last time.

        Args:
            own: Pools that the visit trained on as its own.
            replay: Pools of earlier sites; empty where nothing was replayed.
            generator: The stream of every draw.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Memoryless:
    rule: GradientRule
    arrival: Arrival

    def gradient(
        self, incoming: Batch, replay: Batch | None, generator: torch.Generator
    ) -> Gradient:
        config = self.arrival.plan.method
        return self.rule(self.arrival.segmenter, incoming, replay, config, generator)

    def leave(self, _own: object, _replay: object, _generator: object) -> State:
        return {}


def memoryless(rule: GradientRule) -> Callable[[Arrival], Learner]:
    """Return how a method begins that is a gradient rule and remembers nothing."""
    return lambda arrival: _Memoryless(rule, arrival)


def nothing(_plan: StudyPlan, _segmenter: nn.Module) -> State:
    """Return the state of a method that remembers nothing."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to learn at one site without forgetting the earlier ones.

    Attributes:
        name: As in `method.name` of a plan.
        replay: Where its samples of earlier sites come from.
        begin: Starts a visit.
        keep: Picks the real cases that it keeps, where they are its replay.
        generator: What draws its replay, where that is generated.
        blank: Plan and untrained segmenter -> the state before the first visit.
        keeps_segmenters: The segmenter trained at each site travels along, as `labeller.SITE`.
        is_per_site: Training begins anew at each site, and a site that was visited is judged by
            the segmenter that left it; needs `keeps_segmenters`.
        grows_decoders: Its networks are an encoder, trained at the first site, and a decoder that
            each visit makes (`decoder_phase`); `begin` is not asked.
        has_intensity_stack: It augments with the intensity stack, whatever the plan says.
        takes_outer_step: After a later visit the weights go `method.outer_step` of the way.
    """

    name: str
    replay: ReplaySource
    begin: Callable[[Arrival], Learner]
    keep: Keep = drawn
    generator: PairGenerator = DIFFUSION
    blank: Callable[[StudyPlan, nn.Module], State] = nothing
    keeps_segmenters: bool = False
    is_per_site: bool = False
    grows_decoders: bool = False
    has_intensity_stack: bool = False
    takes_outer_step: bool = False

    @property
    def keeps_real_cases(self) -> bool:
        """Say whether it breaks the privacy rule, so that it may run in a simulation alone."""
        return self.replay in (ReplaySource.EXEMPLARS, ReplaySource.POOLED)
