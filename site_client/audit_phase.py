"""The phase of a visit that looks whether denoiser and prompt remember cases, kept in the memo."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import SiteData
from wardround.site_client.memo import Result
from wardround.site_client.privacy.inspection import Inspection, Parts, first_to_pass
from wardround.site_client.privacy.memorisation import Findings, Limits, can_tell, look_into


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPhase:
    """What the phase is made from.

    Attributes:
        plan: The study plan.
        data: The site's own cases.
        limits: What plan and site policy allow.
        note: Told of each candidate that was looked at, with its parts.
    """

    plan: StudyPlan
    data: SiteData
    limits: Limits
    note: Callable[[Inspection, Parts], None]

    def run(
        self,
        candidates: Iterable[Parts],
        *,
        key: Mapping[str, Any],
        recall: Callable[[Mapping[str, Any], Callable[[], Result]], Result],
        stream: Callable[[], torch.Generator],
    ) -> tuple[Parts, Inspection]:
        """Return the parts of the first candidate that may leave, and what was found in it.

        Args:
            candidates: Trained one after the other, each only when it is asked for.
            key: What determines the findings, but for the candidate's parts.
            recall: Returns a result that is kept under a key, or computes it.
            stream: Returns the stream of every draw, anew for each candidate.

        Raises:
            AuditFailed: None may leave.
        """

        def look(parts: Parts) -> Findings | None:
            if not can_tell(self.data):
                return None
            made = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}

            def found() -> Result:
                findings = look_into(parts, self.data, self.plan, stream())
                return Result(tensors={}, numbers=findings.numbers())

            return Findings.of_numbers(recall({**key, "parts": made}, found).numbers)

        return first_to_pass(candidates, look, self.limits, self.note)
