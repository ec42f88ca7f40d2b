"""Train decoders of one site, on labels and on what a teacher says.

At the first site the encoder is trained along with the full decoder; from then on it is frozen.
What is kept of each training is the running average of the weights.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from wardround.shared.plan import StudyPlan, Task
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.averaging import RunningAverage
from wardround.site_client.learning.inference import probabilities
from wardround.site_client.learning.methods.finetune import FINETUNE
from wardround.site_client.learning.methods.lwf import distillation
from wardround.site_client.learning.methods.method import Arrival, Gradient, Learner, State
from wardround.site_client.learning.overlap import overlap
from wardround.site_client.learning.pool import Batch, Pool
from wardround.site_client.learning.pools import case_pool
from wardround.site_client.learning.segmenter import segmentation_loss
from wardround.site_client.learning.segmenter_training import train_segmenter
from wardround.site_client.learning.split_network import SplitSegmenter


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a site's decoders learn from: a pool a case, with targets of `asked` alone.

    Attributes:
        asked: The background and the numbers of the classes that the site labels.
        cases: Pools of the training cases that widths are tried on, at least one.
        validation: Pools of those that tell how good a width is, at least one.
    """

    asked: tuple[int, ...]
    cases: tuple[Pool, ...]
    validation: tuple[Pool, ...]

    @property
    def without_validation(self) -> Pool:
        """Return the samples that widths are tried on."""
        return _together(self.cases)

    @property
    def everything(self) -> Pool:
        """Return all training samples."""
        return _together((*self.cases, *self.validation))


def lesson_of(train: Sequence[Case], plan: StudyPlan, site_id: str) -> Lesson:
    """Return what a site's decoders learn from.

    Validation cases are spread evenly over the cases in the order of their names, so that they are
    like the others. Another case of the same person may be trained on: that flatters every width.
    Of a single case both is made.
    """
    task = plan.task
    asked = (0, *(1 + task.classes.index(name) for name in task.classes_of(site_id)))
    pools = [_narrowed(case_pool([case], task), asked) for case in train]
    count = max(1, min(len(train) - 1, round(len(train) * plan.method.decoder_validation)))
    chosen = {(2 * turn + 1) * len(train) // (2 * count) for turn in range(count)}
    cases = tuple(pool for place, pool in enumerate(pools) if place not in chosen)
    validation = tuple(pools[place] for place in sorted(chosen))
    return Lesson(asked=asked, cases=cases or validation, validation=validation)


def train_averaged(
    network: SplitSegmenter,
    own: Pool,
    *,
    teacher: SplitSegmenter | None,
    plan: StudyPlan,
    generator: torch.Generator,
    watch: Callable[[int, int], None],
) -> tuple[SplitSegmenter, float]:
    """Return the running average of `network` while it is trained, and its loss at the end.

    Args:
        network: Where training starts; changed.
        own: Training samples, with targets of the classes that it is asked for.
        teacher: Whom it also listens to, on the same encoder; None for nobody.
        plan: Steps, batch size, learning rate, augmentation, averaging, weight of the teacher.
        generator: The stream of every draw.
        watch: Called with (step, steps) after each step.
    """
    averaged = copy.deepcopy(network)
    outcome = train_segmenter(
        network,
        own=[own],
        replay=[],
        learner=_learner(network, teacher, plan),
        plan=plan,
        generator=generator,
        watch=watch,
        average=RunningAverage(
            averaged.parameters(), network.parameters(), plan.method.decoder_ema
        ),
    )
    averaged.eval().requires_grad_(False)
    return averaged, outcome.loss


def validation_dice(network: nn.Module, lesson: Lesson, task: Task) -> float:
    """Return the mean Dice over validation cases and classes, on the working grid.

    1 where a class is neither there nor found.
    """
    numbers = range(1, len(lesson.asked))
    scores = [
        overlap((found_NX == number).flatten(), (case.labels_NX == number).flatten())
        for case in lesson.validation
        for found_NX in [probabilities(network, case.images_NCX, task).argmax(dim=1)]
        for number in numbers
    ]
    return float(torch.stack(scores).mean())


@dataclass(frozen=True, slots=True)
class _Student:
    """Follows the labels and, by `method.decoder_distillation`, what the teacher says."""

    network: SplitSegmenter
    teacher: SplitSegmenter
    weight: float

    def gradient(
        self, incoming: Batch, _replay: Batch | None, _generator: torch.Generator
    ) -> Gradient:
        features = self.network.encode(incoming.images_BCX)
        said_BKX = self.network.answer(features)
        with torch.no_grad():
            taught_BKX = self.teacher.answer(features)
        loss = segmentation_loss(said_BKX, incoming.targets_BKX)
        loss = loss + self.weight * distillation(said_BKX, taught_BKX)
        tensors = torch.autograd.grad(loss, list(self.network.parameters()))
        return Gradient(tensors=tensors, loss=float(loss.detach()))

    def leave(self, _own: object, _replay: object, _generator: object) -> State:
        return {}


def _learner(network: SplitSegmenter, teacher: SplitSegmenter | None, plan: StudyPlan) -> Learner:
    if teacher is not None:
        return _Student(network, teacher, plan.method.decoder_distillation)
    return FINETUNE.begin(Arrival(segmenter=network, state={}, is_first=True, plan=plan))


def _narrowed(pool: Pool, asked: Sequence[int]) -> Pool:
    return Pool(images_NCX=pool.images_NCX, targets_NKX=pool.targets_NKX[:, list(asked)])


def _together(pools: Sequence[Pool]) -> Pool:
    return Pool(
        images_NCX=torch.cat([pool.images_NCX for pool in pools]),
        targets_NKX=torch.cat([pool.targets_NKX for pool in pools]),
    )
