"""The pool made from a site's real cases."""

from collections.abc import Sequence

import torch

from wardround.shared.plan import Task
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
