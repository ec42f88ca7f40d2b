"""Who scores a checkpoint at a site: the networks in its parts, as a judge of whole cases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from wardround.shared.checkpoint import judged_names
from wardround.shared.plan import StudyPlan, Task
from wardround.shared.plan_method import GROWS_DECODERS
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.inference import segment
from wardround.site_client.learning.merged_segmenter import merged_segmenter
from wardround.site_client.learning.metrics import CaseClassScore, Scores, score_case, summarise
from wardround.site_client.learning.registration.judge import PairJudge
from wardround.site_client.learning.task_kinds import kind_of
from wardround.site_client.learning.weights import fill_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A segmenter that is scored on the classes which one site labels.

    Attributes:
        segmenter: In evaluation mode.
        task: Fixes grid and classes.
        classes: Those that are scored, in the order of `task.classes`.
    """

    segmenter: nn.Module
    task: Task
    classes: tuple[str, ...]

    def segment(self, case: Case) -> np.ndarray:
        """Return the predicted label map of `case`, uint8 (H, W, D), on the case's own grid."""
        return segment(self.segmenter, case, self.task)

    def score(self, predicted_HWD: np.ndarray, case: Case) -> tuple[CaseClassScore, ...]:
        """Return the scores of a predicted label map, one entry per class of the site."""
        every = score_case(predicted_HWD, case, len(self.task.classes))
        return tuple(every[self.task.classes.index(name)] for name in self.classes)

    def scores(self, cases: Sequence[Case], watch: Callable[[int, int], None]) -> Scores:
        """Return the mean scores over `cases`.

        Args:
            cases: Held-out cases, at least one.
            watch: Called with (case, cases) after each case.
        """
        scores = []
        for number, case in enumerate(cases, start=1):
            scores.append(self.score(self.segment(case), case))
            watch(number, len(cases))
        return Scores(classes=summarise(scores, self.classes))


def judge_of(parts: Mapping[str, bytes], plan: StudyPlan, site_id: str) -> Judge | PairJudge:
    """Return what scores a checkpoint at a site.

    Args:
        parts: Part name -> safetensors file; at least those of `judged_names`.
        plan: The study plan.
        site_id: The site whose classes are scored.
    """
    if plan.method.name == GROWS_DECODERS:
        network: nn.Module = merged_segmenter(parts, plan)
    else:
        (name,) = judged_names(parts, plan, site_id)
        network = fill_network(kind_of(plan.task).build(plan, 0), parts[name])
    if plan.task.kind == "registration":
        return PairJudge(registrar=network, plan=plan, site_id=site_id)
    return Judge(segmenter=network, task=plan.task, classes=plan.task.classes_of(site_id))
