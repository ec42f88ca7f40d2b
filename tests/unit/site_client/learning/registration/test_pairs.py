"""Which images are paired, how slices meet, and what a judge makes of a pair."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from wardround.shared import plan as plans
from wardround.shared.errors import DataError
from wardround.site_client.data.cases import Case, SiteData
from wardround.site_client.learning.pool import apart
from wardround.site_client.learning.registration.judge import PairJudge
from wardround.site_client.learning.registration.network import build_registrar
from wardround.site_client.learning.registration.pairs import (
    heldout_pairs,
    pair_pool,
    pairing,
    place_at_same_depth,
    training_pairs,
)


def a_plan(*, dims: str = "2d", size: tuple[int, ...] = (16, 16), **registration: object):
    return plans.parse(
        {
            "study_id": "pairs",
            "sites": ["ada", "ben"],
            "task": {
                "kind": "registration",
                "dims": dims,
                "classes": ["organ", "wall"],
                "working_size": list(size),
                "labels": {"ben": {"wall": 2}},
            },
            "segmenter": {"features": [2, 4]},
            "registration": registration,
            "method": {"name": "finetune"},
        },
        origin="test",
    )


def a_case(case_id: str, *, depth: int = 1, side: int = 16, at: int = 4, first: int = 0) -> Case:
    """Return a volume with a square of class 1 on every slice from `first` on."""
    label = np.zeros((side, side, depth), np.uint8)
    label[at : at + 4, at : at + 4, first:] = 1
    image = label[None].astype(np.float32) + np.arange(depth, dtype=np.float32) / 100
    return Case(
        case_id=case_id,
        image_CHWD=image,
        label_HWD=label,
        fov_HWD=None,
        spacing_mm=(1.0, 1.0, 1.0),
    )


def names(pairs) -> list[tuple[str, str]]:
    return [(fixed.case_id, moving.case_id) for fixed, moving in pairs]


def test_each_case_is_paired_with_the_next_ones_of_the_ring() -> None:
    cases = [a_case(name) for name in "abc"]

    assert names(heldout_pairs(cases, a_plan(), "ada")) == [("a", "b"), ("b", "c"), ("c", "a")]
    assert len(training_pairs(cases, a_plan(partners=2), "ada")) == 6
    assert len(training_pairs(cases, a_plan(partners=9), "ada")) == 6


def test_images_of_one_person_are_paired_with_each_other_alone() -> None:
    plan = a_plan(within={"ada": 2})
    cases = [a_case(name) for name in ("p_1_ED", "p_1_ES", "p_2_ED", "p_2_ES")]
    there_and_back = [
        ("p_1_ED", "p_1_ES"),
        ("p_1_ES", "p_1_ED"),
        ("p_2_ED", "p_2_ES"),
        ("p_2_ES", "p_2_ED"),
    ]

    assert names(training_pairs(cases, plan, "ada")) == there_and_back
    assert names(heldout_pairs(cases, plan, "ada")) == there_and_back
    assert len(training_pairs(cases, plan, "ben")) == 12


def test_a_case_without_another_is_refused_with_the_remedy() -> None:
    cases = [a_case(name) for name in ("p_1_ED", "p_1_ES", "p_2_ED")]

    with pytest.raises(DataError, match=r"'p_2_ED' \(1 such\).*registration.within \(= 2\)"):
        heldout_pairs(cases, a_plan(within={"ada": 2}), "ada")


@pytest.mark.parametrize(
    ("depth", "other", "places"),
    [(3, 3, [0, 1, 2]), (2, 4, [1, 3]), (4, 2, [0, 0, 1, 1]), (1, 5, [2])],
)
def test_slices_meet_at_the_same_share_of_the_depth(depth, other, places) -> None:
    assert [place_at_same_depth(place, depth, other) for place in range(depth)] == places


def test_a_sample_holds_the_fixed_image_and_then_the_moving_one() -> None:
    fixed, moving = a_case("f", at=2), a_case("m", at=8)
    pool = pair_pool([(fixed, moving)], a_plan(), "ada")
    first, then = apart(pool, 2)

    assert pool.images_NCX.shape == (1, 2, 16, 16)
    assert pool.targets_NKX.shape == (1, 6, 16, 16)
    assert torch.equal(first.labels_NX[0], torch.from_numpy(fixed.label_HWD[..., 0]).long())
    assert torch.equal(then.labels_NX[0], torch.from_numpy(moving.label_HWD[..., 0]).long())
    assert float(first.images_NCX[0, 0, 3, 3]) == 1
    assert float(then.images_NCX[0, 0, 3, 3]) == -1


def test_slices_that_show_no_class_are_left_out() -> None:
    lower, upper = a_case("a", depth=4, first=3), a_case("b", depth=4, first=2)

    assert len(pair_pool([(lower, upper)], a_plan(), "ada")) == 2
    empty = a_case("c", depth=4, first=4)
    assert len(pair_pool([(empty, empty)], a_plan(), "ada")) == 4


def test_no_more_samples_are_drawn_than_the_plan_says_and_the_same_each_time() -> None:
    plan = a_plan(samples=5)
    pairs = training_pairs([a_case(name, depth=4) for name in "abc"], plan, "ada")
    first, again = pair_pool(pairs, plan, "ada"), pair_pool(pairs, plan, "ada")

    assert len(first) == 5
    assert torch.equal(first.images_NCX, again.images_NCX)
    assert not torch.equal(first.images_NCX, pair_pool(pairs, plan, "ben").images_NCX)


def test_another_name_of_a_case_is_another_pairing() -> None:
    """Cases with the same content have the same digest; their names decide who is paired."""
    plan = a_plan(within={"ada": 1})
    one, other = (
        SiteData(site_id="ada", train=tuple(map(a_case, ids)), heldout=(), digest="d")
        for ids in (("p_1", "p_2", "q_1", "q_2"), ("p_1", "q_1", "p_2", "q_2"))
    )

    assert pairing(plan, [one]) != pairing(plan, [other])
    assert pairing(plan, [one])["registration"]["within"] == {"ada": 1}


@pytest.mark.parametrize(("dims", "size"), [("2d", (16, 16)), ("3d", (16, 16, 4))])
def test_an_untrained_registrar_scores_the_overlap_before_registration(dims, size) -> None:
    """Squares of 4, one pixel apart along both sides: 9 of 16 pixels lie on each other."""
    plan = a_plan(dims=dims, size=size)
    judge = PairJudge(registrar=build_registrar(plan, 0).eval(), plan=plan, site_id="ada")
    cases = [a_case("a", depth=4, side=20, at=4), a_case("b", depth=4, side=20, at=5)]
    seen = []
    scores = judge.scores(cases, lambda done, every: seen.append((done, every)))

    assert seen == [(1, 2), (2, 2)]
    assert [score.class_name for score in scores.classes] == ["organ", "wall"]
    assert scores.classes[0].dice == pytest.approx(2 * 9 / 32)
    assert scores.classes[1].dice == 1  # in none of the masks
    assert scores.folds == 0


def test_a_site_is_judged_on_the_classes_that_it_labels() -> None:
    plan = a_plan()
    judge = PairJudge(registrar=build_registrar(plan, 0).eval(), plan=plan, site_id="ben")
    scores = judge.scores([a_case("a"), a_case("b")], lambda _done, _every: None)

    assert [score.class_name for score in scores.classes] == ["wall"]


class _Shift(torch.nn.Module):
    """Says that everything moves by two pixels of the working grid along the first axis."""

    def forward(self, images_BCX: torch.Tensor) -> torch.Tensor:
        field = torch.zeros(len(images_BCX), 2, *images_BCX.shape[2:])
        field[:, 0] = 2 / 8
        return field


def test_a_moving_case_is_moved_on_its_own_grid_slice_by_slice() -> None:
    """Two of 16 pixels are four of 32; the moving volume has half the slices."""
    fixed, moving = a_case("f", side=32, at=8, depth=4), a_case("m", side=32, at=12, depth=2)
    judge = PairJudge(registrar=_Shift(), plan=a_plan(), site_id="ada")
    moved = judge.move((fixed, moving))

    assert moved.label_HWD.shape == (32, 32, 4)
    assert moved.image_CHWD.shape == (1, 32, 32, 4)
    expected = np.zeros((32, 32, 4), np.uint8)
    expected[8:12, 12:16] = 1
    np.testing.assert_array_equal(moved.label_HWD, expected)
    assert moved.folded == 0


def test_key_points_tell_how_far_off_they_arrive() -> None:
    """Everything moves by two of 16 pixels; the points moved by two and by five."""
    of_fixed, of_moving = np.array([[4.0, 4, 0], [8, 8, 0]]), np.array([[6.0, 4, 0], [13, 8, 0]])
    fixed = replace(a_case("a"), points_PA=of_fixed)
    moving = replace(a_case("b"), points_PA=of_moving, spacing_mm=(0.5, 1.0, 1.0))
    judge = PairJudge(registrar=_Shift(), plan=a_plan(), site_id="ada")

    assert judge.move((fixed, moving)).error_mm == pytest.approx((0 + 3 * 0.5) / 2, abs=1e-5)
    scores = judge.scores([fixed, moving], lambda _done, _every: None)
    # The way back: the points should go by -2 and -5, and go by 2.
    assert scores.tre_mm == pytest.approx((0.75 + (4 + 7) / 2) / 2, abs=1e-5)


def test_a_held_out_case_without_the_others_points_is_refused() -> None:
    judge = PairJudge(registrar=_Shift(), plan=a_plan(), site_id="ada")
    some = replace(a_case("a"), points_PA=np.zeros((1, 3)))

    with pytest.raises(DataError, match="1 of 2 held-out cases have no key points"):
        judge.scores([some, a_case("b")], lambda _done, _every: None)
