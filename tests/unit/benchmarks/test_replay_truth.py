"""The judges of replayed pairs, on images whose answer is plain."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.pool import Pool, labelled
from wardround.site_client.learning.pools import case_pool


@pytest.fixture
def replay_truth(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module; scripts find each other by their folder alone."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("replay_truth")


def grey(shade: float, side: int = 16) -> Pool:
    """Return eight images around one shade, nothing in them labelled."""
    noise = torch.randn((8, 1, side, side), generator=torch.Generator().manual_seed(0))
    labels = torch.zeros((8, side, side), dtype=torch.int64)
    return labelled(shade + 0.05 * noise, labels, num_classes=1)


def square(case_id: str, start: int, *, shows_it: bool) -> Case:
    """Return a case with a square organ, bright on dark, or in an image that does not show it."""
    label = np.zeros((16, 16, 1), dtype=np.uint8)
    label[start : start + 6, start : start + 6] = 1
    noise = np.random.default_rng(start).normal(size=label.shape)
    return Case(
        case_id=case_id,
        image_CHWD=(noise + 20 * label * shows_it)[None].astype(np.float32),
        label_HWD=label,
        fov_HWD=None,
        spacing_mm=(1.0, 1.0, 1.0),
    )


def test_a_bar_that_every_site_reaches_is_met(replay_truth: ModuleType) -> None:
    said = replay_truth.verdict({"ada": 0.9, "ben": 1.0}, 0.9)

    assert said == "mean 0.950; bar 0.9 met at every site"


def test_a_missed_bar_names_the_sites_that_miss_it_and_by_how_much(
    replay_truth: ModuleType,
) -> None:
    said = replay_truth.verdict({"cai": 0.6, "ben": 1.0, "ada": 0.875}, 0.9)

    assert said == "mean 0.825; bar 0.9 missed at ada by 0.025, cai by 0.300"


def test_judges_give_images_to_the_site_that_looks_like_them(
    replay_truth: ModuleType, tiny_plan: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_truth, "JUDGE_STEPS", 40)
    judge = replay_truth.trained_judge([grey(-0.5), grey(0.5)], tiny_plan, 0)

    assert replay_truth.share_assigned(judge, grey(0.4), 1, tiny_plan) == 1.0
    assert replay_truth.share_assigned(judge, grey(0.4), 0, tiny_plan) == 0.0


def test_every_image_is_judged_once(replay_truth: ModuleType, tiny_plan: StudyPlan) -> None:
    """Eight images larger than a sample, three of them bright: each gives one patch."""
    pool = grey(-0.5, side=20)
    pool.images_NCX[:3] += 1

    def bright(images_BCX: torch.Tensor) -> torch.Tensor:
        assert images_BCX.shape == (8, 1, 16, 16)
        mean_B = images_BCX.mean(dim=(1, 2, 3))
        return torch.stack([-mean_B, mean_B], dim=1)

    assert replay_truth.share_assigned(bright, pool, 1, tiny_plan) == 3 / 8


def test_spread_is_the_standard_deviation_of_the_labelled_share(replay_truth: ModuleType) -> None:
    """Two images of 4 x 4 pixels: 4 and 12 of 16 labelled, of whichever class."""
    labels = torch.zeros((2, 16), dtype=torch.int64)
    labels[0, :4], labels[1, :6], labels[1, 6:12] = 1, 1, 2
    pool = labelled(torch.zeros((2, 1, 4, 4)), labels.view(2, 4, 4), num_classes=2)

    assert replay_truth.area_spread(pool) == pytest.approx(0.5 / 2**0.5)


def test_a_segmenter_that_saw_pairs_without_the_organ_scores_less(
    replay_truth: ModuleType, tiny_plan: StudyPlan
) -> None:
    settings = tiny_plan.segmenter.model_copy(update={"steps": 60, "batch_size": 4})
    still = tiny_plan.augmentation.model_copy(update={"jitter": 0.0})
    plan = tiny_plan.model_copy(update={"segmenter": settings, "augmentation": still})
    heldout = [square("h", 5, shows_it=True)]
    true = case_pool([square(f"{n}", n, shows_it=True) for n in (1, 4, 7, 9)], plan.task)
    false = case_pool([square(f"{n}", n, shows_it=False) for n in (1, 4, 7, 9)], plan.task)

    by_true = replay_truth.trained_dice(true, heldout, plan, "ada", 0)

    assert by_true > 0.8
    assert replay_truth.trained_dice(false, heldout, plan, "ada", 0) < by_true - 0.2
    assert replay_truth.trained_dice(true, heldout, plan, "ada", 0) == by_true
