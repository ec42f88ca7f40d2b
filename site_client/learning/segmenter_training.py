"""One visit's training of the segmenter: draw, augment, ask the method for a gradient, step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from wardround.shared.errors import TrainingError
from wardround.shared.plan import StudyPlan
from wardround.site_client.data.augment import augment
from wardround.site_client.learning.alignment import clipped
from wardround.site_client.learning.averaging import RunningAverage
from wardround.site_client.learning.methods.method import Learner
from wardround.site_client.learning.pool import Batch, Pool, Samples, draw


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterTraining:
    """What the training of one visit did, in numbers; cosines are None where there is no replay."""

    loss: float
    cosine_first: float | None
    cosine_last: float | None


def train_segmenter(
    segmenter: nn.Module,
    *,
    own: Sequence[Pool],
    replay: Sequence[Pool],
    learner: Learner,
    plan: StudyPlan,
    generator: torch.Generator,
    watch: Callable[[int, int], None],
    average: RunningAverage | None = None,
) -> SegmenterTraining:
    """Train the segmenter in place with the plan's method, which began this visit as `learner`.

    Args:
        segmenter: The network as it arrived.
        own: Pools that count as the visited site's.
        replay: One pool per earlier site, empty where the method replays nothing.
        learner: Source of the gradient.
        plan: Steps, batch size, learning rate, augmentation, the method's settings.
        generator: The stream of every draw.
        watch: Called with (step, steps) after each step.
        average: Of the segmenter's weights; updated after each step.

    Raises:
        TrainingError: The loss stopped being finite.
    """
    config = plan.segmenter
    parameters = list(segmenter.parameters())
    optimiser = torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=1e-4, fused=True
    )
    # OneCycleLR divides by zero where its warm-up is exactly one step long.
    warm_up = 0.2 if config.steps == 10 else 0.1
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=config.learning_rate,
        total_steps=config.steps,
        pct_start=warm_up,
        cycle_momentum=False,
    )
    segmenter.train()
    losses, cosines = [], []
    for step in range(config.steps):
        incoming, replayed = step_samples(own, replay, plan, generator)
        gradient = learner.gradient(incoming, replayed, generator)
        if not torch.isfinite(torch.tensor(gradient.loss)):
            raise TrainingError(
                f"the segmenter's loss is {gradient.loss} at step {step + 1} of {config.steps}. "
                f"Lower segmenter.learning_rate (= {config.learning_rate}) "
                f"or method.alpha (= {plan.method.alpha})."
            )
        for parameter, tensor in zip(
            parameters, clipped(gradient.tensors, plan.method.clip), strict=True
        ):
            parameter.grad = tensor
        optimiser.step()
        schedule.step()
        if average is not None:
            average.update()
        losses.append(gradient.loss)
        cosines.extend([] if gradient.cosine is None else [gradient.cosine])
        watch(step + 1, config.steps)
    segmenter.eval()
    return SegmenterTraining(
        loss=_mean(losses[-_tenth(losses) :]),
        cosine_first=_mean(cosines[: _tenth(cosines)]) if cosines else None,
        cosine_last=_mean(cosines[-_tenth(cosines) :]) if cosines else None,
    )


def step_samples(
    own: Sequence[Pool], replay: Sequence[Pool], plan: StudyPlan, generator: torch.Generator
) -> Samples:
    """Draw and augment a step's samples: half of them replayed, where anything is."""
    size = plan.segmenter.batch_size
    if not replay:
        return _augmented(draw(own, size, plan.task.sample_size, generator), plan, generator), None
    incoming = draw(own, size - size // 2, plan.task.sample_size, generator)
    replayed = draw(replay, size // 2, plan.task.sample_size, generator, first_group=len(own))
    return _augmented(incoming, plan, generator), _augmented(replayed, plan, generator)


def _augmented(batch: Batch, plan: StudyPlan, generator: torch.Generator) -> Batch:
    maps = [batch.targets_BKX, *([] if batch.logits_BKX is None else [batch.logits_BKX])]
    # Logits are mirrored as the targets are; the intensity stack touches neither.
    images, moved = augment(batch.images_BCX, torch.cat(maps, dim=1), plan.augmentation, generator)
    targets, *logits = moved.split(batch.targets_BKX.shape[1], dim=1)
    return replace(
        batch,
        images_BCX=images,
        targets_BKX=targets,
        logits_BKX=logits[0] if logits else None,
    )


def _tenth(values: list[float]) -> int:
    return max(1, len(values) // 10)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
