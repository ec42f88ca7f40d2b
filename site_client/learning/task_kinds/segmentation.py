"""Segmentation: a network says of each pixel which class it shows, case by case."""

from wardround.site_client.learning.pools import case_pool
from wardround.site_client.learning.segmenter import build_segmenter, innermost
from wardround.site_client.learning.task_kinds.kind import TaskKind

SEGMENTATION = TaskKind(
    build=lambda plan, seed: build_segmenter(plan.task, plan.segmenter, seed),
    innermost=innermost,
    specimens=lambda cases, _plan, _site_id: [(case,) for case in cases],
    pool=lambda specimens, plan, _site_id: case_pool([case for (case,) in specimens], plan.task),
    facts=lambda _plan, _sites: {},
    can_label=True,
)
