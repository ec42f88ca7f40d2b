"""What a task kind is: how cases become samples, and the network that is trained on them.

A *specimen* is what is looked at together: one case where images are segmented, a fixed and a
moving one where they are registered. Its samples are slices or volumes with the images of its cases
side by side as channels, and so are their label maps. So a pair is a sample like any other: it is
drawn, augmented, kept, generated and replayed as one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import Case, SiteData
from wardround.site_client.learning.pool import Pool

Specimen = tuple[Case, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind:
    """A kind of task.

    Attributes:
        build: Plan and seed -> the untrained network that travels as the part `segmenter`.
        innermost: Such a network -> its layer that sees the coarsest grid.
        specimens: A site's training cases, plan and site -> what is trained on.
        pool: Specimens, plan and site -> their samples.
        facts: Plan and sites -> what, beside the cases, determines the specimens and the loss, as
            plain values.
        can_label: Whether the network says what an image shows, so that it can label a drawn one.
    """

    build: Callable[[StudyPlan, int], nn.Module]
    innermost: Callable[[nn.Module], nn.Module]
    specimens: Callable[[Sequence[Case], StudyPlan, str], Sequence[Specimen]]
    pool: Callable[[Sequence[Specimen], StudyPlan, str], Pool]
    facts: Callable[[StudyPlan, Sequence[SiteData]], Mapping[str, Any]]
    can_label: bool

    def samples(self, cases: Sequence[Case], plan: StudyPlan, site_id: str) -> Pool:
        """Return all samples of a site's training cases."""
        return self.pool(self.specimens(cases, plan, site_id), plan, site_id)
