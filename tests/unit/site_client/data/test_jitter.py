import pytest
import torch

from wardround.site_client.data.jitter import jitter

# B samples, C channels, X spatial axes


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def disc(side: int = 32) -> torch.Tensor:
    """Return one sample with two channels, both the same smooth disc."""
    axis = torch.linspace(-1, 1, side)
    disc_XX = 1 - 2 * (axis[:, None] ** 2 + axis[None] ** 2)
    return disc_XX.expand(1, 2, -1, -1)


@pytest.mark.parametrize("size", [(16, 24), (16, 24, 5)])
def test_no_jitter_moves_nothing(size: tuple[int, ...]) -> None:
    x = torch.randn((3, 2, *size), generator=stream())
    torch.testing.assert_close(jitter(x, 0.0, stream()), x, atol=1e-4, rtol=0)


def test_image_and_label_move_alike_and_each_sample_by_itself() -> None:
    x = disc().expand(8, -1, -1, -1)
    moved = jitter(x, 0.2, stream())
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert len({tuple(sample.flatten().tolist()) for sample in moved[:, 0]}) == 8


def test_the_slices_of_a_volume_move_together() -> None:
    volume = disc()[..., None].expand(-1, -1, -1, -1, 3)
    moved = jitter(volume, 0.2, stream())
    assert torch.equal(moved[..., 0], moved[..., 2])
    torch.testing.assert_close(moved[..., 0], jitter(disc(), 0.2, stream()))


def test_moves_stay_within_the_bound_and_reach_it() -> None:
    """The disc's centre moves by up to j of half a side along either axis, size by exp(1.5 j)."""
    amount, side = 0.2, 64
    x = disc(side).expand(512, -1, -1, -1)
    inside = (jitter(x, amount, stream())[:, 0] > 0).float()
    axis = torch.linspace(-1, 1, side)
    area = inside.sum((1, 2))
    across = (inside * axis[:, None]).sum((1, 2)) / area
    along = (inside * axis[None]).sum((1, 2)) / area
    reach = amount * torch.tensor(1.5 * amount).exp()
    for centre in (across, along):
        assert float(centre.abs().max()) < 2**0.5 * float(reach) + 0.02
        assert float(centre.abs().max()) > amount
        assert abs(float(centre.mean())) < 0.03
    ratio = area / (disc(side)[0, 0] > 0).sum()
    assert 0.64 < float(ratio.min()) < 0.72  # exp(-2 j) is 0.67: the area of a size exp(-j)
    assert 1.39 < float(ratio.max()) < 1.56  # exp(2 j) is 1.49


def test_the_same_stream_gives_the_same_bytes() -> None:
    assert torch.equal(jitter(disc(), 0.2, stream(3)), jitter(disc(), 0.2, stream(3)))
    assert not torch.equal(jitter(disc(), 0.2, stream(3)), jitter(disc(), 0.2, stream(4)))
