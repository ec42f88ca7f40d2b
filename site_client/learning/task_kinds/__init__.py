"""The table of task kinds: what a network is made for, and what one sample shows.

Methods, batches, replay and the relay are the same for all kinds. Adding one is a file and a line
here.
"""

from wardround.shared.plan import Task
from wardround.site_client.learning.task_kinds.kind import Specimen, TaskKind
from wardround.site_client.learning.task_kinds.registration import REGISTRATION
from wardround.site_client.learning.task_kinds.segmentation import SEGMENTATION

__all__ = ["KINDS", "Specimen", "TaskKind", "kind_of"]

KINDS: dict[str, TaskKind] = {"segmentation": SEGMENTATION, "registration": REGISTRATION}


def kind_of(task: Task) -> TaskKind:
    """Return the kind of a task."""
    return KINDS[task.kind]
