"""Attack what left the sites of a study: who can tell training cases from held-out ones, how well?

For every visit of each study given, each case of the site gets one number, by

    segmenter     its mean loss (Yeom et al. 2018) under what scores the checkpoint at the site
    entropy       the cross-entropy alone, likewise
    segmenter/    the loss divided by that under what arrived (Watson et al. 2022)
    denoiser      its error of being restored at four noise levels under the site's prompt
    denoiser/     the same, divided by that of the one that arrived under the earlier prompts' mean
    prompt        the same error, of the denoiser that arrived under the new prompt alone, likewise

and the table says how well these numbers tell the site's training cases from its held-out ones: the
area under the ROC curve, 0.5 where they do not. The first visit has nothing to divide by.

    python benchmarks/membership.py out/benchmark/smd/seed-0 --data out/benchmark/data/mock-70-40
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch
from audited_study import VisitMade, visits_of
from torch import Tensor
from torch.nn import functional as F

from wardround.shared.checkpoint import PROMPT
from wardround.shared.plan import PER_SITE
from wardround.site_client.data.preprocess import to_samples
from wardround.site_client.learning.denoiser import join
from wardround.site_client.learning.judging import judge_of
from wardround.site_client.learning.pool import labelled
from wardround.site_client.learning.segmenter import segmentation_loss
from wardround.site_client.learning.weights import PROMPT_TENSOR, unpack
from wardround.site_client.privacy.estimates import separation
from wardround.site_client.privacy.membership import case_errors

NOISE_SEED = 2
ATTACKS = ("segmenter", "entropy", "segmenter/", "denoiser", "denoiser/", "prompt")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", type=Path, help="folders of finished studies")
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder a site")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'site':20}{'members':>8}{'others':>8}", *(f"{attack:>11}" for attack in ATTACKS))
    for study in given.studies:
        print(study)
        found: list[dict[str, float]] = []
        for visit in visits_of(study, given.data):
            found.append(attacked(visit))
            counts = f"{len(visit.data.train):8d}{len(visit.data.heldout):8d}"
            print(f"  {visit.site_id:18}{counts}", *_cells(found[-1]), flush=True)
        means = {
            attack: fmean(areas[attack] for areas in found if attack in areas)
            for attack in ATTACKS
            if any(attack in areas for areas in found)
        }
        print(f"  {'mean':34}", *_cells(means), flush=True)


def _cells(areas: Mapping[str, float]) -> list[str]:
    return [f"{areas[a]:11.3f}" if a in areas else f"{'-':>11}" for a in ATTACKS]


def attacked(visit: VisitMade) -> dict[str, float]:
    """Return the area under the ROC curve of each attack on one visit."""
    samples = [_samples(visit, index) for index in range(_num_cases(visit))]
    losses = _segmenter_losses(visit, visit.parts, samples)
    numbers = {"segmenter": [loss for loss, _ in losses], "entropy": [part for _, part in losses]}
    earlier = [name for name in visit.parent if name.startswith(PROMPT)]
    if "segmenter" in visit.parent and visit.number > 1 and visit.plan.method.name != PER_SITE:
        before = [loss for loss, _ in _segmenter_losses(visit, visit.parent, samples)]
        numbers["segmenter/"] = _divided(numbers["segmenter"], before)
    if "denoiser" in visit.parts:
        numbers["denoiser"] = _errors(visit, visit.prompt_PW, samples, parent=False)
    if earlier and "denoiser" in visit.parts:
        tokens = [unpack(visit.parent[name])[PROMPT_TENSOR] for name in earlier]
        before = _errors(visit, torch.stack(tokens).mean(0), samples, parent=True)
        numbers["denoiser/"] = _divided(numbers["denoiser"], before)
        numbers["prompt"] = _divided(_errors(visit, visit.prompt_PW, samples, parent=True), before)
    members = len(visit.data.train)
    return {
        attack: separation(values[:members], values[members:]).value
        for attack, values in numbers.items()
    }


def _num_cases(visit: VisitMade) -> int:
    return len(visit.data.train) + len(visit.data.heldout)


def _samples(visit: VisitMade, index: int) -> Tensor:
    """Return the joined samples (n, C, *X) of one case, training cases first."""
    case, task = (*visit.data.train, *visit.data.heldout)[index], visit.plan.task
    found = to_samples(case, task)
    pool = labelled(found.images_NCX, found.labels_NX, len(task.classes))
    joined = join(pool.images_NCX, pool.targets_NKX)
    if task.patch_size is None:
        return joined
    tiles = joined.unfold(2, task.patch_size[0], task.patch_size[0])
    tiles = tiles.unfold(3, task.patch_size[1], task.patch_size[1])
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


@torch.no_grad()
def _segmenter_losses(
    visit: VisitMade, parts: Mapping[str, bytes], samples: Sequence[Tensor]
) -> list[tuple[float, float]]:
    """Return each case's loss and cross-entropy."""
    segmenter = judge_of(parts, visit.plan, visit.site_id).segmenter
    classes, losses = len(visit.plan.task.classes), []
    for joined in samples:
        maps = (joined[:, -classes:] + 1) / 2
        targets = torch.cat([1 - maps.sum(1, keepdim=True), maps], dim=1)
        logits = segmenter(joined[:, :-classes])
        entropy = float(F.cross_entropy(logits, targets))
        losses.append((float(segmentation_loss(logits, targets)), entropy))
    return losses


def _errors(
    visit: VisitMade, prompt_PW: Tensor, samples: Sequence[Tensor], *, parent: bool
) -> list[float]:
    noise = torch.Generator().manual_seed(NOISE_SEED)
    return case_errors(visit.denoiser(parent=parent), prompt_PW, samples, visit.plan, noise)


def _divided(values: Sequence[float], by: Sequence[float]) -> list[float]:
    return [value / max(one, 1e-12) for value, one in zip(values, by, strict=True)]


if __name__ == "__main__":
    main()
