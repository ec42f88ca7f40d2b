"""`mldg`, `fish` and `mer` against steps made by hand, and the identities they stand on."""

import pytest
import torch
from torch import nn

from wardround.site_client.learning.alignment import (
    add,
    gradient_at,
    gradient_of,
    inner_product,
    stepwise,
)
from wardround.site_client.learning.methods.exemplar_replay import EXEMPLAR_REPLAY
from wardround.site_client.learning.methods.finetune import FINETUNE
from wardround.site_client.learning.methods.fish import FISH
from wardround.site_client.learning.methods.groups import by_site, split_sites
from wardround.site_client.learning.methods.mer import MER
from wardround.site_client.learning.methods.mldg import MLDG
from wardround.site_client.learning.pool import concatenate
from wardround.site_client.learning.segmenter import segmentation_loss

OURS, THEIRS = (0.5, 1), (2.0, 0)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def still(segmenter):
    return tuple(torch.zeros_like(weight) for weight in segmenter.parameters())


def distance(first, second) -> float:
    return float(torch.stack([(a - b).norm() for a, b in zip(first, second, strict=True)]).norm())


def gradient_of_product(segmenter, a, b):
    """Return the gradient of <g_a, g_b>."""
    theta = list(segmenter.parameters())
    g_a, g_b = (
        torch.autograd.grad(
            segmentation_loss(segmenter(x.images_BCX), x.targets_BKX), theta, create_graph=True
        )
        for x in (a, b)
    )
    return torch.autograd.grad(inner_product(g_a, g_b), theta)


@pytest.fixture
def two_sites(batch):
    return batch(OURS, (-1.0, 0)), batch(THEIRS, (0.7, 1), groups=(1, 1))


def test_steps_follow_each_other_and_the_weights_stay(line, two_sites) -> None:
    segmenter = line(1.0, 0.5)
    way = stepwise(segmenter, two_sites, alpha=0.1, clip=1e9, start=still(segmenter))
    loss_a, g_a = gradient_of(segmenter, two_sites[0])
    moved = line(*(float(w - 0.1 * g) for w, g in zip((1.0, 0.5), g_a, strict=True)))
    loss_b, g_b = gradient_of(moved, two_sites[1])

    assert [weight.item() for weight in segmenter.parameters()] == [1.0, 0.5]
    assert way.loss == pytest.approx((loss_a + loss_b) / 2)
    assert distance(way.tensors, add(g_a, g_b)) < 1e-12
    assert distance(way.reached, add(g_a, g_b, weights=(0.1, 0.1))) < 1e-12


def test_an_inner_step_is_no_longer_than_the_clip_allows(line, two_sites) -> None:
    segmenter = line(1.0, 0.5)
    way = stepwise(segmenter, two_sites[:1], alpha=0.5, clip=0.01, start=still(segmenter))

    assert float(torch.stack(way.reached).norm()) == pytest.approx(0.5 * 0.01)


def test_fish_steps_through_the_sites_in_a_random_order(line, two_sites, arrival) -> None:
    segmenter = line(1.0, 0.5)
    learner = FISH.begin(arrival(segmenter, alpha=0.1, clip=1e9))
    seen = set()
    for seed in range(8):
        got = learner.gradient(*two_sites, draws(seed)).tensors
        for first, second in ((0, 1), (1, 0)):
            g_first = gradient_of(segmenter, two_sites[first])[1]
            step = tuple(0.1 * g for g in g_first)
            g_second = gradient_at(segmenter, two_sites[second], step)[1]
            if distance(got, add(g_first, g_second)) < 1e-12:
                seen.add(first)
    assert seen == {0, 1}


def test_fish_aligns_to_first_order_at_half_strength(line, two_sites, arrival) -> None:
    """Mean over both orders: g_a + g_b - alpha / 2 d<g_a, g_b> + O(alpha^2)."""
    segmenter = line(1.0, 0.5)
    g = [gradient_of(segmenter, site)[1] for site in two_sites]
    product = gradient_of_product(segmenter, *two_sites)
    errors = []
    for alpha in (1e-1, 1e-2, 1e-3):
        start = still(segmenter)
        ways = [
            stepwise(segmenter, order, alpha=alpha, clip=1e9, start=start).tensors
            for order in (two_sites, two_sites[::-1])
        ]
        expected = add(*g, product, weights=(1.0, 1.0, -alpha / 2))
        errors.append(distance(add(*ways, weights=(0.5, 0.5)), expected))

    assert errors[0] / errors[1] == pytest.approx(100, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.3)


def test_fish_without_inner_steps_is_exemplar_replay(line, two_sites, arrival) -> None:
    segmenter = line(1.0, 0.5)
    got = FISH.begin(arrival(segmenter, alpha=0.0)).gradient(*two_sites, draws())
    plain = EXEMPLAR_REPLAY.begin(arrival(segmenter)).gradient(*two_sites, draws())

    assert same(got.tensors, plain.tensors)


def test_fish_with_one_site_is_finetune(line, two_sites, arrival) -> None:
    segmenter = line(1.0, 0.5)
    got = FISH.begin(arrival(segmenter)).gradient(two_sites[0], None, draws())
    plain = FINETUNE.begin(arrival(segmenter)).gradient(two_sites[0], None, draws())

    assert got == plain


def test_samples_are_told_apart_by_their_site(batch) -> None:
    sites = by_site(batch(OURS, OURS), batch(THEIRS, OURS, THEIRS, groups=(2, 1, 2)))

    assert [site.group_B.tolist() for site in sites] == [[0, 0], [1], [2, 2]]
    assert sites[2].images_BCX.flatten().tolist() == [2.0, 2.0]


def test_mldg_adds_the_loss_of_other_sites_after_a_step(line, two_sites, arrival) -> None:
    segmenter = line(1.0, 0.5)
    learner = MLDG.begin(arrival(segmenter, alpha=0.1, mldg=3.0, clip=1e9))
    got = learner.gradient(*two_sites, draws())
    train, test = split_sites(*two_sites, draws())
    loss, g_train = gradient_of(segmenter, train)
    moved = line(*(float(w - 0.1 * g) for w, g in zip((1.0, 0.5), g_train, strict=True)))
    test_loss, g_test = gradient_of(moved, test)

    assert got.loss == pytest.approx(loss + 3 * test_loss)
    assert distance(got.tensors, add(g_train, g_test, weights=(1.0, 3.0))) < 1e-12


def test_mldg_of_second_order_is_the_explicit_product_to_first_order(
    line, two_sites, arrival
) -> None:
    """d [L(A) + L(theta - alpha g_A; B)] = g_A + g_B - alpha d<g_A, g_B> + O(alpha^2)."""
    segmenter = line(1.0, 0.5)
    g = [gradient_of(segmenter, site)[1] for site in two_sites]
    product = gradient_of_product(segmenter, *two_sites)
    errors = []
    for alpha in (1e-1, 1e-2, 1e-3):
        learner = MLDG.begin(arrival(segmenter, alpha=alpha, order="second", clip=1e9))
        expected = add(*g, product, weights=(1.0, 1.0, -alpha))
        errors.append(distance(learner.gradient(*two_sites, draws()).tensors, expected))

    assert errors[0] / errors[1] == pytest.approx(100, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.3)


def test_mldg_without_an_inner_step_is_exemplar_replay(line, two_sites, arrival) -> None:
    segmenter = line(1.0, 0.5)
    got = MLDG.begin(arrival(segmenter, alpha=0.0)).gradient(*two_sites, draws())
    plain = EXEMPLAR_REPLAY.begin(arrival(segmenter)).gradient(*two_sites, draws())

    assert distance(got.tensors, plain.tensors) < 1e-12


def test_mldg_without_weight_trains_on_the_meta_train_sites_alone(line, two_sites, arrival) -> None:
    segmenter = line(1.0, 0.5)
    got = MLDG.begin(arrival(segmenter, mldg=0.0)).gradient(*two_sites, draws())
    train, _ = split_sites(*two_sites, draws())

    assert same(got.tensors, gradient_of(segmenter, train)[1])


def test_mer_with_one_item_is_plain_mixed_replay(line, two_sites, arrival) -> None:
    segmenter = line(1.0, 0.5)
    got = MER.begin(arrival(segmenter, mer_batches=1, mer_items=1)).gradient(*two_sites, draws())
    loss, mixed = gradient_of(segmenter, concatenate(two_sites))

    assert got.loss == pytest.approx(loss)
    assert distance(got.tensors, mixed) < 1e-12


def test_mer_pulls_each_batch_back_before_the_next(line, two_sites, arrival) -> None:
    """Four samples in two batches of two items, each step by hand."""
    segmenter = line(1.0, 0.5)
    learner = MER.begin(
        arrival(segmenter, alpha=0.1, mer_batches=2, mer_items=2, mer_within=0.25, clip=1e9)
    )
    got = learner.gradient(*two_sites, draws(5))
    samples = concatenate(two_sites)
    turn = torch.randperm(4, generator=draws(5)).tolist()
    theta, gradients = [1.0, 0.5], []
    for places in (turn[:2], turn[2:]):
        began = list(theta)
        for place in places:
            item = samples.select(torch.tensor([place]))
            gradients.append(gradient_of(line(*theta), item)[1])
            theta = [w - 0.1 * float(g) for w, g in zip(theta, gradients[-1], strict=True)]
        theta = [b + 0.25 * (w - b) for b, w in zip(began, theta, strict=True)]

    assert distance(got.tensors, add(*gradients, weights=[0.25] * 4)) < 1e-9


def test_mer_aligns_the_items_of_a_batch(line, two_sites, arrival) -> None:
    """With one batch of two items it is Fish's way, halved."""
    segmenter = line(1.0, 0.5)
    one_each = (two_sites[0].select(torch.tensor([0])), two_sites[1].select(torch.tensor([0])))
    settings = {"alpha": 0.2, "mer_batches": 1, "mer_items": 2}
    mer = MER.begin(arrival(segmenter, **settings)).gradient(*one_each, draws())
    fish = FISH.begin(arrival(segmenter, alpha=0.2)).gradient(*one_each, draws())

    assert distance(mer.tensors, [g / 2 for g in fish.tensors]) < 1e-12


@pytest.mark.parametrize("method", [FISH, MLDG, MER], ids=lambda method: method.name)
def test_a_step_moves_no_weight_by_itself(line, two_sites, arrival, method) -> None:
    segmenter: nn.Module = line(1.0, 0.5)
    method.begin(arrival(segmenter)).gradient(*two_sites, draws())

    assert [weight.item() for weight in segmenter.parameters()] == [1.0, 0.5]
