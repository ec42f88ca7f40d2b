"""`samcl` and its ascent against sums done by hand on two parameters, and their limits."""

import pytest
import torch

from wardround.site_client.learning.alignment import add, gradient_at, gradient_of
from wardround.site_client.learning.methods.diffusion_replay import replay_gradient
from wardround.site_client.learning.methods.samcl import SAMCL
from wardround.site_client.learning.methods.samcl_generated import SAMCL_GENERATED
from wardround.site_client.learning.reservoir import in_reservoir
from wardround.site_client.learning.sharpness import ascent, sharp_gradient_at

NO_DRAW = torch.Generator()
NO_CLIP = 1e9


def nought(network) -> tuple[torch.Tensor, ...]:
    return tuple(torch.zeros_like(weight) for weight in network.parameters())


def as_floats(tensors) -> list[float]:
    return [float(tensor.detach()) for tensor in tensors]


def test_the_ascent_is_scaled_by_the_weights() -> None:
    """p = (2, -3), g = (2, 1): |p| g = (4, 3) of length 5; e = rho (|2| 4, |3| 3) / 5."""
    weights = (torch.tensor(2.0), torch.tensor(-3.0))
    gradient = (torch.tensor(2.0), torch.tensor(1.0))

    assert as_floats(ascent(weights, gradient, 0.5)) == pytest.approx([0.5 * 8 / 5, 0.5 * 9 / 5])


def test_the_ascent_does_not_care_how_a_layer_is_scaled() -> None:
    """A weight k times as large has a gradient k times as small, and is moved by the same share."""
    plain = ascent((torch.tensor(2.0),) * 2, (torch.tensor(3.0), torch.tensor(1.0)), 0.1)
    scaled = ascent(
        (torch.tensor(20.0), torch.tensor(2.0)), (torch.tensor(0.3), torch.tensor(1.0)), 0.1
    )

    assert float(scaled[0]) / 20 == pytest.approx(float(plain[0]) / 2)
    assert float(scaled[1]) == pytest.approx(float(plain[1]))


def test_weights_or_gradients_of_nought_are_not_moved() -> None:
    zero = (torch.tensor(0.0),)
    assert as_floats(ascent(zero, (torch.tensor(1.0),), 0.1)) == [0.0]
    assert as_floats(ascent((torch.tensor(1.0),), zero, 0.1)) == [0.0]


def test_the_gradient_is_that_at_the_top_of_the_ascent(line, batch) -> None:
    network, samples = line(1.5, -0.5), batch((0.5, 1), (2.0, 0))
    loss, plain = gradient_of(network, samples)
    up = ascent(tuple(w.detach() for w in network.parameters()), plain, 0.3)
    expected = gradient_at(network, samples, tuple(-e for e in up))

    told, got = sharp_gradient_at(network, samples, nought(network), rho=0.3)

    assert told == loss
    assert as_floats(got) == as_floats(expected[1])
    assert expected[0] > loss  # it is an ascent
    assert as_floats(got) != as_floats(plain)


def test_the_ascent_starts_where_the_way_has_come_to(line, batch) -> None:
    """A step taken off the weights is the same as weights without it."""
    samples = batch((0.5, 1), (2.0, 0))
    step = (torch.tensor(0.25).double(), torch.tensor(-0.5).double())
    there = sharp_gradient_at(line(1.25, 0.0), samples, nought(line(0.0, 0.0)), rho=0.2)
    on_the_way = sharp_gradient_at(line(1.5, -0.5), samples, step, rho=0.2)

    assert on_the_way[0] == pytest.approx(there[0])
    assert as_floats(on_the_way[1]) == pytest.approx(as_floats(there[1]))


@pytest.mark.parametrize("method", [SAMCL, SAMCL_GENERATED])
def test_each_item_is_a_step_and_the_replay_the_last_one(line, batch, arrival, method) -> None:
    network, rho, alpha = line(1.5, -0.5), 0.05, 0.1
    learner = method.begin(arrival(network, samcl_rho=rho, alpha=alpha, clip=NO_CLIP))
    first, second, replayed = batch((0.5, 1)), batch((2.0, 0)), batch((1.0, 1), (-1.0, 0))

    got = learner.gradient(batch((0.5, 1), (2.0, 0)), replayed, NO_DRAW)

    loss_1, g_1 = sharp_gradient_at(network, first, nought(network), rho=rho)
    after_1 = tuple(alpha * g for g in g_1)
    loss_2, g_2 = sharp_gradient_at(network, second, after_1, rho=rho)
    after_2 = add(after_1, g_2, weights=(1.0, alpha))
    loss_3, g_3 = sharp_gradient_at(network, replayed, after_2, rho=rho)
    expected = add(g_1, g_2, g_3, weights=(0.5, 0.5, 1.0))
    assert as_floats(got.tensors) == pytest.approx(as_floats(expected))
    assert got.loss == pytest.approx((loss_1 + loss_2) / 2 + loss_3)


def test_without_radius_and_look_ahead_a_single_item_is_plain_replay(line, batch, arrival) -> None:
    network = line(1.5, -0.5)
    its_arrival = arrival(network, samcl_rho=0.0, alpha=0.0, clip=NO_CLIP)
    args = (batch((0.5, 1)), batch((2.0, 0)))

    got = SAMCL.begin(its_arrival).gradient(*args, NO_DRAW)
    plain = replay_gradient(network, *args, its_arrival.plan.method, NO_DRAW)
    assert as_floats(got.tensors) == as_floats(plain.tensors)
    assert got.loss == pytest.approx(plain.loss)


def test_the_first_site_replays_nothing(line, batch, arrival) -> None:
    network = line(1.5, -0.5)
    learner = SAMCL.begin(arrival(network, samcl_rho=0.05, clip=NO_CLIP))
    got = learner.gradient(batch((0.5, 1)), None, NO_DRAW)
    loss, expected = sharp_gradient_at(network, batch((0.5, 1)), nought(network), rho=0.05)

    assert as_floats(got.tensors) == as_floats(expected)
    assert got.loss == loss


def test_the_weights_are_where_they_were(line, batch, arrival) -> None:
    network = line(1.5, -0.5)
    SAMCL.begin(arrival(network)).gradient(batch((0.5, 1), (2.0, 0)), batch((1.0, 1)), NO_DRAW)

    assert as_floats(network.parameters()) == [1.5, -0.5]


def test_the_kept_variant_keeps_a_reservoir() -> None:
    assert SAMCL.keep is in_reservoir
    assert SAMCL.keeps_real_cases
    assert not SAMCL_GENERATED.keeps_real_cases
