"""`lwf` against a divergence computed by hand, and its limits."""

from math import log

import pytest
import torch

from wardround.site_client.learning.alignment import gradient_of
from wardround.site_client.learning.methods.lwf import LWF, distillation

NO_DRAW = torch.Generator()


def test_the_distillation_is_the_softened_divergence_times_the_squared_temperature() -> None:
    """Halved by T = 2, logits (0, 2 log 3) teach (1/4, 3/4); logits (0, 0) say (1/2, 1/2)."""
    said = torch.zeros(1, 2, 1, 1)
    taught = torch.tensor([0.0, 2 * log(3)]).reshape(1, 2, 1, 1)
    divergence = 0.25 * log(0.25 / 0.5) + 0.75 * log(0.75 / 0.5)

    assert float(distillation(said, taught)) == pytest.approx(4 * divergence)
    assert float(distillation(taught, taught)) == pytest.approx(0.0, abs=1e-7)
    wide = [x.expand(3, 2, 5, 5) for x in (said, taught)]
    assert float(distillation(*wide)) == pytest.approx(4 * divergence)


def test_before_the_first_step_the_gradient_is_that_of_finetune(line, batch, arrival) -> None:
    """The network still says what it was taught, where the divergence has its minimum."""
    segmenter = line(1.0, 0.5)
    got = LWF.begin(arrival(segmenter, lwf=5.0)).gradient(batch((0.5, 1)), None, NO_DRAW)

    assert torch.allclose(
        torch.stack(got.tensors), torch.stack(gradient_of(segmenter, batch((0.5, 1)))[1])
    )


@pytest.mark.parametrize("more", [{"lwf": 0.0}, {"lwf": 5.0, "is_first": True}])
def test_without_weight_or_an_earlier_site_it_is_finetune(line, batch, arrival, more) -> None:
    segmenter = line(1.0, 0.5)
    learner = LWF.begin(arrival(segmenter, **more))
    with torch.no_grad():
        segmenter.w.fill_(-2.0)
    got = learner.gradient(batch((0.5, 1)), None, NO_DRAW)
    loss, expected = gradient_of(segmenter, batch((0.5, 1)))

    assert got.loss == loss
    assert all(torch.equal(a, b) for a, b in zip(got.tensors, expected, strict=True))


def test_it_pulls_back_to_what_the_network_said_on_arrival(line, batch, arrival) -> None:
    segmenter = line(1.0, 0.0)
    learner = LWF.begin(arrival(segmenter, lwf=100.0))
    with torch.no_grad():
        segmenter.w.fill_(3.0)
    got = learner.gradient(batch((0.5, 1)), None, NO_DRAW)

    assert float(got.tensors[0]) > 0  # a step lowers w again, though the label asks for more
    assert float(gradient_of(segmenter, batch((0.5, 1)))[1][0]) < 0
