"""The autoencoder: its divergence by hand, shapes, draws, and what its training moves."""

from math import log

import pytest
import torch

from wardround.shared import plan as plans
from wardround.site_client.learning.generator_training import Remembered
from wardround.site_client.learning.pool import Pool, labelled
from wardround.site_client.learning.vae import (
    CODE,
    VARIANCE,
    build_vae,
    divergence,
    draw_from_vae,
    train_vae,
)


def a_plan(task: dict | None = None, **denoiser: object) -> plans.StudyPlan:
    settings = {
        "channels": [16, 16],
        "fold": 2,
        "prompt_width": 8,
        "prompt_tokens": 2,
        "first_steps": 4,
        "steps": 4,
        "batch_size": 4,
        "jitter": 0.0,
        **denoiser,
    }
    return plans.parse(
        {
            "study_id": "tiny",
            "sites": ["a", "b"],
            "task": {"classes": ["one"], "working_size": [16, 16], **(task or {})},
            "denoiser": settings,
        },
        origin="test",
    )


def a_pool(value: float, first: int) -> Pool:
    labels = torch.zeros((6, 16, 16), dtype=torch.long)
    labels[:, first : first + 6, 4:12] = 1
    return labelled(torch.full((6, 1, 16, 16), value), labels, 1)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def silent(_step: int, _steps: int) -> None:
    pass


def train(plan, vae, pool, prompt_PW, earlier=()):
    return train_vae(
        vae,
        prompt_PW,
        own=pool,
        earlier=earlier,
        plan=plan,
        generator=stream(2),
        watch=silent,
    )


def test_the_divergence_of_two_normals_is_that_of_the_textbook() -> None:
    """Of N(3, 1) from N(0, 1): 9 / 2. Of N(1, 2) from N(0, 4): (1/2 + 1/4 - 1 + log 2) / 2."""
    code = torch.tensor([[3.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.0, log(2)]] * 2)
    expected = torch.zeros(2, 2), torch.tensor([[0.0, log(4)]] * 2)
    second = (1 / 2 + 1 / 4 - 1 + log(2)) / 2

    assert divergence(code, expected).tolist() == pytest.approx([4.5 + second, second])
    assert divergence(code, code).tolist() == [0.0, 0.0]


def test_the_loss_is_the_squared_error_and_the_divergence_of_each_value() -> None:
    """A network that decodes zeros and whose codes lie 2 from what it expects; it hardly moves."""
    plan = a_plan(first_steps=1, learning_rate=1e-12)
    vae = build_vae(plan.task, plan.denoiser, seed=0)
    with torch.no_grad():
        for layer in (vae.code, vae.prior, vae.out):
            layer.weight.zero_()
            layer.bias.zero_()
        vae.code.bias[:CODE] = 2.0
    pool = a_pool(0.5, 2)
    loss = train(plan, vae, pool, torch.zeros(2, 8))[2]

    squares = (0.5**2 + 1.0) / 2  # of the image's values, and of the label map's, -1 or 1
    divergence_of_one = CODE * 2.0**2 / 2
    assert loss == pytest.approx(squares + 2 * VARIANCE * divergence_of_one / (2 * 16 * 16))


@pytest.mark.parametrize(
    ("dims", "size", "channels"),
    [
        ("2d", [16, 16], [16, 16]),
        ("2.5d", [16, 24], [16, 32]),
        ("3d", [16, 16, 7], [16, 16]),
        ("2d", [24, 40], [16, 16, 32]),
    ],
)
def test_drawn_pairs_have_the_size_of_a_sample(dims, size, channels) -> None:
    plan = a_plan({"dims": dims, "working_size": size}, channels=channels)
    vae = build_vae(plan.task, plan.denoiser, seed=0).eval()
    seen = []
    pool = draw_from_vae(
        vae,
        torch.zeros(2, 8),
        3,
        plan=plan,
        generator=stream(),
        watch=lambda done, total: seen.append((done, total)),
    )

    assert pool.images_NCX.shape == (3, plan.task.input_channels, *size)
    assert pool.labels_NX.shape == (3, *size)
    assert float(pool.images_NCX.abs().max()) <= 1
    assert seen == [(3, 3)]
    pairs = torch.zeros(2, plan.task.input_channels + 1, *size)
    assert vae(pairs, torch.zeros(2, CODE), torch.zeros(2, 2, 8))[0].shape == pairs.shape


def test_the_same_stream_draws_the_same_pairs() -> None:
    plan = a_plan()
    vae = build_vae(plan.task, plan.denoiser, seed=0).eval()
    first, again, other = (
        draw_from_vae(vae, torch.zeros(2, 8), 2, plan=plan, generator=stream(seed))
        for seed in (1, 1, 2)
    )

    assert torch.equal(first.images_NCX, again.images_NCX)
    assert not torch.equal(first.images_NCX, other.images_NCX)


def test_it_learns_a_second_site_and_still_draws_the_first() -> None:
    """Dark images with a label above, then bright ones with a label below."""
    plan = a_plan(first_steps=100, steps=100, batch_size=8, learning_rate=3e-3)
    dark, bright = a_pool(-0.5, 2), a_pool(0.5, 9)
    vae = build_vae(plan.task, plan.denoiser, seed=0)
    vae, first_PW, _ = train(plan, vae, dark, torch.randn(2, 8, generator=stream(1)))
    pairs = draw_from_vae(vae, first_PW, 8, plan=plan, generator=stream(3))
    remembered = Remembered(prompt_PW=first_PW, pairs=pairs)
    start = torch.randn(2, 8, generator=stream(4))
    vae, second_PW, _ = train(plan, vae, bright, start, [remembered])
    for prompt_PW, pool in ((first_PW, dark), (second_PW, bright)):
        drawn = draw_from_vae(vae, prompt_PW, 8, plan=plan, generator=stream(6))
        assert float(drawn.images_NCX.mean()) == pytest.approx(
            float(pool.images_NCX.mean()), abs=0.1
        )
        agreement = (drawn.labels_NX == pool.labels_NX[:1]).float().mean()
        assert float(agreement) > 0.9


def test_frozen_mode_moves_only_the_prompt_after_the_first_site() -> None:
    plan = a_plan(mode="frozen")
    vae = build_vae(plan.task, plan.denoiser, seed=0)
    start = torch.zeros(2, 8)
    remembered = Remembered(prompt_PW=start, pairs=a_pool(0.1, 2))
    after, prompt_PW, _ = train(plan, vae, a_pool(0.5, 2), start, [remembered])

    assert all(torch.equal(a, b) for a, b in zip(vae.parameters(), after.parameters(), strict=True))
    assert not torch.equal(prompt_PW, start)


def test_only_an_autoencoder_can_be_drawn_from() -> None:
    with pytest.raises(TypeError, match="Linear"):
        draw_from_vae(
            torch.nn.Linear(1, 1), torch.zeros(2, 8), 1, plan=a_plan(), generator=stream()
        )
