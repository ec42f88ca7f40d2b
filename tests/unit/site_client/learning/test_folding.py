"""Folding: nothing is lost of pixels, and of frequencies what was not kept."""

import math

import pytest
import torch
from torch import Tensor

from wardround.shared.errors import PlanError
from wardround.shared.plan import Denoiser as DenoiserConfig
from wardround.shared.plan import Task
from wardround.shared.plan import parse as parse_plan
from wardround.site_client.learning.denoiser import build_denoiser
from wardround.site_client.learning.folding import Folding


def images(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(2, 3, 8, 16), (2, 3, 8, 16, 4)])
@pytest.mark.parametrize("frequencies", [None, 4])
def test_all_that_is_kept_comes_back(size: tuple[int, ...], frequencies: int | None) -> None:
    folding, x_BCX = Folding(len(size) - 2, 4, frequencies), images(*size)
    folded_BCX = folding.fold(x_BCX)

    assert folded_BCX.shape == (2, 3 * folding.numbers, *(side // 4 for side in size[2:]))
    assert folding.numbers == 4 ** (len(size) - 2)
    assert torch.allclose(folding.unfold(folded_BCX), x_BCX, atol=1e-5)
    assert float(folded_BCX.norm()) == pytest.approx(float(x_BCX.norm()), rel=1e-5)


def test_the_slowest_frequency_of_a_block_is_its_mean() -> None:
    block = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    folding = Folding(2, 2, 1)

    assert float(folding.fold(block)) == pytest.approx(3.0 * 2)  # the mean, times sqrt(2) an axis
    assert torch.allclose(folding.unfold(folding.fold(block)), torch.full((1, 1, 2, 2), 3.0))


def test_two_frequencies_of_four_pixels_by_hand() -> None:
    """Along one axis: the mean, and a half wave whose weights are cos(pi/8), cos(3 pi/8), ..."""
    row = torch.tensor([1.0, 0.0, 0.0, 0.0])
    kept = Folding(2, 4, 2).fold(row.expand(1, 1, 4, 4)).flatten()
    half_wave = math.sqrt(1 / 2) * math.cos(math.pi / 8)

    # Down the columns the block is constant, so only the slowest wave there: a factor of 2.
    assert kept.tolist() == pytest.approx([0.5 * 2, half_wave * 2, 0.0, 0.0], abs=1e-6)


def test_folding_again_what_was_unfolded_changes_nothing() -> None:
    folding = Folding(2, 8, 3)
    once_BCX = folding.unfold(folding.fold(images(1, 2, 16, 24)))

    assert torch.allclose(folding.unfold(folding.fold(once_BCX)), once_BCX, atol=1e-5)


def test_white_noise_stays_white() -> None:
    """Diffusing pixels is diffusing what is kept of them: each number has variance 1, apart."""
    folded_BCX = Folding(2, 4, 2).fold(images(4096, 1, 4, 4)).flatten(1)

    assert torch.allclose(torch.cov(folded_BCX.T), torch.eye(4), atol=0.1)


def test_slow_waves_are_strong() -> None:
    strength = Folding(2, 8, 2).strength

    assert strength.tolist() == pytest.approx([4, 4 / 2**1.5, 4 / 2**1.5, 4 / 3**1.5])
    assert Folding(3, 4).strength.tolist() == [1.0] * 64


def test_a_denoiser_of_frequencies_draws_no_finer_grain() -> None:
    task = Task(classes=("organ",), working_size=(40, 48))
    config = DenoiserConfig(channels=(16, 16), fold=8, frequencies=2, prompt_width=16)
    denoiser, prompt_BPW = build_denoiser(task, config, 0), torch.randn(1, 4, 16)
    with torch.no_grad():
        for weight in denoiser.parameters():
            weight += 0.05 * torch.randn(
                weight.shape, generator=torch.Generator().manual_seed(len(weight))
            )
        made_BCX = denoiser(images(1, 2, 40, 48), torch.tensor([5]), prompt_BPW)

    folding = Folding(2, 8, 2)
    assert made_BCX.shape == (1, 2, 40, 48)
    assert float(made_BCX.std()) > 0.01
    assert torch.allclose(folding.unfold(folding.fold(made_BCX)), made_BCX, atol=1e-4)


def test_more_frequencies_than_a_block_has_are_refused() -> None:
    content = {
        "study_id": "latent",
        "sites": ["ada", "ben"],
        "task": {"classes": ["organ"], "working_size": [64, 64]},
        "denoiser": {"fold": 4, "frequencies": 5},
    }

    with pytest.raises(PlanError, match="not be more than fold = 4, got 5"):
        parse_plan(content, origin="latent.toml")
