"""Where several decoders speak about one image: who is heard at each pixel.

What a decoder says counts by its *weight*, confidence times trust. Confidence is 1 minus the
entropy of its answer over the largest entropy possible: 1 where it is certain, 0 where all its
classes are equally likely. Trust is 1 for images like those of its site (`familiarity`).

1. Decoders that know the same classes answer the same question: the greatest weight is heard.
2. Decoders that know other classes answer another one, to which *background* only means none of
   mine. So a claim of a class is heard before any background, and of several claims the one with
   the greatest weight.

The decoder that is heard gives all probabilities of that pixel, so a single decoder is heard as it
is, and what is merged may be resampled as any segmenter's answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

# B batch, K background and classes, X spatial axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one decoder says.

    Attributes:
        classes: Numbers of the classes it knows, as the plan numbers them, ascending.
        probabilities_BKX: Of background and these classes, (B, 1 + len(classes), *X).
        trust_B: In [0, 1], an image each.
    """

    classes: tuple[int, ...]
    probabilities_BKX: Tensor
    trust_B: Tensor


class _Heard(NamedTuple):
    weight_BX: Tensor
    probabilities_BKX: Tensor


def merged(answers: Sequence[Answer], num_classes: int) -> Tensor:
    """Return the probabilities (B, 1 + num_classes, *X) of what is heard.

    Args:
        answers: At least one; of equal weights the first is heard.
        num_classes: Of the plan.
    """
    by_question: dict[tuple[int, ...], _Heard] = {}
    for answer in answers:
        trust = answer.trust_B.view(-1, *[1] * (answer.probabilities_BKX.dim() - 2))
        weight_BX = trust * confidence(answer.probabilities_BKX)
        said = _Heard(weight_BX, answer.probabilities_BKX)
        before = by_question.get(answer.classes)
        by_question[answer.classes] = _louder(before, said) if before else said
    claims = (_claim(said, classes, num_classes) for classes, said in by_question.items())
    return reduce(_louder, claims).probabilities_BKX


def confidence(probabilities_BKX: Tensor) -> Tensor:
    """Return 1 - entropy / log K at each pixel, (B, *X), in [0, 1]."""
    entropy_BX = torch.special.entr(probabilities_BKX).sum(dim=1)
    sureness_BX: Tensor = 1 - entropy_BX / math.log(probabilities_BKX.shape[1])
    return sureness_BX.clamp(0, 1)


def _claim(said: _Heard, classes: Sequence[int], num_classes: int) -> _Heard:
    """Return an answer over all classes, with a negative weight where it claims none."""
    claims_BX = said.probabilities_BKX.argmax(dim=1) > 0
    size = list(said.probabilities_BKX.shape)
    size[1] = 1 + num_classes
    spread_BKX = said.probabilities_BKX.new_zeros(size)
    spread_BKX[:, [0, *classes]] = said.probabilities_BKX
    return _Heard(torch.where(claims_BX, said.weight_BX, -said.weight_BX), spread_BKX)


def _louder(one: _Heard, other: _Heard) -> _Heard:
    is_other = other.weight_BX > one.weight_BX
    return _Heard(
        torch.where(is_other, other.weight_BX, one.weight_BX),
        torch.where(is_other.unsqueeze(1), other.probabilities_BKX, one.probabilities_BKX),
    )
