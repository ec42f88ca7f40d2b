"""How true are the replayed pairs? Two judges that know real images tell.

From the last checkpoint of a finished study, pairs are drawn under the prompt of every site
visited, as many and labelled as replay would be at the next visit. Then, site by site:

    assigned    the share of generated images that a site classifier, trained on the real training
                images of all sites, gives to the site whose prompt drew them; beside it, as the
                judge's own mark, the share of real held-out images that it gives to their site
    ratio       Dice on the site's held-out cases of a segmenter that saw generated pairs alone,
                over that of one which saw the real training pairs: the plan's network, steps and
                augmentation, plain loss, the same initial weights and streams for both
    spread      how much the labelled share varies from generated image to image over how much it
                varies among the real ones (standard deviations): below 1 pairs are too much alike

Bars: 0.9 for each of the first two, at every site. Numbers are means over several trainings.

    python benchmarks/replay_truth.py out/smd/seed-0 --data out/data/mock-70-40
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch
from audited_study import VisitMade, visits_of
from monai.networks.nets import Classifier
from torch import Tensor, nn
from torch.nn import functional as F

from wardround.shared import seeds
from wardround.shared.checkpoint import LABELLER, PROMPT
from wardround.shared.plan import StudyPlan
from wardround.site_client.data.augment import augment
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.judging import Judge
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.methods.finetune import FINETUNE
from wardround.site_client.learning.methods.method import Arrival
from wardround.site_client.learning.pool import Pool, draw
from wardround.site_client.learning.pools import case_pool
from wardround.site_client.learning.relabel import relabelled
from wardround.site_client.learning.segmenter import build_segmenter
from wardround.site_client.learning.segmenter_training import train_segmenter
from wardround.site_client.learning.weights import PROMPT_TENSOR, fill_network, unpack

BAR = 0.9
LEVELS = (16, 32, 64)  # channels of the site classifier, each at half the size of the one before
JUDGE_STEPS = 800
JUDGE_BATCH = 32
JUDGE_LEARNING_RATE = 2e-3  # the highest: it rises over a tenth of the steps, then falls to nought
JUDGE_DROPOUT = 0.2
JUDGE_JITTER = 0.3  # else it learns thirty cases by heart and knows few others of their sites


def main() -> None:
    """Print the table, then whether each bar is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="folder of a finished study that draws its replay")
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder a site")
    parser.add_argument("--pairs", type=int, help="drawn for each site (replay.samples_per_site)")
    parser.add_argument("--trainings", type=int, default=3, help="of each network (3)")
    given = parser.parse_args()
    visits = visits_of(given.study, given.data)
    if not visits:
        parser.error(f"'{given.study}' holds no visit; name the folder of a study that was run")
    last, plan = visits[-1], visits[-1].plan
    torch.set_num_threads(plan.compute.threads)
    real = [case_pool(visit.data.train, plan.task) for visit in visits]
    judges = [trained_judge(real, plan, number) for number in range(given.trainings)]
    assigned, ratios = {}, {}
    print("site     pairs  real assigned  assigned  Dice real  generated  ratio  spread")
    for index, visit in enumerate(visits):
        site, cases = visit.site_id, visit.data.heldout
        generated = redrawn(last, site, given.pairs or plan.replay.samples_per_site)
        mark = _share(judges, case_pool(cases, plan.task), index, plan)
        assigned[site] = _share(judges, generated, index, plan)
        of_real, of_generated = (
            fmean(trained_dice(pool, cases, plan, site, n) for n in range(given.trainings))
            for pool in (real[index], generated)
        )
        ratios[site] = of_generated / max(of_real, 1e-12)
        print(
            f"{site:8} {len(generated):5} {mark:14.3f} {assigned[site]:9.3f} {of_real:10.3f} "
            f"{of_generated:10.3f} {ratios[site]:6.3f} "
            f"{area_spread(generated) / max(area_spread(real[index]), 1e-12):7.3f}",
            flush=True,
        )
    print(f"generated images assigned to the prompted site: {verdict(assigned, BAR)}")
    print(f"Dice by generated pairs over Dice by real ones: {verdict(ratios, BAR)}")


def verdict(found: Mapping[str, float], bar: float) -> str:
    """Return the mean, and whether every site reaches the bar; if not, which misses it how far."""
    missed = [
        f"{site} by {bar - value:.3f}" for site, value in sorted(found.items()) if value < bar
    ]
    outcome = f"missed at {', '.join(missed)}" if missed else "met at every site"
    return f"mean {fmean(found.values()):.3f}; bar {bar:g} {outcome}"


def redrawn(last: VisitMade, site: str, count: int) -> Pool:
    """Return pairs drawn from what the last visit left, labelled as `replay.labels` says."""
    plan = last.plan
    drawn = find_method(plan.method.name).generator.draw(
        last.denoiser(),
        unpack(last.parts[PROMPT + site])[PROMPT_TENSOR],
        count,
        plan=plan,
        generator=_stream(plan, "replay", site),
        watch=_unwatched,
    )
    part = LABELLER + site if plan.replay.labels == "site" else "segmenter"
    labeller = fill_network(build_segmenter(plan.task, plan.segmenter, seed=0), last.parts[part])
    return relabelled([drawn], [labeller], plan)[0][0]


def trained_judge(pools: Sequence[Pool], plan: StudyPlan, number: int) -> nn.Module:
    """Return a classifier of images (B, C, *X) into the pools' places, trained on these pools.

    Args:
        pools: Real images, one pool a site.
        plan: Sample size and augmentation; samples are moved, scaled and turned besides.
        number: Which training this is; each has streams of its own.
    """
    stream = _stream(plan, "judge", number)
    moved = plan.augmentation.model_copy(update={"jitter": JUDGE_JITTER})
    with torch.random.fork_rng(devices=[]):  # weights and dropout draw from the global generator
        torch.manual_seed(_seed(plan, "judge", number, "weights"))
        judge = Classifier(
            in_shape=(plan.task.input_channels, *plan.task.sample_size),
            classes=len(pools),
            channels=LEVELS,
            strides=(2,) * len(LEVELS),
            norm=("group", {"num_groups": 8}),
            dropout=JUDGE_DROPOUT,
        )
        optimiser = torch.optim.AdamW(judge.parameters(), lr=JUDGE_LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, JUDGE_LEARNING_RATE, JUDGE_STEPS, pct_start=0.1, cycle_momentum=False
        )
        for _ in range(JUDGE_STEPS):
            batch = draw(pools, JUDGE_BATCH, plan.task.sample_size, stream)
            images, _ = augment(batch.images_BCX, batch.targets_BKX, moved, stream)
            optimiser.zero_grad()
            F.cross_entropy(judge(images), batch.group_B).backward()
            optimiser.step()
            schedule.step()
    return judge.eval()


@torch.no_grad()
def share_assigned(judge: nn.Module, pool: Pool, index: int, plan: StudyPlan) -> float:
    """Return the share of a pool's images that a judge gives to place `index`.

    Each image counts once; where samples are patches, a random patch of it.
    """
    one_by_one = [
        Pool(images_NCX=image_CX[None], targets_NKX=target_KX[None])
        for image_CX, target_KX in zip(pool.images_NCX, pool.targets_NKX, strict=True)
    ]
    stream = _stream(plan, "looked-at", index)
    images: Tensor = draw(one_by_one, len(pool), plan.task.sample_size, stream).images_BCX
    return float((judge(images).argmax(dim=1) == index).float().mean())


def area_spread(pool: Pool) -> float:
    """Return by how much the labelled share of an image varies in a pool: a standard deviation."""
    share_N = (pool.labels_NX != 0).flatten(1).float().mean(dim=1)
    return float(share_N.std())


def trained_dice(
    pool: Pool, heldout: Sequence[Case], plan: StudyPlan, site: str, number: int
) -> float:
    """Return the Dice on held-out cases, mean over the classes, of a segmenter that saw one pool.

    Weights and streams follow from site and `number`, not from the pool.
    """
    segmenter = build_segmenter(
        plan.task, plan.segmenter, _seed(plan, "segmenter", site, number, "weights")
    )
    train_segmenter(
        segmenter,
        own=[pool],
        replay=[],
        learner=FINETUNE.begin(Arrival(segmenter=segmenter, state={}, is_first=True, plan=plan)),
        plan=plan,
        generator=_stream(plan, "segmenter", site, number),
        watch=_unwatched,
    )
    judge = Judge(segmenter=segmenter, task=plan.task, classes=plan.task.classes_of(site))
    return judge.scores(heldout, _unwatched).dice


def _share(judges: Sequence[nn.Module], pool: Pool, index: int, plan: StudyPlan) -> float:
    return fmean(share_assigned(judge, pool, index, plan) for judge in judges)


def _seed(plan: StudyPlan, *path: str | int) -> int:
    return seeds.derive(plan.seed, "replay-truth", *path)


def _stream(plan: StudyPlan, *path: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(plan, *path))


def _unwatched(_step: int, _steps: int) -> None:
    pass


if __name__ == "__main__":
    main()
