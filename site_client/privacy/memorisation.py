"""The memorisation audit: does what is about to leave redraw this site's cases, or tell who is one?

Pairs drawn under the site's own prompt are compared with its training cases, in pixels
(`likeness`) and in the segmenter's features (`features`); what counts as a copy the held-out cases
say (`copies`). And training cases are told from held-out ones by the denoiser's loss
(`membership`). A limit counts as exceeded once that is certain: the lower bound of an estimate is
compared with it, so that chance alone stops few releases. With few cases nothing is certain, and
the audit says that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from wardround.shared.checkpoint import PROMPT
from wardround.shared.plan import StudyPlan, Task
from wardround.site_client.data.cases import Case, SiteData
from wardround.site_client.data.preprocess import to_samples
from wardround.site_client.learning.denoiser import join
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.pool import Pool, apart, draw, labelled
from wardround.site_client.learning.task_kinds import kind_of
from wardround.site_client.learning.weights import PROMPT_TENSOR, fill_network, unpack
from wardround.site_client.privacy import features, likeness
from wardround.site_client.privacy.copies import find_copies
from wardround.site_client.privacy.estimates import Estimate, separation, share
from wardround.site_client.privacy.membership import case_errors

# N samples, C channels, X spatial axes, P prompt tokens, W prompt width

MIN_TRAIN, MIN_HELDOUT = 6, 4  # cases; with fewer, chance alone would look like copies
MOST_OF_ONE_CASE = 0.5  # of the drawn pairs may have the same training case as their nearest
PER_CASE = 4  # samples of a case by which its loss is judged, and patches of a held-out case
MOST_CASES = 40  # of either side, by which the losses are judged


class Verdict(Enum):
    """What the audit says of a denoiser and a prompt."""

    RELEASE = "release"
    RETRAIN = "retrain"
    TOO_FEW = "too-few-cases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What plan and site policy together allow; the fields of `plan_audit.Audit`."""

    max_copy_rate: float
    max_membership_auc: float
    may_release_untold: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found; numbers alone.

    Attributes:
        copies: Share of the drawn pairs that are copies in pixels.
        feature_copies: The same in the segmenter's features.
        same_case: Largest share of the drawn pairs that one training case is the nearest to.
        membership: Area under the ROC curve of telling training cases from held-out ones.
    """

    copies: Estimate
    feature_copies: Estimate
    same_case: Estimate
    membership: Estimate

    def numbers(self) -> dict[str, float]:
        """Return every number by name, such as "copies.at_least"."""
        return {
            f"{name}.{part}": value
            for name, estimate in asdict(self).items()
            for part, value in estimate.items()
        }

    @classmethod
    def of_numbers(cls, numbers: Mapping[str, float]) -> "Findings":
        """Undo `numbers`."""

        def estimate(name: str) -> Estimate:
            value, low, high = (numbers[f"{name}.{p}"] for p in ("value", "at_least", "at_most"))
            return Estimate(value=value, at_least=low, at_most=high)

        return cls(
            copies=estimate("copies"),
            feature_copies=estimate("feature_copies"),
            same_case=estimate("same_case"),
            membership=estimate("membership"),
        )


def judge(findings: Findings | None, limits: Limits) -> Verdict:
    """Return the verdict on what was found; None is what a site with too few cases finds."""
    if findings is None:
        return Verdict.TOO_FEW
    copies = max(findings.copies.at_least, findings.feature_copies.at_least)
    exceeded = (
        copies > limits.max_copy_rate
        or findings.same_case.at_least > MOST_OF_ONE_CASE
        or findings.membership.at_least > limits.max_membership_auc
    )
    return Verdict.RETRAIN if exceeded else Verdict.RELEASE


def can_tell(data: SiteData) -> bool:
    """Return whether a site has enough cases for its held-out ones to say what chance does."""
    return len(data.train) >= MIN_TRAIN and len(data.heldout) >= MIN_HELDOUT


def look_into(
    parts: Mapping[str, bytes], data: SiteData, plan: StudyPlan, generator: torch.Generator
) -> Findings:
    """Look at the parts of a checkpoint that is about to leave; the arguments are as for `look`."""
    denoiser = find_method(plan.method.name).generator.build(plan.task, plan.denoiser, 0)
    fill_network(denoiser, parts["denoiser"])
    segmenter = kind_of(plan.task).build(plan, 0)
    return look(
        denoiser,
        unpack(parts[PROMPT + data.site_id])[PROMPT_TENSOR],
        fill_network(segmenter, parts["segmenter"]),
        data=data,
        plan=plan,
        generator=generator,
    )


def look(
    denoiser: nn.Module,
    prompt_PW: Tensor,
    segmenter: nn.Module,
    *,
    data: SiteData,
    plan: StudyPlan,
    generator: torch.Generator,
) -> Findings:
    """Look at what is about to leave.

    Args:
        denoiser: As it would leave, in evaluation mode.
        prompt_PW: The site's own prompt (P, W).
        segmenter: As it would leave, in evaluation mode.
        data: The cases; all three were trained on `train`, none on `heldout`. `can_tell` holds.
        plan: How many pairs are drawn, and all that a draw depends on.
        generator: The stream of every draw.
    """
    task, draw_pairs = plan.task, find_method(plan.method.name).generator.draw
    drawn = draw_pairs(denoiser, prompt_PW, plan.audit.samples, plan=plan, generator=generator)
    drawn_NCX = _images(apart(drawn, task.num_images))
    known, others = _pools(data.train, task), _pools(data.heldout, task)
    sizes, references = [len(pool) for pool in known], _images(known)
    compared = _samples(others, task, generator)
    heldout_sizes, compared_NCX = [len(pool) for pool in compared], _images(compared)
    pixels = find_copies(
        likeness.distances(drawn_NCX, references, task),
        likeness.distances(compared_NCX, references, task),
        sizes,
        heldout_sizes,
    )
    both = torch.cat([drawn_NCX, compared_NCX])
    seen, tiles = features.distances(segmenter, both, references, sizes, task)
    in_features = find_copies(seen[: len(drawn_NCX)], seen[len(drawn_NCX) :], tiles, heldout_sizes)
    errors = case_errors(
        denoiser,
        prompt_PW,
        [
            *_few(_as_trained_on(data.train, known, data.site_id, plan), task, generator),
            *_few(_as_trained_on(data.heldout, others, data.site_id, plan), task, generator),
        ],
        plan,
        generator,
    )
    num_members = min(len(known), MOST_CASES)
    return Findings(
        copies=share(int(pixels.is_copy_N.sum()), len(drawn_NCX)),
        feature_copies=share(int(in_features.is_copy_N.sum()), len(drawn_NCX)),
        same_case=share(pixels.num_same_case, len(drawn_NCX)),
        membership=separation(errors[:num_members], errors[num_members:]),
    )


def _pools(cases: Sequence[Case], task: Task) -> list[Pool]:
    """Return each case's samples of whole images."""
    samples = [to_samples(case, task) for case in cases]
    return [labelled(one.images_NCX, one.labels_NX, len(task.classes)) for one in samples]


def _as_trained_on(
    cases: Sequence[Case], pools: list[Pool], site_id: str, plan: StudyPlan
) -> list[Pool]:
    """Return the samples by which each case's loss is judged: those of its first specimen."""
    kind = kind_of(plan.task)
    if plan.task.num_images == 1:
        return pools
    firsts = {id(one[0]): one for one in reversed(kind.specimens(cases, plan, site_id))}
    return [kind.pool([firsts[id(case)]], plan, site_id) for case in cases]


def _images(pools: Sequence[Pool]) -> Tensor:
    return torch.cat([pool.images_NCX for pool in pools])


def _samples(pools: Sequence[Pool], task: Task, generator: torch.Generator) -> list[Pool]:
    """Return each case's samples as the denoiser draws them: whole images, or some patches."""
    if task.patch_size is None:
        return list(pools)
    patches = [draw([pool] * PER_CASE, PER_CASE, task.patch_size, generator) for pool in pools]
    return [Pool(images_NCX=one.images_BCX, targets_NKX=one.targets_BKX) for one in patches]


def _few(pools: Sequence[Pool], task: Task, generator: torch.Generator) -> list[Tensor]:
    """Return joined samples (n, C, *X), at most `PER_CASE` a case, of at most `MOST_CASES`."""
    kept = torch.randperm(len(pools), generator=generator)[:MOST_CASES].tolist()
    few = []
    for pool in _samples([pools[index] for index in kept], task, generator):
        places = torch.linspace(0, len(pool) - 1, min(len(pool), PER_CASE)).round().long()
        few.append(join(pool.images_NCX[places], pool.targets_NKX[places], task.num_images))
    return few
