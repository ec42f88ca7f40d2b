"""`sga` against sums of known gradients; its buffer against choices made by hand."""

from dataclasses import replace

import pytest
import torch

from wardround.site_client.data.augment import intensity_stack
from wardround.site_client.learning.alignment import add, gradient_of, look_ahead
from wardround.site_client.learning.diverse_buffer import choose
from wardround.site_client.learning.methods.exemplar_replay import EXEMPLAR_REPLAY
from wardround.site_client.learning.methods.finetune import FINETUNE
from wardround.site_client.learning.methods.groups import split_sites
from wardround.site_client.learning.methods.sga import SGA
from wardround.site_client.learning.methods.shift import shifted
from wardround.site_client.learning.segmenter import build_segmenter, innermost

# Distances from the mean of the three, squared: 0.58, 0.44, 0.04.
THREE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
NOBODY = torch.zeros(0, 2)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def two_sites(batch):
    sites = batch((0.5, 1), (-0.9, 0)), batch((0.8, 0), (0.7, 1), groups=(1, 1))
    return [  # the intensity stack is for images, which are float32
        replace(site, images_BCX=site.images_BCX.float(), targets_BKX=site.targets_BKX.float())
        for site in sites
    ]


def test_its_gradient_is_the_sum_of_the_dual_meta_objectives(line, two_sites, arrival) -> None:
    segmenter = line(1.0, 0.5)
    learner = SGA.begin(arrival(segmenter, alpha=0.2, orientational=0.5, arbitrary=0.25))
    got = learner.gradient(*two_sites, draws())

    generator = draws()
    a, b = split_sites(*two_sites, generator)
    shifted = replace(b, images_BCX=intensity_stack(b.images_BCX, generator))
    incoming, replay = two_sites
    loss, g_incoming = gradient_of(segmenter, incoming)
    loss_a, g_a = gradient_of(segmenter, a)
    step = {"alpha": 0.2, "clip": 10.0}
    orientational, g_o = look_ahead(segmenter, replay, inner=incoming, **step)
    arbitrary, g_b = look_ahead(segmenter, shifted, inner=a, **step)
    expected = add(g_incoming, g_o, g_a, g_b, weights=(1.0, 0.5, 0.25, 0.25))
    assert same(got.tensors, expected)
    assert got.loss == pytest.approx(loss + 0.5 * orientational + 0.25 * (loss_a + arbitrary))


@pytest.mark.parametrize("shift", ["none", "amplitude"])
def test_the_shift_is_a_choice(line, two_sites, arrival, shift) -> None:
    segmenter = line(1.0, 0.5)
    options = {"alpha": 0.2, "orientational": 0.0, "shift": shift}
    got = SGA.begin(arrival(segmenter, **options)).gradient(*two_sites, draws())

    generator = draws()
    a, b = split_sites(*two_sites, generator)
    judging = b if shift == "none" else shifted(b, a, "amplitude", generator)
    ahead = look_ahead(segmenter, judging, inner=a, alpha=0.2, clip=10.0)[1]
    plain = [gradient_of(segmenter, some)[1] for some in (two_sites[0], a)]
    assert same(got.tensors, add(*plain, ahead))


def test_without_look_ahead_and_groups_it_is_exemplar_replay(line, two_sites, arrival) -> None:
    segmenter = line(1.0, 0.5)
    got = SGA.begin(arrival(segmenter, alpha=0.0, arbitrary=0.0)).gradient(*two_sites, draws())
    plain = EXEMPLAR_REPLAY.begin(arrival(segmenter)).gradient(*two_sites, draws())

    assert same(got.tensors, plain.tensors)


def test_at_the_first_site_the_batch_must_serve_itself_under_shift(
    line, two_sites, arrival
) -> None:
    segmenter, incoming = line(1.0, 0.5), two_sites[0]
    got = SGA.begin(arrival(segmenter, alpha=0.2)).gradient(incoming, None, draws())
    shifted = replace(incoming, images_BCX=intensity_stack(incoming.images_BCX, draws()))
    ahead = look_ahead(segmenter, shifted, inner=incoming, alpha=0.2, clip=10.0)[1]
    assert same(got.tensors, add(gradient_of(segmenter, incoming)[1], ahead))

    plain = SGA.begin(arrival(segmenter, arbitrary=0.0)).gradient(incoming, None, draws())
    finetune = FINETUNE.begin(arrival(segmenter)).gradient(incoming, None, draws())
    assert same(plain.tensors, finetune.tensors)


@pytest.mark.parametrize(
    ("others", "within", "between", "expected"),
    [
        (NOBODY, 0.0, 0.0, [2, 1]),  # nearest to the mean
        (NOBODY, 1.0, 0.0, [2, 0]),  # (1, 0) lies 0.89 from the first choice, (0, 1) only 0.63
        (THREE[1:2], 0.0, 1.0, [0, 2]),  # (0, 1) is kept of another site; (1, 0) lies 1.41 from it
        (THREE[:1], 0.0, 1.0, [1, 2]),
    ],
    ids=["representative", "diverse within", "diverse between", "the other way"],
)
def test_the_buffer_weighs_the_mean_against_what_is_kept(others, within, between, expected) -> None:
    assert choose(THREE, others, count=2, within=within, between=between) == expected


def test_a_site_with_fewer_cases_keeps_them_all() -> None:
    assert sorted(choose(THREE, NOBODY, count=9, within=1.0, between=1.0)) == [0, 1, 2]


def test_the_innermost_layer_sees_the_coarsest_grid(tiny_plan) -> None:
    segmenter = build_segmenter(tiny_plan.task, tiny_plan.segmenter, seed=0)
    sizes = []
    innermost(segmenter).register_forward_hook(lambda _l, _g, out: sizes.append(out.shape))
    segmenter(torch.zeros(2, 1, 16, 16))

    assert sizes == [(2, tiny_plan.segmenter.features[-1], 8, 8)]
