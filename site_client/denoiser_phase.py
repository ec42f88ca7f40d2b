"""The phase of a visit that trains the denoiser and the own prompt, kept in the memo."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from wardround.shared.checkpoint import PROMPT
from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import SiteData
from wardround.site_client.learning.denoiser import new_prompt
from wardround.site_client.learning.generator_training import Remembered, regularised
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.task_kinds import kind_of
from wardround.site_client.learning.weights import PROMPT_TENSOR, fill_network, pack
from wardround.site_client.memo import Memo, Result
from wardround.site_client.private_phase import PrivatePhase

_NETWORK = "denoiser."  # before the names of the denoiser's weights, in the memo


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoised:
    """What the phase made: checkpoint parts, the loss if it may leave, and how long it took."""

    parts: dict[str, bytes]
    loss: float | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserPhase:
    """What the phase is made from.

    Attributes:
        plan: The study plan.
        data: The site's own cases.
        parent: Part name -> safetensors bytes of the checkpoint that arrived.
        memo: Where denoiser and prompt are kept.
        key: What determines a result of this visit, but for its purpose and what it starts from.
        stream: The generator of a purpose.
        secret: The site's, where the prompt is to have a differential privacy guarantee.
    """

    plan: StudyPlan
    data: SiteData
    parent: Mapping[str, bytes]
    memo: Memo
    key: Callable[..., Mapping[str, Any]]
    stream: Callable[..., torch.Generator]
    secret: bytes | None

    def run(
        self, remembered: Sequence[Remembered], attempt: int, watch: Callable[[int, int], None]
    ) -> Denoised:
        """Train both; changes nothing, so that it may run on a thread of its own.

        Args:
            remembered: Earlier sites, with pairs drawn under their prompts.
            attempt: 0 at first; each further one is more regularised than the one before.
            watch: Called with (step, steps).
        """
        start_s = time.perf_counter()
        torch.set_num_threads(self.plan.compute.threads)  # torch counts threads per thread
        kind = find_method(self.plan.method.name).generator
        denoiser = kind.build(self.plan.task, self.plan.denoiser, 0)
        fill_network(denoiser, self.parent["denoiser"])
        again = (str(attempt),) if attempt else ()
        plan = regularised(self.plan, attempt)
        earlier = [site.prompt_PW for site in remembered]
        start = new_prompt(plan.denoiser, earlier, self.stream("prompt", *again))
        key = self.key("denoiser", *again)

        def trained() -> Result:
            student, prompt_PW, loss = kind.train(
                denoiser,
                start,
                own=kind_of(self.plan.task).samples(self.data.train, self.plan, self.data.site_id),
                earlier=remembered,
                plan=plan,
                generator=self.stream("denoiser", *again),
                watch=watch,
            )
            tensors = {f"{_NETWORK}{name}": t for name, t in student.state_dict().items()}
            return Result(tensors={**tensors, PROMPT_TENSOR: prompt_PW}, numbers={"loss": loss})

        if self.secret is None:
            result = self.memo.recall(key, trained)
        else:
            phase = PrivatePhase(plan=self.plan, data=self.data, secret=self.secret, memo=self.memo)
            result = phase.run(denoiser, start, key=key, watch=watch)
        seconds = time.perf_counter() - start_s + result.saved_seconds
        loss = result.numbers.get("loss")
        return Denoised(parts=self._parts(result), loss=loss, seconds=seconds)

    def _parts(self, result: Result) -> dict[str, bytes]:
        """Return denoiser and prompt as they travel; only the prompt is private, if either is."""
        weights = {
            name.removeprefix(_NETWORK): tensor
            for name, tensor in result.tensors.items()
            if name.startswith(_NETWORK)
        }
        return {
            "denoiser": pack(weights) if weights else self.parent["denoiser"],
            PROMPT + self.data.site_id: pack({PROMPT_TENSOR: result.tensors[PROMPT_TENSOR]}),
        }
