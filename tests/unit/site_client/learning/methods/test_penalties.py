"""`ewc`, `mas` and `si` against sums done by hand on two parameters, and their limits."""

from math import exp

import pytest
import torch

from wardround.site_client.learning.alignment import gradient_of
from wardround.site_client.learning.methods.ewc import EWC, fisher
from wardround.site_client.learning.methods.mas import MAS, sensitivity
from wardround.site_client.learning.methods.penalty import NUM_SAMPLES, Penalty, singly
from wardround.site_client.learning.methods.si import DAMPING, SI
from wardround.site_client.learning.pool import Pool

NO_DRAW = torch.Generator()
IMPORTANCE = {"w": torch.tensor(2.0).double(), "b": torch.tensor(0.5).double()}
BLANK = {"w": torch.tensor(0.0).double(), "b": torch.tensor(0.0).double()}


def move(segmenter, w: float, b: float) -> None:
    with torch.no_grad():
        segmenter.w.fill_(w)
        segmenter.b.fill_(b)


def pool() -> Pool:
    """Return samples that are all one pixel repeated: intensity 2, foreground."""
    targets = torch.zeros(3, 2, 16, 16, dtype=torch.float64)
    targets[:, 1] = 1
    return Pool(
        images_NCX=torch.full((3, 1, 16, 16), 2.0, dtype=torch.float64), targets_NKX=targets
    )


def test_the_penalty_pulls_each_weight_back_as_far_as_it_matters(line, batch, arrival) -> None:
    segmenter = line(1.0, 0.0)
    penalty = Penalty(arrival(segmenter, IMPORTANCE), strength=4.0)
    move(segmenter, 3.0, 1.0)
    got, plain = penalty.gradient(batch((0.5, 1)))
    loss, expected = gradient_of(segmenter, batch((0.5, 1)))

    assert float(got.tensors[0] - expected[0]) == pytest.approx(4 * 2 * 2)
    assert float(got.tensors[1] - expected[1]) == pytest.approx(4 * 0.5 * 1)
    assert got.loss - loss == pytest.approx(4 / 2 * (2 * 2**2 + 0.5 * 1**2))
    assert all(torch.equal(a, b) for a, b in zip(plain, expected, strict=True))


@pytest.mark.parametrize("method", [EWC, MAS, SI], ids=lambda method: method.name)
@pytest.mark.parametrize(
    ("weight", "state"), [(0.0, IMPORTANCE), (7.0, BLANK)], ids=["no weight", "no importance"]
)
def test_without_weight_or_importance_the_gradient_is_that_of_finetune(
    line, batch, arrival, method, weight, state
) -> None:
    segmenter = line(1.0, 0.0)
    learner = method.begin(arrival(segmenter, state, **{method.name: weight}))
    move(segmenter, 3.0, 1.0)
    got = learner.gradient(batch((0.5, 1), (-1.0, 0)), None, NO_DRAW)
    loss, expected = gradient_of(segmenter, batch((0.5, 1), (-1.0, 0)))

    assert got.loss == loss
    assert all(torch.equal(a, b) for a, b in zip(got.tensors, expected, strict=True))


def test_fisher_is_the_mean_of_squared_gradients_of_the_log_likelihood(line, batch) -> None:
    """The gradient of a pixel's negative log-likelihood is (p - y) x for w and p - y for b."""
    samples = [batch((2.0, 1)), batch((-1.0, 1))]
    got_w, got_b = fisher(line(1.0, 0.0), samples)
    p = [1 / (1 + exp(-x)) for x in (2.0, -1.0)]

    assert float(got_w) == pytest.approx(((p[0] - 1) ** 2 * 4 + (p[1] - 1) ** 2) / 2)
    assert float(got_b) == pytest.approx(((p[0] - 1) ** 2 + (p[1] - 1) ** 2) / 2)


def test_ewc_decays_the_fisher_that_arrived_and_adds_the_site_s(line, batch, arrival) -> None:
    segmenter = line(1.0, 0.0)
    learner = EWC.begin(arrival(segmenter, IMPORTANCE, ewc_decay=0.25))
    left = learner.leave([pool()], [], torch.Generator().manual_seed(0))
    here = fisher(segmenter, [batch((2.0, 1))])

    assert float(left["w"]) == pytest.approx(0.25 * 2.0 + float(here[0]))
    assert float(left["b"]) == pytest.approx(0.25 * 0.5 + float(here[1]))


def test_mas_measures_how_the_squared_output_hangs_on_a_weight(line, batch, arrival) -> None:
    """At x = 2 the output is 3 * 2 + 1 = 7: d 49 / dw = 2 * 7 * 2 and d 49 / db = 2 * 7."""
    segmenter = line(3.0, 1.0)
    assert [float(m) for m in sensitivity(segmenter, [batch((2.0, 0))])] == [28.0, 14.0]
    assert [float(m) for m in sensitivity(line(-3.0, -1.0), [batch((2.0, 1))])] == [28.0, 14.0]

    left = MAS.begin(arrival(segmenter, IMPORTANCE)).leave(
        [pool()], [], torch.Generator().manual_seed(0)
    )
    assert (float(left["w"]), float(left["b"])) == pytest.approx((30.0, 14.5))


def test_mas_and_si_write_their_penalty_without_the_half(line, batch, arrival) -> None:
    for method in (MAS, SI):
        segmenter = line(1.0, 0.0)
        learner = method.begin(arrival(segmenter, IMPORTANCE, **{method.name: 3.0}))
        move(segmenter, 3.0, 0.0)
        loss = learner.gradient(batch((0.5, 1)), None, NO_DRAW).loss
        assert loss - gradient_of(segmenter, batch((0.5, 1)))[0] == pytest.approx(3 * 2 * 2**2)


def test_si_credits_a_weight_with_what_its_steps_took_off_the_loss(line, batch, arrival) -> None:
    segmenter = line(1.0, 0.0)
    learner = SI.begin(arrival(segmenter, IMPORTANCE, si=1.0))
    first = float(gradient_of(segmenter, batch((0.5, 1)))[1][0])
    learner.gradient(batch((0.5, 1)), None, NO_DRAW)
    move(segmenter, 1.5, 0.0)
    second = float(gradient_of(segmenter, batch((-2.0, 0)))[1][0])
    learner.gradient(batch((-2.0, 0)), None, NO_DRAW)
    move(segmenter, 3.0, 0.0)
    left = learner.leave([], [], NO_DRAW)

    omega = -(first * 0.5 + second * 1.5)
    assert omega > 0
    assert float(left["w"]) == pytest.approx(2.0 + omega / (2.0**2 + DAMPING))
    assert float(left["b"]) == 0.5  # it did not move


def test_si_gives_no_credit_for_steps_uphill(line, batch, arrival) -> None:
    segmenter = line(1.0, 0.0)
    learner = SI.begin(arrival(segmenter, IMPORTANCE))
    learner.gradient(batch((0.5, 1)), None, NO_DRAW)
    move(segmenter, 0.0, -1.0)
    left = learner.leave([], [], NO_DRAW)

    assert (float(left["w"]), float(left["b"])) == (2.0, 0.5)


def test_importance_is_measured_on_single_samples_of_every_own_pool() -> None:
    empty = Pool(
        images_NCX=torch.zeros(2, 1, 16, 16), targets_NKX=torch.ones(2, 2, 16, 16).double()
    )
    plan_task = type("Task", (), {"sample_size": (16, 16)})
    samples = list(singly([pool(), empty], plan_task, torch.Generator().manual_seed(0)))

    assert len(samples) == NUM_SAMPLES
    assert {len(sample) for sample in samples} == {1}
    assert sum(float(sample.images_BCX.mean()) == 2.0 for sample in samples) == NUM_SAMPLES / 2
