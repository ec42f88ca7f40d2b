"""A finished study as the scripts beside this one attack it: plan, cases, checkpoints by visit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from wardround.server.journal import read_events
from wardround.server.state import fold
from wardround.server.store import ArtefactStore
from wardround.server.study_folder import CHECKPOINTS, JOURNAL
from wardround.shared import plan as plans
from wardround.shared.checkpoint import PROMPT, verified
from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import SiteData, load_site
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.weights import PROMPT_TENSOR, fill_network, unpack


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitMade:
    """A visit, counted from 1: the site's cases, what left it, what it began with."""

    number: int
    site_id: str
    plan: StudyPlan
    data: SiteData
    parts: Mapping[str, bytes]
    parent: Mapping[str, bytes]

    @property
    def prompt_PW(self) -> Tensor:  # noqa: N802  a shape suffix
        """Return the site's own prompt."""
        return unpack(self.parts[PROMPT + self.site_id])[PROMPT_TENSOR]

    def denoiser(self, *, parent: bool = False) -> nn.Module:
        """Return the denoiser that left, or the one that arrived."""
        kind = find_method(self.plan.method.name).generator
        denoiser = kind.build(self.plan.task, self.plan.denoiser, 0)
        return fill_network(denoiser, (self.parent if parent else self.parts)["denoiser"])


def visits_of(study: Path, data: Path) -> list[VisitMade]:
    """Return every committed visit of a study.

    Args:
        study: The folder of `wardround simulate --out`.
        data: Folder with one folder a site; the same cases that the study had.
    """
    state = fold(read_events(study / JOURNAL))
    if state is None:
        return []
    plan = plans.parse(json.loads(state.plan), origin=str(study))
    store = ArtefactStore(study / CHECKPOINTS)
    files = [
        {part.name: b"".join(verified(part, store.read(part))) for part in checkpoint.parts}
        for checkpoint in state.checkpoints
    ]
    return [
        VisitMade(
            number=number,
            site_id=report.site_id,
            plan=plan,
            data=load_site(report.site_id, data / report.site_id, plan.task, plan.data),
            parts=files[number],
            parent=files[number - 1],
        )
        for number, report in enumerate(state.visit_reports, start=1)
    ]
