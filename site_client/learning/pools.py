"""Pools made from a site's real cases: all of them, or the exemplars a buffer method keeps."""

from collections.abc import Sequence

import torch

from wardround.shared import seeds
from wardround.shared.plan import StudyPlan, Task
from wardround.site_client.data.cases import Case
from wardround.site_client.data.preprocess import to_samples
from wardround.site_client.learning.pool import Pool, labelled


def case_pool(cases: Sequence[Case], task: Task) -> Pool:
    """Return every sample (slice or volume) of `cases` on the working grid."""
    samples = [to_samples(case, task) for case in cases]
    return labelled(
        torch.cat([sample.images_NCX for sample in samples]),
        torch.cat([sample.labels_NX for sample in samples]),
        len(task.classes),
    )


def exemplar_pool(cases: Sequence[Case], plan: StudyPlan, site_id: str) -> Pool:
    """Return the samples of the K cases `exemplar-replay` keeps of a site, drawn once per study.

    Which cases they are depends on the seed and the site alone, so that every later visit replays
    the same ones. Fewer than K where the site has fewer.
    """
    generator = torch.Generator().manual_seed(seeds.derive(plan.seed, "exemplars", site_id))
    kept = torch.randperm(len(cases), generator=generator)[: plan.method.exemplars]
    return case_pool([cases[index] for index in sorted(kept.tolist())], plan.task)
