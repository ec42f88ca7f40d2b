"""The phase of a visit that makes the own prompt under differential privacy, kept in the memo."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import SiteData
from wardround.site_client.learning.pools import case_pool
from wardround.site_client.learning.private_prompt import train_prompt_privately
from wardround.site_client.learning.weights import PROMPT_TENSOR
from wardround.site_client.memo import Memo, Result
from wardround.site_client.privacy.secret_stream import SecretStream


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivatePhase:
    """What the phase is made from.

    Attributes:
        plan: The study plan.
        data: The site's own cases.
        secret: The site's; the noise follows from it and from what the memo's key says.
        memo: Where the prompt is kept.
    """

    plan: StudyPlan
    data: SiteData
    secret: bytes
    memo: Memo

    def run(
        self,
        denoiser: nn.Module,
        start_PW: Tensor,
        *,
        key: Mapping[str, Any],
        watch: Callable[[int, int], None],
    ) -> Result:
        """Return the prompt, and no loss: that is a number about the cases, made without noise.

        Args:
            denoiser: As it arrived.
            start_PW: Where the prompt starts, (P, W).
            key: What the denoiser, the start and the cases are.
            watch: Called with (step, steps).
        """
        key = {
            **key,
            "privacy": self.plan.privacy.model_dump(mode="json"),
            "secret": hashlib.sha256(self.secret).hexdigest(),
        }

        def trained() -> Result:
            spending = self.plan.privacy.spending(self.plan.denoiser.steps)
            prompt_PW = train_prompt_privately(
                denoiser.requires_grad_(False),
                start_PW,
                cases=[case_pool([case], self.plan.task) for case in self.data.train],
                plan=self.plan,
                noise_multiplier=spending.noise_multiplier,
                stream=SecretStream(self.secret, json.dumps(key, sort_keys=True)),
                watch=watch,
            )
            return Result(tensors={PROMPT_TENSOR: prompt_PW}, numbers={})

        torch.set_num_threads(self.plan.compute.threads)  # torch counts threads per thread
        return self.memo.recall(key, trained)
