"""The registrar: shapes on every grid, an untrained one moves nothing, and it learns a shift."""

import pytest
import torch

from wardround.shared import plan as plans
from wardround.site_client.learning.objective import loss_on
from wardround.site_client.learning.pool import Batch
from wardround.site_client.learning.registration.network import build_registrar, innermost
from wardround.site_client.learning.registration.velocity import in_pixels, on_grid


def a_plan(dims: str, size: list[int], features: list[int], **registration: float):
    content = {
        "study_id": "pairs",
        "sites": ["ada", "ben"],
        "task": {
            "kind": "registration",
            "dims": dims,
            "classes": ["organ"],
            "working_size": size,
        },
        "segmenter": {"features": features},
        "registration": registration,
        "method": {"name": "finetune"},
    }
    return plans.parse(content, origin="test")


@pytest.mark.parametrize(
    ("dims", "size", "features"),
    [
        ("2d", [16, 24], [4, 8]),
        ("2d", [16, 16], [4, 8, 8, 8]),
        ("3d", [16, 16, 5], [2, 4, 4]),
        ("3d", [16, 16, 8], [2, 4]),
    ],
)
def test_an_untrained_registrar_moves_nothing_on_any_grid(dims, size, features) -> None:
    plan = a_plan(dims, size, features)
    network = build_registrar(plan, seed=0)
    generator = torch.Generator().manual_seed(0)
    said = network(torch.rand((2, 2, *size), generator=generator))

    halves = [side // 2 if side % 2 == 0 and side >= 8 else side for side in size]
    assert said.shape == (2, len(size), *halves)
    assert not said.any()


def test_its_weights_follow_from_the_seed() -> None:
    plan = a_plan("2d", [16, 16], [4, 8])
    first, again, other = (
        torch.cat([w.flatten() for w in build_registrar(plan, seed).parameters()])
        for seed in (1, 1, 2)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_its_innermost_level_sees_the_coarsest_grid() -> None:
    plan = a_plan("2d", [16, 16], [4, 8, 6])
    network, seen = build_registrar(plan, seed=0), []
    innermost(network).register_forward_hook(lambda _m, _i, output: seen.append(output.shape))
    network(torch.zeros(1, 2, 16, 16))

    assert seen == [(1, 6, 4, 4)]


def test_it_learns_to_undo_a_shift() -> None:
    """The moving disc lies three rows below the fixed one."""
    plan = a_plan("2d", [24, 24], [8, 8], bending=0.1)
    network = build_registrar(plan, seed=0)
    y, x = torch.meshgrid(*[torch.arange(24.0)] * 2, indexing="ij")
    fixed, moving = (
        torch.exp(-((y - top) ** 2 + (x - 12) ** 2) / 30) * 2 - 1 for top in (10.0, 13.0)
    )
    maps = [map_ for image in (fixed, moving) for map_ in (image < 0, image >= 0)]
    batch = Batch(
        images_BCX=torch.stack([fixed, moving])[None],
        targets_BKX=torch.stack(maps)[None].float(),
        group_B=torch.zeros(1, dtype=torch.long),
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = loss_on(network, network(batch.images_BCX), batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    velocity = on_grid(network(batch.images_BCX).detach(), (24, 24))
    shift = in_pixels(velocity)[0, :, 10, 12]
    assert losses[-1] < 0.5 * losses[0]
    assert float(shift[0]) == pytest.approx(3, abs=1)
    assert float(shift[1]) == pytest.approx(0, abs=1)
