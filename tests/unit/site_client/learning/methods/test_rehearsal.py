"""`derpp` and `agem` against sums done by hand on two parameters, and their limits."""

from dataclasses import replace

import pytest
import torch

from wardround.site_client.learning.alignment import add, gradient_of, inner_product
from wardround.site_client.learning.methods.agem import AGEM, project
from wardround.site_client.learning.methods.derpp import DERPP
from wardround.site_client.learning.methods.exemplar_replay import EXEMPLAR_REPLAY
from wardround.site_client.learning.methods.finetune import FINETUNE

NO_DRAW = torch.Generator()


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def remembered(batch, said: float):
    """Return a batch whose network of then gave every pixel the logits (0, said)."""
    logits = torch.zeros_like(batch.targets_BKX)
    logits[:, 1] = said
    return replace(batch, logits_BKX=logits)


def test_derpp_pulls_the_logits_to_what_they_were(line, batch, arrival) -> None:
    """At x = 2 the network says 7 and said 4: the mean over two logits is 3^2 / 2.

    Its slope is 3 x for w and 3 for b.
    """
    segmenter = line(3.0, 1.0)
    learner = DERPP.begin(arrival(segmenter, derpp=0.5, derpp_labels=0.0))
    replay = remembered(batch((2.0, 1)), said=4.0)
    got = learner.gradient(batch((0.5, 1)), replay, NO_DRAW)
    loss, incoming = gradient_of(segmenter, batch((0.5, 1)))

    assert got.loss - loss == pytest.approx(0.5 * 3**2 / 2)
    assert float(got.tensors[0] - incoming[0]) == pytest.approx(0.5 * 3 * 2)
    assert float(got.tensors[1] - incoming[1]) == pytest.approx(0.5 * 3)


@pytest.mark.parametrize(("weights", "said"), [({"derpp": 0.0}, 4.0), ({"derpp": 9.0}, 7.0)])
def test_without_weight_or_difference_derpp_is_exemplar_replay(
    line, batch, arrival, weights, said
) -> None:
    segmenter = line(3.0, 1.0)
    args = (batch((0.5, 1)), remembered(batch((2.0, 0)), said), NO_DRAW)
    got = DERPP.begin(arrival(segmenter, **weights)).gradient(*args)
    plain = EXEMPLAR_REPLAY.begin(arrival(segmenter)).gradient(*args)

    assert got == plain


def test_derpp_refuses_replay_without_logits(line, batch, arrival) -> None:
    learner = DERPP.begin(arrival(line(1.0, 0.0)))
    with pytest.raises(TypeError, match="logits"):
        learner.gradient(batch((0.5, 1)), batch((2.0, 1)), NO_DRAW)


def test_a_gem_takes_off_what_points_against_the_memory() -> None:
    """(3, 4) against (-1, 0) is left with (0, 4)."""
    g, against = (torch.tensor([3.0]), torch.tensor([4.0])), (torch.tensor([-1.0]), torch.zeros(1))

    assert torch.equal(torch.cat(project(g, against)), torch.tensor([0.0, 4.0]))
    assert torch.equal(torch.cat(project(g, (torch.zeros(1),) * 2)), torch.tensor([3.0, 4.0]))


def test_without_conflict_a_gem_is_finetune(line, batch, arrival) -> None:
    segmenter = line(1.0, 0.0)
    args = (batch((0.5, 1)), batch((0.7, 1)), NO_DRAW)
    got = AGEM.begin(arrival(segmenter)).gradient(*args)
    plain = FINETUNE.begin(arrival(segmenter)).gradient(*args)

    assert same(got.tensors, plain.tensors)
    assert got.loss == plain.loss
    assert got.cosine > 0


def test_in_conflict_a_gem_goes_where_the_memory_does_not_rise(line, batch, arrival) -> None:
    """One label against the other for nearly the same pixel."""
    segmenter = line(1.0, 0.0)
    got = AGEM.begin(arrival(segmenter)).gradient(batch((0.5, 1)), batch((0.7, 0)), NO_DRAW)
    g, reference = (gradient_of(segmenter, batch(pixel))[1] for pixel in ((0.5, 1), (0.7, 0)))
    share = inner_product(g, reference) / inner_product(reference, reference)

    assert got.cosine < 0
    assert float(inner_product(got.tensors, reference)) == pytest.approx(0.0, abs=1e-12)
    expected = add(g, reference, weights=(1.0, -float(share)))
    assert torch.allclose(torch.stack(got.tensors), torch.stack(expected))


@pytest.mark.parametrize("method", [DERPP, AGEM], ids=lambda method: method.name)
def test_without_an_earlier_site_it_is_finetune(line, batch, arrival, method) -> None:
    segmenter = line(1.0, 0.5)
    args = (batch((0.5, 1)), None, NO_DRAW)

    assert method.begin(arrival(segmenter)).gradient(*args) == FINETUNE.begin(
        arrival(segmenter)
    ).gradient(*args)
