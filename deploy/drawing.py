"""Draw the pictures of a report: generated pairs, and of mock sites cases and predictions.

Runs where the sites are objects of this process, so in a simulation alone.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wardround.deploy.report_page import Example, Gallery, Pictures
from wardround.server.state import StudyState
from wardround.server.store import ArtefactStore
from wardround.shared import seeds
from wardround.shared.checkpoint import PROMPT, verified
from wardround.shared.plan import StudyPlan, Task
from wardround.site_client.data.cases import Case, SiteData
from wardround.site_client.data.preprocess import normalise, to_samples
from wardround.site_client.learning.judging import judge_of
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.metrics import CaseClassScore
from wardround.site_client.learning.pool import Pool, apart
from wardround.site_client.learning.registration.judge import PairJudge
from wardround.site_client.learning.registration.pairs import (
    Pair,
    heldout_pairs,
    place_at_same_depth,
)
from wardround.site_client.learning.weights import PROMPT_TENSOR, fill_network, unpack

IN_A_ROW = 8
EXAMPLES = 2
MAX_SIDE = 256
MIN_SIDE = 96

# Okabe and Ito's colours, which people with any colour vision can tell apart, on grey and on red.
_OUTLINES = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (0, 114, 178),
    (213, 94, 0),
)


def draw(
    plan: StudyPlan, state: StudyState, store: ArtefactStore, sites: Mapping[str, SiteData]
) -> Pictures:
    """Return the pictures of a finished study, the same for the same study."""
    is_mock = plan.simulation.mock is not None
    parts = {
        part.name: b"".join(verified(part, store.read(part))) for part in state.checkpoint.parts
    }
    return Pictures(
        galleries=_galleries(plan, parts, sites, is_mock=is_mock),
        examples=_examples(plan, parts, sites) if is_mock else (),
        sites_are_mock=is_mock,
    )


def picture(image_CHW: np.ndarray, label_HW: np.ndarray | None) -> bytes:
    """Return a PNG of one slice with the outlines of its label.

    Args:
        image_CHW: 1 or 3 channels, values in [-1, 1].
        label_HW: Class numbers, drawn as one-pixel outlines; None draws none.
    """
    grey = np.clip((image_CHW + 1) * 127.5, 0, 255).round().astype(np.uint8)
    rgb_HWC = np.repeat(grey, 3, axis=0) if len(grey) == 1 else grey
    rgb_HWC = np.ascontiguousarray(rgb_HWC.transpose(1, 2, 0))
    factor = max(1, -(-MIN_SIDE // max(rgb_HWC.shape[:2])))
    rgb_HWC = rgb_HWC.repeat(factor, axis=0).repeat(factor, axis=1)
    if label_HW is not None:
        label = label_HW.repeat(factor, axis=0).repeat(factor, axis=1)
        for number in range(1, int(label.max()) + 1):
            rgb_HWC[_outline(label == number)] = _OUTLINES[(number - 1) % len(_OUTLINES)]
    image = Image.fromarray(rgb_HWC)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _outline(mask_HW: np.ndarray) -> np.ndarray:
    padded = np.pad(mask_HW, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask_HW & ~inner, dtype=bool)


def _galleries(
    plan: StudyPlan,
    parts: Mapping[str, bytes],
    sites: Mapping[str, SiteData],
    *,
    is_mock: bool,
) -> tuple[Gallery, ...]:
    if "denoiser" not in parts:
        return ()
    kind = find_method(plan.method.name).generator
    denoiser = kind.build(plan.task, plan.denoiser, 0)
    fill_network(denoiser, parts["denoiser"])
    galleries = []
    for site_id in plan.sites:
        if PROMPT + site_id not in parts:
            continue
        generator = torch.Generator().manual_seed(seeds.derive(plan.seed, "gallery", site_id))
        prompt = unpack(parts[PROMPT + site_id])[PROMPT_TENSOR]
        count = IN_A_ROW // plan.task.num_images
        pairs = kind.draw(denoiser, prompt, count, plan=plan, generator=generator)
        cases = sites[site_id].train
        is_volume = _is_volume(cases[0])
        real = _real_row(cases, plan.task, is_volume=is_volume) if is_mock else ()
        generated = _row(pairs, plan.task, is_volume=is_volume)
        galleries.append(Gallery(site_id=site_id, generated=generated, real=real))
    return tuple(galleries)


def _row(pairs: Pool, task: Task, *, is_volume: bool) -> tuple[bytes, ...]:
    each = apart(pairs, task.num_images)  # the images of a sample stand beside each other
    drawn = zip(
        torch.stack([one.images_NCX for one in each], dim=1).flatten(0, 1),
        torch.stack([one.labels_NX for one in each], dim=1).flatten(0, 1),
        strict=True,
    )
    return tuple(_sample_picture(image, label, task, is_volume=is_volume) for image, label in drawn)


def _sample_picture(image_CX: Tensor, label_X: Tensor, task: Task, *, is_volume: bool) -> bytes:
    image, label = image_CX.float().numpy(), label_X.numpy()
    if task.dims == "2.5d":
        image = image[task.channels : 2 * task.channels]
    if task.dims == "3d":
        depth = _fullest(label)
        image, label = image[..., depth], label[..., depth]
    return picture(_upright(image, is_volume), _upright(label, is_volume))


def _real_row(cases: Sequence[Case], task: Task, *, is_volume: bool) -> tuple[bytes, ...]:
    chosen = [cases[i] for i in np.linspace(0, len(cases) - 1, IN_A_ROW).round().astype(int)]
    row = []
    for case in dict.fromkeys(case.case_id for case in chosen):
        samples = to_samples(next(c for c in chosen if c.case_id == case), task)
        areas = samples.labels_NX.flatten(1).bool().sum(1)
        fullest = int(areas.argmax())
        image, label = samples.images_NCX[fullest], samples.labels_NX[fullest]
        row.append(_sample_picture(image, label, task, is_volume=is_volume))
    return tuple(row)


def _examples(
    plan: StudyPlan, parts: Mapping[str, bytes], sites: Mapping[str, SiteData]
) -> tuple[Example, ...]:
    examples = []
    for site_id in plan.sites:
        judge = judge_of(parts, plan, site_id)
        if isinstance(judge, PairJudge):
            pairs = heldout_pairs(sites[site_id].heldout, plan, site_id)[:EXAMPLES]
            examples += [_pair_example(judge, pair) for pair in pairs]
            continue
        for case in sites[site_id].heldout[:EXAMPLES]:
            predicted = judge.segment(case)
            caption = _caption(judge.classes, judge.score(predicted, case))
            examples.append(_example(site_id, caption, case, predicted, plan.task))
    return tuple(examples)


def _caption(classes: Sequence[str], scores: Sequence[CaseClassScore]) -> str:
    named = zip(classes, scores, strict=True)
    return "Dice " + ", ".join(f"{name} {score.dice:.2f}" for name, score in named)


def _pair_example(judge: PairJudge, pair: Pair) -> Example:
    """Return the fixed case, the moving one, and the moving one as it was moved."""
    fixed, moving = pair
    moved = judge.move(pair)
    depth, is_volume = _fullest(fixed.label_HWD), _is_volume(fixed)
    other = place_at_same_depth(depth, fixed.label_HWD.shape[2], moving.label_HWD.shape[2])

    def outlined(image_CHWD: np.ndarray, label_HWD: np.ndarray, place: int) -> bytes:
        image = normalise(image_CHWD, judge.plan.task)[..., place].numpy()
        return picture(_upright(image, is_volume), _upright(label_HWD[..., place], is_volume))

    return Example(
        site_id=judge.site_id,
        caption=_caption(judge.classes, judge.score(moved, fixed)),
        image=outlined(fixed.image_CHWD, fixed.label_HWD, depth),
        label=outlined(moving.image_CHWD, moving.label_HWD, other),
        prediction=outlined(moved.image_CHWD, moved.label_HWD, depth),
    )


def _example(
    site_id: str, caption: str, case: Case, predicted_HWD: np.ndarray, task: Task
) -> Example:
    depth = _fullest(case.label_HWD)
    is_volume = _is_volume(case)
    image = _upright(normalise(case.image_CHWD, task)[..., depth].numpy(), is_volume)
    return Example(
        site_id=site_id,
        caption=caption,
        image=picture(image, None),
        label=picture(image, _upright(case.label_HWD[..., depth], is_volume)),
        prediction=picture(image, _upright(predicted_HWD[..., depth], is_volume)),
    )


def _is_volume(case: Case) -> bool:
    return bool(case.label_HWD.shape[2] > 1)


def _upright(slice_XHW: np.ndarray, is_volume: bool) -> np.ndarray:
    """Turn a slice of a RAS volume as radiologists look at it: front up, the right side left."""
    if not is_volume:
        return slice_XHW
    return np.ascontiguousarray(slice_XHW.swapaxes(-1, -2)[..., ::-1, ::-1])


def _fullest(label_HWD: np.ndarray) -> int:
    """Return the slice with the most foreground."""
    return int((label_HWD > 0).sum(axis=(0, 1)).argmax())
