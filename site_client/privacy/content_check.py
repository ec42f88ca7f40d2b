"""Is a part made of weights that training made? What its numbers tell, before it leaves.

Four looks. *How far*: a step of Adam moves a weight by at most its learning rate times
(1 - beta1) / sqrt(1 - beta2) = 3.16 (Kingma and Ba 2015, section 2.1), so no weight of a released
part lies farther from its parent than the plan's steps allow; pixels from 0 to 255, and bytes read
as floats, do. *Odd numbers*: training leaves hardly a subnormal or a negative zero, whose bits
would be free. *Own images*: `image_search` compares the part with the site's own images. *One
training*: the segmenter that travels on follows, bit for bit, from the site's labeller and from
what arrived.

A site that means to hide bits in weights of the right shape can: noise of the size of a training
step cannot be told from a training step. What bounds it is the byte budget.
"""

import hashlib
import math
from collections.abc import Mapping

import numpy as np

from wardround.shared.checkpoint import DECODER, ENCODER, LABELLER, METHOD, PROMPT, read_header
from wardround.shared.errors import EgressRefused
from wardround.shared.plan import PER_SITE, StudyPlan
from wardround.site_client.learning.genesis import decoder_like, make_genesis
from wardround.site_client.learning.outer_step import outer_step_of, stepped
from wardround.site_client.learning.split_network import SEEN
from wardround.site_client.learning.weights import pack, pack_network, unpack
from wardround.site_client.privacy.image_search import ImageSearch

ADAM_STEP = 4.0  # 3.16, and room for rounding and for weight decay (1e-4 of a weight and step)
PROMPT_START = 8.0  # standard deviations: how far from nought a prompt begins at most
SMALLEST_NORMAL = np.finfo(np.float32).tiny
ODD_SHARE, ODD_NUMBER = 0.01, 16


class ContentCheck:
    """Looks into the parts of one visit.

    Args:
        plan: The study plan.
        site_id: Whose visit it is.
        parent: Part name -> file of the checkpoint that the visit started from.
        images: The site's own images.
    """

    def __init__(
        self, plan: StudyPlan, site_id: str, parent: Mapping[str, bytes], images: ImageSearch
    ) -> None:
        self._plan, self._site_id = plan, site_id
        self._parent, self._images = parent, images
        self._began_at_nought = _zeros_of_genesis(plan)
        self._labeller = LABELLER + site_id
        before = parent.get(self._labeller)
        self._labellers = {} if before is None else {_digest(before): before}

    def __call__(self, name: str, data: bytes) -> None:
        """Look at the file of the part `name`, which has the manifest's tensors.

        Raises:
            EgressRefused: Training does not make this.
        """
        self._images.expect_absent(name, data)
        if name == self._labeller:
            self._labellers[_digest(data)] = data
        before = self._before(name, data)
        reach = self._reach(name)
        for key, tensor in _arrays(data).items():
            values = tensor.ravel()
            if not values.size:
                continue
            start = before[key].ravel() if key in before else np.zeros(1, np.float32)
            if reach is not None:
                if key not in SEEN:
                    _expect_in_reach(name, key, values, start, reach)
                _expect_ordinary(name, key, values)
            is_smooth = name == METHOD or (name, key) in self._began_at_nought
            kernel = math.prod(tensor.shape[2:])
            self._images.expect_unlike(
                name, key, values, values - start, kernel=kernel, is_smooth=is_smooth
            )

    def expect_one_training(self, digests: Mapping[str, str]) -> None:
        """Look whether the segmenter follows from the site's labeller, if there is one.

        Args:
            digests: Part name -> digest of each part that is to be announced.

        Raises:
            EgressRefused: It does not: one of the two holds something else.
        """
        if self._labeller not in digests:
            return
        visited = [name for name in self._parent if name.startswith(LABELLER)]
        size = outer_step_of(self._plan, visited)
        expected = digests[self._labeller]
        if size < 1:
            arrived, trained = self._parent["segmenter"], self._labellers[expected]
            expected = _digest(pack(stepped(unpack(arrived), unpack(trained), size)))
        if digests["segmenter"] != expected:
            raise EgressRefused(
                f"part '{self._labeller}' is not the network that the segmenter of this visit was "
                f"made from. At an outer step of {size:g} its segmenter has the digest {expected}, "
                f"not {digests['segmenter']}. Both must come from one training."
            )

    def _before(self, name: str, data: bytes) -> dict[str, np.ndarray]:
        """Return what a part was before the visit: the parent's, or an untrained decoder."""
        if name == self._labeller:
            return _arrays(self._parent["segmenter"])
        if name in self._parent:
            return _arrays(self._parent[name])
        if name.startswith(DECODER):
            return _arrays(pack_network(decoder_like(self._plan, read_header(data))))
        return {}

    def _reach(self, name: str) -> float | None:
        """Return how far a visit can move a weight of a part; None where no bound is known."""
        segmenter, denoiser = self._plan.segmenter, self._plan.denoiser
        earlier = [_largest(data) for key, data in self._parent.items() if key.startswith(PROMPT)]
        steps = denoiser.steps if earlier else denoiser.first_steps
        match name:
            case "segmenter" | self._labeller if self._plan.method.name != PER_SITE:
                return ADAM_STEP * segmenter.learning_rate * segmenter.steps
            case _ if name == ENCODER and any(key.startswith(DECODER) for key in self._parent):
                return 0.0  # frozen
            case _ if name in (ENCODER, DECODER + self._site_id):
                return ADAM_STEP * segmenter.learning_rate * segmenter.steps
            case "denoiser":
                return ADAM_STEP * denoiser.learning_rate * steps
            case _ if name == PROMPT + self._site_id:
                start = max([PROMPT_START, *(one + PROMPT_START for one in earlier)])
                return start + ADAM_STEP * denoiser.prompt_learning_rate * steps
            case _:  # what a method remembers has any size
                return None


def _zeros_of_genesis(plan: StudyPlan) -> frozenset[tuple[str, str]]:
    """Return (part, tensor) of what holds nothing but zeros before the first visit."""
    return frozenset(
        (name, key)
        for name, data in make_genesis(plan).parts.items()
        for key, tensor in _arrays(data).items()
        if not tensor.any()
    )


def _expect_in_reach(
    part: str, key: str, values: np.ndarray, start: np.ndarray, reach: float
) -> None:
    moved = float(np.abs(values - start).max())
    if moved > reach * 1.01 + 1e-4 * float(np.abs(start).max()) * reach:
        raise EgressRefused(
            f"part '{part}': tensor '{key}' lies {moved:.3g} from where the visit began, and the "
            f"plan's training can move a weight by {reach:.3g}. These are no weights that it made."
        )


def _expect_ordinary(part: str, key: str, values: np.ndarray) -> None:
    sizes = np.abs(values)
    odd = int(((sizes < SMALLEST_NORMAL) & ((sizes > 0) | np.signbit(values))).sum())
    if odd > ODD_NUMBER + ODD_SHARE * values.size:
        raise EgressRefused(
            f"part '{part}': tensor '{key}' holds {odd} subnormal numbers or negative zeros of "
            f"{values.size}. Training leaves hardly any; nothing was released."
        )


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    return {key: tensor.float().numpy() for key, tensor in unpack(data).items()}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _largest(data: bytes) -> float:
    return max(float(tensor.abs().max()) for tensor in unpack(data).values())
