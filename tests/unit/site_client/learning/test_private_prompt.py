"""DP-SGD on the prompt: gradients of single cases, clipping, noise, the limit without either."""

import math

import pytest
import torch
from torch import Tensor, nn

from wardround.shared import plan as plans
from wardround.site_client.learning.averaging import averaging_step
from wardround.site_client.learning.denoiser import build_denoiser, join
from wardround.site_client.learning.diffusion import new_schedule, sample_errors
from wardround.site_client.learning.generator_training import warm_then_fall
from wardround.site_client.learning.pool import Pool, draw, labelled
from wardround.site_client.learning.private_prompt import (
    case_gradients,
    noisy_sum,
    train_prompt_privately,
)
from wardround.site_client.privacy.secret_stream import SecretStream

SECRET = bytes(32)


@pytest.fixture
def plan(tiny_plan) -> plans.StudyPlan:
    content = tiny_plan.model_dump(mode="json")
    content["denoiser"] |= {"mode": "frozen", "steps": 3, "timesteps": 100, "sampling_steps": 5}
    content["denoiser"] |= {"jitter": 0.0}
    content["privacy"] |= {"dp": True, "sampling_rate": 1.0, "samples_per_case": 2}
    return plans.parse(content, origin="test")


@pytest.fixture
def denoiser(plan):
    """Return one whose output layers are not nought, as those of an untrained one are."""
    built = build_denoiser(plan.task, plan.denoiser, seed=0).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for weight in built.parameters():
        weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return built


@pytest.fixture
def cases(plan) -> list[Pool]:
    """Return more cases than are worked on at once, of one to three slices."""
    generator = torch.Generator().manual_seed(1)
    sizes = [1 + number % 3 for number in range(10)]
    return [
        labelled(
            torch.rand((size, 1, 16, 16), generator=generator) * 2 - 1,
            torch.randint(2, (size, 16, 16), generator=generator),
            1,
        )
        for size in sizes
    ]


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def train(plan, denoiser, cases, noise: float, secret: bytes = SECRET) -> Tensor:
    return train_prompt_privately(
        denoiser,
        torch.ones(2, 8),
        cases=cases,
        plan=plan,
        noise_multiplier=noise,
        stream=SecretStream(secret, "test"),
        watch=lambda _step, _steps: None,
    )


def test_what_each_case_gives_is_what_a_naive_loop_over_samples_finds(plan, denoiser, cases):
    some, prompt_PW = cases[:3], torch.randn((2, 8), generator=stream(2))
    found = case_gradients(denoiser, prompt_PW, some, plan, stream(3))

    again, each = stream(3), plan.privacy.samples_per_case
    batches = [draw([case], each, plan.task.sample_size, again) for case in some]
    pairs = torch.cat([join(batch.images_BCX, batch.targets_BKX) for batch in batches])
    noise = torch.randn(pairs.shape, generator=again)
    t_B = torch.randint(plan.denoiser.timesteps, (len(pairs),), generator=again)
    schedule = new_schedule(plan)
    noisy = schedule.add_noise(pairs, noise, t_B)
    for case in range(3):
        prompt = nn.Parameter(prompt_PW.clone())
        for sample in range(case * each, (case + 1) * each):
            one = slice(sample, sample + 1)
            predicted = denoiser(noisy[one], t_B[one], prompt[None])
            weight = min(20.0, float(1 / (1 - schedule.alphas_cumprod[t_B[sample]])))
            (weight * (predicted - pairs[one]).pow(2).mean() / each).backward()
        assert prompt.grad is not None
        assert float(prompt.grad.norm()) > 1e-3
        torch.testing.assert_close(found[case], prompt.grad, rtol=1e-4, atol=1e-6)


def test_clipping_is_that_of_each_case_by_itself():
    # Norms 5 and 0.5 against 1: the first is cut to a fifth, the second is left alone.
    given = torch.tensor([[[3.0, 4.0]], [[0.3, -0.4]]])
    summed = noisy_sum(given, 1.0, 0.0, torch.zeros((1, 2), dtype=torch.float64))
    torch.testing.assert_close(summed, torch.tensor([[0.6 + 0.3, 0.8 - 0.4]]))


def test_one_case_changes_the_sum_by_the_clipping_norm_at_most():
    given = torch.randn((6, 2, 8), generator=stream(4)) * 100
    nothing = torch.zeros((2, 8), dtype=torch.float64)
    with_it, without = (noisy_sum(some, 0.5, 0.0, nothing) for some in (given, given[:-1]))
    assert float((with_it - without).norm()) == pytest.approx(0.5, rel=1e-5)


def test_a_gradient_that_is_not_finite_counts_as_nought():
    given = torch.tensor([[[float("nan"), 1.0]], [[float("inf"), 1.0]], [[0.1, 0.2]]])
    summed = noisy_sum(given, 1.0, 0.0, torch.zeros((1, 2), dtype=torch.float64))
    torch.testing.assert_close(summed, torch.tensor([[0.1, 0.2]]))


def test_noise_has_the_scale_of_multiplier_times_clipping_norm():
    source = SecretStream(SECRET, "scale")
    noise = torch.from_numpy(source.normal((100, 100)))
    summed = noisy_sum(torch.zeros((0, 100, 100)), 0.5, 3.0, noise)
    # 10 000 numbers: the standard deviation is known to 0.7 %; three times that is allowed.
    assert float(summed.std()) == pytest.approx(1.5, rel=0.021)
    assert float(summed.mean()) == pytest.approx(0.0, abs=3 * 1.5 / 100)


def test_a_step_that_takes_no_case_is_noise_alone(plan, denoiser, cases):
    rare = plan.model_copy(
        update={"privacy": plan.privacy.model_copy(update={"sampling_rate": 1e-12})}
    )
    assert torch.equal(train(rare, denoiser, cases, 1.0), train(rare, denoiser, cases[:1] * 10, 1))
    assert torch.equal(train(rare, denoiser, cases, 0.0), torch.ones(2, 8))


def test_without_noise_and_clipping_it_is_plain_training_of_the_prompt(plan, denoiser, cases):
    endless = plan.model_copy(
        update={"privacy": plan.privacy.model_copy(update={"max_grad_norm": math.inf})}
    )
    found = train(endless, denoiser, cases, 0.0)

    source, config, each = SecretStream(SECRET, "test"), plan.denoiser, 2
    prompt, generator = nn.Parameter(torch.ones(2, 8)), stream(source.seed())
    optimiser = torch.optim.AdamW([prompt], lr=config.prompt_learning_rate, weight_decay=0.0)
    average = torch.ones(2, 8)
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.prompt_learning_rate * warm_then_fall(step, config.steps)
        optimiser.zero_grad()
        for first in (0, 8):  # as many cases at once as the other draws
            some = cases[first : first + 8]
            batches = [draw([case], each, (16, 16), generator) for case in some]
            pairs = torch.cat([join(batch.images_BCX, batch.targets_BKX) for batch in batches])
            errors = sample_errors(
                denoiser,
                pairs,
                prompt.expand(len(pairs), -1, -1),
                plan=plan,
                schedule=new_schedule(plan),
                generator=generator,
            )
            (errors.sum() / each).backward()
        optimiser.step()
        average.lerp_(prompt.detach(), averaging_step(config.ema_decay, step + 1))
    torch.testing.assert_close(found, average, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found, torch.ones(2, 8))


def test_noise_is_of_the_sites_secret_and_comes_back_with_it(plan, denoiser, cases):
    first = train(plan, denoiser, cases, 2.0)
    assert torch.equal(first, train(plan, denoiser, cases, 2.0))
    assert not torch.equal(first, train(plan, denoiser, cases, 2.0, secret=bytes([1] * 32)))
