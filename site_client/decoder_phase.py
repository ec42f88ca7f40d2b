"""The part of a visit that grows a decoder: train a full one, trim it, say what it has seen.

1. A decoder of full width is trained on all of the site's training cases; at the first site the
   encoder is trained with it.
2. Which width will do is searched for: decoders, full and ever narrower, are trained on a part of
   the cases and compared on the others.
3. A decoder of that width is trained on all cases, taught by the full one. This one leaves.

Each training is a pure function of plan, encoder and cases, kept in the memo, so a visit that was
cut goes on after the last one that was finished.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wardround.shared.checkpoint import DECODER, ENCODER
from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.decoder_training import (
    lesson_of,
    train_averaged,
    validation_dice,
)
from wardround.site_client.learning.familiarity import describe
from wardround.site_client.learning.genesis import untrained_decoder, untrained_encoder
from wardround.site_client.learning.pool import Pool
from wardround.site_client.learning.split_network import (
    Decoder,
    SplitSegmenter,
    frozen,
    num_weights,
)
from wardround.site_client.learning.trimming import narrowest
from wardround.site_client.learning.weights import fill_network, pack_network
from wardround.site_client.memo import Result

Watch = Callable[[int, int], None]  # called with (step, steps) after each step

FULL = 1.0  # a decoder as wide as the encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A decoder of a width, with its Dice on validation cases."""

    decoder: Decoder
    width: float
    dice: float


class DecoderPhase:
    """Makes the own decoder of one visit, and at the first site the encoder.

    Args:
        plan: The study plan.
        site_id: Whose visit it is.
        cases: The site's training cases.
        parent: Part name -> file of the checkpoint that arrived.
        is_first: Whether no site was visited before.
        recall: Returns the result kept under a key, or computes it.
        key: What determines a result of a purpose, within this visit.
        stream: The generator of a purpose, likewise.
    """

    def __init__(
        self,
        *,
        plan: StudyPlan,
        site_id: str,
        cases: Sequence[Case],
        parent: Mapping[str, bytes],
        is_first: bool,
        recall: Callable[[Mapping[str, Any], Callable[[], Result]], Result],
        key: Callable[..., Mapping[str, Any]],
        stream: Callable[..., torch.Generator],
    ) -> None:
        self.plan, self.site_id, self.is_first = plan, site_id, is_first
        self._lesson = lesson_of(cases, plan, site_id)
        self._recall, self._key, self._stream = recall, key, stream
        self._encoder = untrained_encoder(plan)
        fill_network(self._encoder, parent[ENCODER])
        self._encode = frozen(self._encoder)

    def teach(self, watch: Watch) -> tuple[Decoder, float]:
        """Return the full decoder and its loss; at the first site, train the encoder too."""
        own = self._lesson.everything
        if not self.is_first:
            decoder, result = self._trained("full", FULL, own, None, watch)
            return decoder, result.numbers["loss"]
        decoder = untrained_decoder(self.plan, FULL)
        self._encoder.requires_grad_(True)
        network = SplitSegmenter(self._encoder, decoder, self._lesson.asked)
        result = self._fitted(network, own, None, "full", watch)
        self._encoder.load_state_dict(_within("encode.", result.tensors))
        decoder.load_state_dict(_within("decoder.", result.tensors))
        self._encode = frozen(self._encoder)
        return decoder, result.numbers["loss"]

    def trim(self, full: Decoder, watch: Watch) -> Decoder:
        """Return a decoder of the narrowest width that is good enough, taught by the full one.

        Args:
            full: What `teach` returned.
            watch: The steps of widths that are not tried are left out.
        """
        chosen, total = full, self.plan.trimming_steps
        if self.plan.method.decoder_widths:
            width = self._search(watch)
            begin = total - self.plan.segmenter.steps
            if width < FULL:
                chosen, _ = self._trained(
                    "trimmed",
                    width,
                    self._lesson.everything,
                    self._split(full),
                    lambda step, _steps: watch(begin + step, total),
                )
        describe(chosen, self._encode, self._lesson.everything.images_NCX, self.plan.task)
        return chosen

    def parts(self, chosen: Decoder) -> dict[str, bytes]:
        """Return the parts of the new checkpoint that this visit made."""
        own = {DECODER + self.site_id: pack_network(chosen)}
        return own | ({ENCODER: pack_network(self._encoder)} if self.is_first else {})

    def size_share(self, chosen: Decoder) -> float:
        """Return how many weights a decoder has, as a share of those at full width."""
        return num_weights(chosen) / num_weights(untrained_decoder(self.plan, FULL))

    def _search(self, watch: Watch) -> float:
        """Return the narrowest width whose decoder loses no more Dice than the plan tolerates."""
        widths = (FULL, *self.plan.method.decoder_widths)
        steps, total = self.plan.segmenter.steps, self.plan.trimming_steps

        def tried(width: float, teacher: SplitSegmenter | None) -> Tried:
            before, own = widths.index(width) * steps, self._lesson.without_validation
            decoder, result = self._trained(
                "search", width, own, teacher, lambda step, _: watch(before + step, total)
            )
            return Tried(decoder=decoder, width=width, dice=result.numbers["dice"])

        full = tried(FULL, None)
        teacher = self._split(full.decoder)
        tolerance = self.plan.method.decoder_tolerance
        return narrowest(full, widths[1:], lambda width: tried(width, teacher), tolerance).width

    def _trained(
        self,
        purpose: str,
        width: float,
        own: Pool,
        teacher: SplitSegmenter | None,
        watch: Watch,
    ) -> tuple[Decoder, Result]:
        decoder = untrained_decoder(self.plan, width)
        network = self._split(decoder)
        result = self._fitted(network, own, teacher, f"{purpose}/{width}", watch)
        decoder.load_state_dict(_within("decoder.", result.tensors))
        return decoder, result

    def _fitted(
        self,
        network: SplitSegmenter,
        own: Pool,
        teacher: SplitSegmenter | None,
        purpose: str,
        watch: Watch,
    ) -> Result:
        def compute() -> Result:
            averaged, loss = train_averaged(
                network,
                own,
                teacher=teacher,
                plan=self.plan,
                generator=self._stream("decoder", purpose),
                watch=watch,
            )
            dice = validation_dice(averaged, self._lesson, self.plan.task)
            return Result(tensors=averaged.state_dict(), numbers={"loss": loss, "dice": dice})

        return self._recall(self._key("decoder", purpose), compute)

    def _split(self, decoder: Decoder) -> SplitSegmenter:
        return SplitSegmenter(self._encode, decoder, self._lesson.asked).eval()


def _within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, under the rest of their names."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
