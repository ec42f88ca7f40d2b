"""The look-ahead against what it stands for, on networks small enough to check by hand."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from wardround.shared import plan as plans
from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning import alignment
from wardround.site_client.learning.alignment import (
    add,
    clipped,
    cosine,
    gradient_of,
    inner_product,
    look_ahead,
)
from wardround.site_client.learning.methods.diffusion_replay import replay_gradient
from wardround.site_client.learning.methods.groups import other_sites, split_sites
from wardround.site_client.learning.methods.method import Arrival, Gradient, Learner
from wardround.site_client.learning.methods.smd import SMD, aligned_gradient
from wardround.site_client.learning.pool import Batch, concatenate

NO_CLIP = 1e9


@pytest.fixture
def segmenter() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 2, 1))
    return network.double()


def batch(seed: int, *, size: int = 4, group: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((size, 1, 8, 8), generator=generator, dtype=torch.float64)
    labels = (images[:, 0] + 0.3 * seed > 0.2).long()
    targets = torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).double()
    group_B = torch.full((size,), group, dtype=torch.long)
    return Batch(images_BCX=images, targets_BKX=targets, group_B=group_B)


def aligned(
    segmenter: nn.Module,
    incoming: Batch,
    replay: Batch | None,
    config: MethodConfig,
    generator: torch.Generator,
) -> Gradient:
    """Return smd's gradient where the samples that a step is made from judge it, too."""
    step = incoming, replay
    return aligned_gradient(segmenter, step, step, config, generator)


def same(first: alignment.Gradients, second: alignment.Gradients) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def distance(first: alignment.Gradients, second: alignment.Gradients) -> float:
    difference = tuple(a - b for a, b in zip(first, second, strict=True))
    return float(torch.sqrt(inner_product(difference, difference)))


def test_a_look_ahead_of_length_zero_is_the_plain_gradient_to_the_last_bit(
    segmenter: nn.Module,
) -> None:
    plain = gradient_of(segmenter, batch(1))
    ahead = look_ahead(segmenter, batch(1), inner=batch(2), alpha=0.0, clip=NO_CLIP)

    assert ahead[0] == plain[0]
    assert same(ahead[1], plain[1])


def test_alpha_zero_makes_smd_weighted_replay_to_the_last_bit(segmenter: nn.Module) -> None:
    incoming, replay = batch(1), batch(2, group=1)
    config = MethodConfig(name="smd", alpha=0.0, orientational=0.5, arbitrary=0.0)
    generator = torch.Generator().manual_seed(0)

    got = aligned(segmenter, incoming, replay, config, generator)
    g_incoming, g_replay = (gradient_of(segmenter, b)[1] for b in (incoming, replay))

    assert same(got.tensors, add(g_incoming, g_replay, g_replay, weights=(1.0, 1.0, 0.5)))


def test_smd_judges_random_groups_without_shift_unless_told(segmenter: nn.Module) -> None:
    segmenter, sites = segmenter.float(), [batch(1), batch(2, group=1)]
    incoming, replay = (
        replace(b, images_BCX=b.images_BCX.float(), targets_BKX=b.targets_BKX.float())
        for b in sites
    )

    def gradient(**config: object) -> alignment.Gradients:
        method = MethodConfig(name="smd", orientational=0.0, **config)
        return aligned(
            segmenter, incoming, replay, method, torch.Generator().manual_seed(0)
        ).tensors

    assert same(gradient(), gradient(shift="none"))
    kinds = [gradient(shift=shift) for shift in ("none", "stack", "amplitude")]
    assert all(distance(a, b) > 1e-3 for a, b in itertools.pairwise(kinds))


def test_without_either_alignment_smd_is_diffusion_replay(segmenter: nn.Module) -> None:
    config = MethodConfig(name="smd", alpha=0.1, orientational=0.0, arbitrary=0.0)
    generator = torch.Generator().manual_seed(0)
    args = (segmenter, batch(1), batch(2, group=1), config, generator)

    assert same(aligned(*args).tensors, replay_gradient(*args).tensors)


def test_the_look_ahead_loss_agrees_with_the_inner_product_to_first_order(
    segmenter: nn.Module,
) -> None:
    """L_B(theta - alpha g_A) - (L_B - alpha <g_A, g_B>) falls a hundredfold per tenth of alpha."""
    loss_b, g_b = gradient_of(segmenter, batch(2))
    g_a = gradient_of(segmenter, batch(1))[1]
    product = float(inner_product(g_a, g_b))
    errors = [
        abs(
            look_ahead(segmenter, batch(2), inner=g_a, alpha=alpha, clip=NO_CLIP)[0]
            - (loss_b - alpha * product)
        )
        for alpha in (1e-1, 1e-2, 1e-3)
    ]

    assert errors[0] / errors[1] == pytest.approx(100, rel=0.25)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.25)


def explicit_gradient(
    segmenter: nn.Module, a: Batch, b: Batch, alpha: float, half: bool
) -> alignment.Gradients:
    """Gradient of L_B - alpha <g_A, g_B>; with `half`, g_A held constant."""
    theta = list(segmenter.parameters())
    losses = [alignment.loss_on(segmenter, segmenter(x.images_BCX), x) for x in (a, b)]
    g_a, g_b = (torch.autograd.grad(loss, theta, create_graph=True) for loss in losses)
    if half:
        g_a = tuple(g.detach() for g in g_a)
    return torch.autograd.grad(losses[1] - alpha * inner_product(g_a, g_b), theta)


@pytest.mark.parametrize(("order", "half"), [("second", False), ("first", True)])
def test_the_gradient_agrees_with_that_of_the_explicit_objective(
    segmenter: nn.Module, order: str, half: bool
) -> None:
    """Exact: all of the product's gradient. First order: the half that moves g_B, as derived."""
    a, b = batch(1), batch(2)
    errors = []
    for alpha in (1e-1, 1e-2, 1e-3):
        got = look_ahead(segmenter, b, inner=a, alpha=alpha, clip=NO_CLIP, order=order)[1]
        errors.append(distance(got, explicit_gradient(segmenter, a, b, alpha, half)))

    assert errors[0] / errors[1] == pytest.approx(100, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.3)


def test_the_explicit_penalty_is_the_look_ahead_loss_to_first_order(segmenter: nn.Module) -> None:
    a, b = batch(1), batch(2)
    errors = []
    for alpha in (1e-1, 1e-2, 1e-3):
        ahead, explicit = (
            look_ahead(segmenter, b, inner=a, alpha=alpha, clip=NO_CLIP, order=order)[0]
            for order in ("first", "explicit")
        )
        errors.append(abs(ahead - explicit))

    assert errors[0] / errors[1] == pytest.approx(100, rel=0.25)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.25)


@pytest.mark.parametrize("clip", [NO_CLIP, 0.05], ids=["not clipped", "clipped"])
def test_the_explicit_gradient_is_that_of_finite_differences(
    segmenter: nn.Module, clip: float
) -> None:
    a, b, small = batch(1), batch(2), 1e-6

    def objective() -> float:
        return look_ahead(segmenter, b, inner=a, alpha=0.5, clip=clip, order="explicit")[0]

    got = look_ahead(segmenter, b, inner=a, alpha=0.5, clip=clip, order="explicit")[1]
    for weight, slope in zip(segmenter.parameters(), got, strict=True):
        flat = weight.data.view(-1)
        kept = flat[0].item()
        flat[0] = kept + small
        above = objective()
        flat[0] = kept - small
        below = objective()
        flat[0] = kept
        assert (above - below) / (2 * small) == pytest.approx(slope.flatten()[0].item(), abs=1e-8)


def test_explicit_smd_without_a_weight_on_the_product_is_weighted_replay(
    segmenter: nn.Module,
) -> None:
    config = MethodConfig(name="smd", alpha=0.0, orientational=0.5, arbitrary=0.0, order="explicit")
    incoming, replay = batch(1), batch(2, group=1)
    got = aligned(segmenter, incoming, replay, config, torch.Generator().manual_seed(0))
    g_incoming, g_replay = (gradient_of(segmenter, b)[1] for b in (incoming, replay))

    expected = add(g_incoming, g_replay, g_replay, weights=(1.0, 1.0, 0.5))
    assert distance(got.tensors, expected) < 1e-12


def test_explicit_smd_is_exact_smd_to_first_order(segmenter: nn.Module) -> None:
    incoming, replay = batch(1), batch(2, group=1)
    errors = []
    for alpha in (1e-1, 1e-2, 1e-3):
        exact, explicit = (
            aligned(
                segmenter,
                incoming,
                replay,
                MethodConfig(name="smd", alpha=alpha, order=order, clip=NO_CLIP),
                torch.Generator().manual_seed(0),
            ).tensors
            for order in ("second", "explicit")
        )
        errors.append(distance(exact, explicit))

    assert errors[0] / errors[1] == pytest.approx(100, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.3)


def test_a_step_that_serves_both_gradients_raises_their_agreement(segmenter: nn.Module) -> None:
    a, b = batch(1), batch(2)
    before = float(inner_product(gradient_of(segmenter, a)[1], gradient_of(segmenter, b)[1]))
    product = explicit_gradient(segmenter, a, b, 1.0, half=False)
    plain = gradient_of(segmenter, b)[1]
    with torch.no_grad():
        for weight, towards, away in zip(segmenter.parameters(), product, plain, strict=True):
            weight -= 1e-3 * (towards - away)  # descends -<g_a, g_b> alone
    after = float(inner_product(gradient_of(segmenter, a)[1], gradient_of(segmenter, b)[1]))

    assert after > before


def test_the_weights_do_not_move_during_a_look_ahead(segmenter: nn.Module) -> None:
    before = [weight.clone() for weight in segmenter.parameters()]
    look_ahead(segmenter, batch(1), inner=batch(2), alpha=0.5, clip=1.0)
    look_ahead(segmenter, batch(1), inner=batch(2), alpha=0.5, clip=1.0, order="second")

    assert same(tuple(before), tuple(segmenter.parameters()))


def test_clipping_keeps_the_direction_and_bounds_the_norm() -> None:
    gradients = (torch.tensor([3.0]), torch.tensor([4.0]))

    small = clipped(gradients, 1.0)
    assert torch.allclose(torch.cat(small), torch.tensor([0.6, 0.8]))
    assert same(clipped(gradients, 100.0), gradients)


def test_cosines_of_known_angles() -> None:
    east, north, west = (
        (torch.tensor([1.0, 0.0]),),
        (torch.tensor([0.0, 2.0]),),
        (torch.tensor([-3.0, 0.0]),),
    )

    assert cosine(east, east) == pytest.approx(1.0)
    assert cosine(east, north) == pytest.approx(0.0)
    assert cosine(east, west) == pytest.approx(-1.0)
    assert cosine(east, (torch.zeros(2),)) == 0.0


def test_at_the_first_site_another_draw_judges_the_step(segmenter: nn.Module) -> None:
    config = MethodConfig(name="smd", alpha=0.5, orientational=1.0, arbitrary=0.3)
    step, judges = (batch(1), None), (batch(5), None)
    got = aligned_gradient(segmenter, step, judges, config, torch.Generator()).tensors
    g_step = gradient_of(segmenter, batch(1))[1]
    ahead = look_ahead(segmenter, batch(5), inner=g_step, alpha=0.5, clip=config.clip)[1]

    assert same(got, add(g_step, ahead, weights=(1.0, 0.3)))


def test_a_step_for_the_visited_site_is_judged_by_another_draw_of_replay(
    segmenter: nn.Module,
) -> None:
    config = MethodConfig(name="smd", alpha=0.5, orientational=0.7, arbitrary=0.0)
    step, judges = (batch(1), batch(2, group=1)), (batch(5), batch(6, group=1))
    got = aligned_gradient(segmenter, step, judges, config, torch.Generator()).tensors
    g_own, g_replay = (gradient_of(segmenter, each)[1] for each in step)
    ahead = look_ahead(segmenter, judges[1], inner=g_own, alpha=0.5, clip=config.clip)[1]

    assert same(got, add(g_own, g_replay, ahead, weights=(1.0, 1.0, 0.7)))


def test_alpha_zero_and_weights_of_one_are_replay_of_both_draws(segmenter: nn.Module) -> None:
    config = MethodConfig(name="smd", alpha=0.0)
    step, judges = (batch(1), batch(2, group=1)), (batch(5), batch(6, group=1))
    got = aligned_gradient(segmenter, step, judges, config, torch.Generator())
    terms = [gradient_of(segmenter, each)[1] for each in (*step, *reversed(judges))]

    assert same(got.tensors, add(*terms))


def test_a_step_for_the_earlier_sites_is_judged_by_the_visited_one(segmenter: nn.Module) -> None:
    config = MethodConfig(name="smd", alpha=0.5, orientational=0.0, arbitrary=0.7)
    step, judges = (batch(1), batch(2, group=1)), (batch(5), batch(6, group=1))
    got = aligned_gradient(segmenter, step, judges, config, torch.Generator()).tensors
    g_own, g_replay = (gradient_of(segmenter, each)[1] for each in step)
    ahead = look_ahead(segmenter, judges[0], inner=g_replay, alpha=0.5, clip=config.clip)[1]

    assert same(got, add(g_own, g_replay, ahead, weights=(1.0, 1.0, 0.7)))


def test_random_groups_are_judged_by_the_other_sites(segmenter: nn.Module) -> None:
    """Whichever of two sites the step is for, another draw of the other one judges it."""
    config = MethodConfig(name="smd", alpha=0.0, orientational=0.0, groups="random")
    step, judges = (batch(1), batch(2, group=1)), (batch(5), batch(6, group=1))
    got = [
        aligned_gradient(segmenter, step, judges, config, torch.Generator().manual_seed(seed))
        for seed in range(8)
    ]
    plain = [gradient_of(segmenter, each)[1] for each in step]
    either = [add(*plain, gradient_of(segmenter, each)[1]) for each in judges]

    assert all(any(same(one.tensors, each) for each in either) for one in got)
    assert all(any(same(one.tensors, each) for one in got) for each in either)


def test_the_other_draw_judges_with_the_sites_that_the_step_was_not_for() -> None:
    judges = concatenate([batch(1), batch(2, group=1), batch(3, group=2)])
    others = other_sites(judges, concatenate([batch(7), batch(8, group=2)]))

    assert others.group_B.unique().tolist() == [1]
    assert torch.equal(others.images_BCX, batch(2).images_BCX)


def learner(segmenter: nn.Module, **config: object) -> Learner:
    """Return smd at work, where each further draw is another batch."""
    content = {
        "study_id": "line",
        "sites": ["ada", "ben"],
        "task": {"classes": ["organ"], "working_size": [16, 16]},
        "method": {"name": "smd", **config},
    }
    seeds = itertools.count(5)
    return SMD.begin(
        Arrival(
            segmenter=segmenter,
            state={},
            is_first=False,
            plan=plans.parse(content, origin="test"),
            draw=lambda _generator: (batch(next(seeds)), batch(next(seeds), group=1)),
        )
    )


def test_the_learner_judges_by_what_it_draws(segmenter: nn.Module) -> None:
    config = MethodConfig(name="smd", arbitrary=0.0)
    step, judges = (batch(1), batch(2, group=1)), (batch(5), batch(6, group=1))
    got = learner(segmenter, arbitrary=0.0).gradient(*step, torch.Generator())
    expected = aligned_gradient(segmenter, step, judges, config, torch.Generator())

    assert same(got.tensors, expected.tensors)


def test_the_learner_draws_nothing_more_where_nothing_is_aligned(segmenter: nn.Module) -> None:
    plain = learner(segmenter, orientational=0.0, arbitrary=0.0)
    step, before = (batch(1), batch(2, group=1)), torch.Generator().manual_seed(1)
    got = plain.gradient(*step, before)

    config = MethodConfig(name="smd", orientational=0.0, arbitrary=0.0)
    assert same(got.tensors, replay_gradient(segmenter, *step, config, before).tensors)
    assert torch.equal(before.get_state(), torch.Generator().manual_seed(1).get_state())


def test_arbitrary_groups_never_divide_a_site() -> None:
    replay = concatenate([batch(2, group=1), batch(3, group=2)])
    for seed in range(20):
        a, b = split_sites(batch(1), replay, torch.Generator().manual_seed(seed))
        assert not set(a.group_B.tolist()) & set(b.group_B.tolist())
        assert len(a) + len(b) == 12
