"""The denoiser and its prompts: shapes, what moves and what must not, and that it learns at all."""

import copy

import pytest
import torch

from wardround.shared import plan as plans
from wardround.shared.errors import TrainingError
from wardround.site_client.learning.denoiser import (
    Denoiser,
    build_denoiser,
    join,
    new_prompt,
    separate,
)
from wardround.site_client.learning.diffusion import draw_pairs, new_schedule, train_denoiser
from wardround.site_client.learning.generator_training import Remembered, regularised
from wardround.site_client.learning.pool import Pool, labelled


def a_plan(**denoiser: object) -> plans.StudyPlan:
    settings = {
        "channels": [16, 16],
        "fold": 2,
        "prompt_width": 8,
        "prompt_tokens": 2,
        "first_steps": 4,
        "steps": 4,
        "batch_size": 4,
        "timesteps": 100,
        "sampling_steps": 5,
        "jitter": 0.0,
        **denoiser,
    }
    return plans.parse(
        {
            "study_id": "tiny",
            "sites": ["a", "b"],
            "task": {"classes": ["one", "two"], "working_size": [16, 16]},
            "denoiser": settings,
            "augmentation": {"flip": False},
        },
        origin="test",
    )


def a_pool(value: float, count: int = 6) -> Pool:
    images = torch.full((count, 1, 16, 16), value)
    labels = torch.zeros((count, 16, 16), dtype=torch.long)
    labels[:, 4:8, 4:8], labels[:, 8:12, 8:12] = 1, 2
    return labelled(images, labels, 2)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def silent(_step: int, _steps: int) -> None:
    pass


def train(
    plan: plans.StudyPlan, denoiser: Denoiser, earlier: list[Remembered]
) -> tuple[Denoiser, torch.Tensor]:
    prompt = new_prompt(plan.denoiser, [site.prompt_PW for site in earlier], stream(1))
    trained, prompt_PW, _loss = train_denoiser(
        denoiser,
        prompt,
        own=a_pool(0.5),
        earlier=earlier,
        plan=plan,
        generator=stream(2),
        watch=silent,
    )
    return trained, prompt_PW


def moved(before: torch.nn.Module, after: torch.nn.Module) -> bool:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


def test_image_and_label_map_survive_being_joined_and_separated() -> None:
    pool = a_pool(0.25)
    back = separate(join(pool.images_NCX, pool.targets_NKX), 2)

    assert torch.equal(back.images_NCX, pool.images_NCX)
    assert torch.equal(back.labels_NX, pool.labels_NX)


def test_where_no_class_is_above_zero_the_label_is_background() -> None:
    pair = torch.tensor([0.0, -0.2, -0.1]).reshape(1, 3, 1, 1)
    assert separate(pair, 2).labels_NX.item() == 0
    pair[0, 1] = 0.3
    assert separate(pair, 2).labels_NX.item() == 1


@pytest.mark.parametrize(
    ("dims", "size"),
    [
        ("2d", [16, 16]),
        ("2.5d", [16, 24]),
        ("3d", [16, 16, 8]),
        ("3d", [16, 16, 7]),
        ("2d", [24, 40]),
    ],
)
def test_drawn_pairs_have_the_sample_size_and_valid_values(dims: str, size: list[int]) -> None:
    task = plans.Task(dims=dims, classes=("one", "two"), working_size=tuple(size))
    plan = a_plan(fold=4).model_copy(update={"task": task})
    denoiser = build_denoiser(task, plan.denoiser, seed=0).eval()
    pool = draw_pairs(denoiser, torch.zeros(2, 8), 3, plan=plan, generator=stream())

    assert pool.images_NCX.shape == (3, task.input_channels, *size)
    assert pool.labels_NX.shape == (3, *size)
    assert pool.images_NCX.abs().max() <= 1
    assert set(pool.labels_NX.unique().tolist()) <= {0, 1, 2}


def test_the_schedule_ends_at_pure_noise() -> None:
    assert float(new_schedule(a_plan()).alphas_cumprod[99]) < 1e-3


def test_the_same_stream_draws_the_same_pairs() -> None:
    plan = a_plan()
    denoiser, _ = train(plan, build_denoiser(plan.task, plan.denoiser, seed=0), [])
    first, again, other = (
        draw_pairs(denoiser, torch.zeros(2, 8), 2, plan=plan, generator=stream(seed))
        for seed in (5, 5, 6)
    )
    assert torch.equal(first.images_NCX, again.images_NCX)
    assert not torch.equal(first.images_NCX, other.images_NCX)


def test_training_leaves_the_denoiser_that_arrived_and_earlier_prompts_as_they_were() -> None:
    plan = a_plan()
    denoiser = build_denoiser(plan.task, plan.denoiser, seed=0)
    kept = copy.deepcopy(denoiser)
    prompt = torch.ones(2, 8)
    trained, _ = train(plan, denoiser, [Remembered(prompt_PW=prompt, pairs=a_pool(-0.5))])

    assert not moved(kept, denoiser)
    assert torch.equal(prompt, torch.ones(2, 8))
    assert moved(denoiser, trained)


def test_frozen_mode_moves_only_the_prompt_after_the_first_site() -> None:
    plan = a_plan(mode="frozen")
    denoiser, _ = train(plan, build_denoiser(plan.task, plan.denoiser, seed=0), [])
    earlier = [Remembered(prompt_PW=torch.ones(2, 8), pairs=a_pool(-0.5))]
    trained, prompt_PW = train(plan, denoiser, earlier)

    assert not moved(denoiser, trained)
    assert not torch.equal(prompt_PW, new_prompt(plan.denoiser, [torch.ones(2, 8)], stream(1)))
    first, _ = train(plan, denoiser, [])
    assert moved(denoiser, first)


def test_distillation_follows_the_teacher_on_generated_samples() -> None:
    """With generated pairs that contradict the teacher, the two modes must part."""
    outcomes = []
    for mode in ("replay", "distill"):
        plan = a_plan(mode=mode)
        denoiser = build_denoiser(plan.task, plan.denoiser, seed=0)
        earlier = [Remembered(prompt_PW=torch.ones(2, 8), pairs=a_pool(-0.5))]
        outcomes.append(train(plan, denoiser, earlier)[0])
    assert moved(*outcomes)


@pytest.mark.slow
def test_two_prompts_of_one_denoiser_draw_what_their_sites_look_like() -> None:
    plan = a_plan(first_steps=150, steps=150, learning_rate=3e-3, sampling_steps=10)
    denoiser = build_denoiser(plan.task, plan.denoiser, seed=0)
    denoiser, first_prompt, _ = train_denoiser(
        denoiser,
        new_prompt(plan.denoiser, [], stream(1)),
        own=a_pool(0.7),
        earlier=[],
        plan=plan,
        generator=stream(2),
        watch=silent,
    )
    pairs = draw_pairs(denoiser, first_prompt, 8, plan=plan, generator=stream(3))
    denoiser, second_prompt, _ = train_denoiser(
        denoiser,
        new_prompt(plan.denoiser, [first_prompt], stream(4)),
        own=a_pool(-0.7),
        earlier=[Remembered(prompt_PW=first_prompt, pairs=pairs)],
        plan=plan,
        generator=stream(5),
        watch=silent,
    )
    first, second = (
        draw_pairs(denoiser, prompt, 8, plan=plan, generator=stream(6))
        for prompt in (first_prompt, second_prompt)
    )
    assert first.images_NCX.mean() > 0.4
    assert second.images_NCX.mean() < -0.4
    truth = a_pool(0.0, 8).labels_NX
    assert (first.labels_NX == truth).float().mean() > 0.95
    assert (second.labels_NX == truth).float().mean() > 0.95


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_setting() -> None:
    plan = a_plan()
    broken = labelled(torch.full((2, 1, 16, 16), float("nan")), a_pool(0, 2).labels_NX, 2)
    denoiser = build_denoiser(plan.task, plan.denoiser, seed=0)
    with pytest.raises(TrainingError, match=r"denoiser\.learning_rate"):
        train_denoiser(
            denoiser,
            torch.zeros(2, 8),
            own=broken,
            earlier=[],
            plan=plan,
            generator=stream(),
            watch=silent,
        )


def test_each_further_attempt_trains_less_and_moves_samples_more():
    plan = a_plan(first_steps=5, steps=3, jitter=0.25)
    assert regularised(plan, 0) is plan
    tried = [regularised(plan, attempt).denoiser for attempt in (1, 2, 3)]
    assert [(one.first_steps, one.steps) for one in tried] == [(2, 1), (1, 1), (1, 1)]
    assert [one.jitter for one in tried] == pytest.approx([0.4, 0.5, 0.5])  # the most there is
