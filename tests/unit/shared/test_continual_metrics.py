"""Figures computed by hand from small matrices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.shared import continual_metrics

# Three sites. By hand:
#   average          (0.6 + 0.8 + 0.9) / 3
#   BWT              ((0.6 - 0.8) + (0.8 - 0.7)) / 2 = -0.05
#   FWT              ((0.3 - 0.1) + (0.5 - 0.2)) / 2 = 0.25
#   forgetting       ((max(0.8, 0.9) - 0.6) + (0.7 - 0.8)) / 2 = (0.3 - 0.1) / 2 = 0.1
#   unseen           (0.3 + 0.4 + 0.5) / 3 = 0.4
#   memorizability   (0.6 + 0.8) / 2 = 0.7
#   generalizability ((0.3 + 0.4) / 2 + 0.5) / 2 = 0.425
THREE = [
    [0.0, 0.1, 0.2],
    [0.8, 0.3, 0.4],
    [0.9, 0.7, 0.5],
    [0.6, 0.8, 0.9],
]


def test_the_figures_of_three_sites_are_those_computed_by_hand() -> None:
    summary = continual_metrics.summarise(THREE)
    assert summary.average == pytest.approx(2.3 / 3)
    assert summary.bwt == pytest.approx(-0.05)
    assert summary.fwt == pytest.approx(0.25)
    assert summary.forgetting == pytest.approx(0.1)
    assert summary.unseen == pytest.approx(0.4)
    assert summary.memorizability == pytest.approx(0.7)
    assert summary.generalizability == pytest.approx(0.425)


def test_the_curves_of_three_sites_are_those_computed_by_hand() -> None:
    curves = continual_metrics.curves(THREE)
    assert curves.average == pytest.approx((0.1, 0.5, 0.7, 2.3 / 3))
    assert curves.seen[0] is None
    assert curves.seen[1:] == pytest.approx((0.8, 0.8, 2.3 / 3))
    assert curves.memorizability[:2] == (None, None)
    assert curves.memorizability[2:] == pytest.approx((0.9, 0.7))
    assert curves.generalizability[:3] == pytest.approx((0.1, 0.35, 0.5))
    assert curves.generalizability[3] is None


def test_a_single_site_has_an_average_and_nothing_else() -> None:
    summary = continual_metrics.summarise([[0.1], [0.75]])
    assert summary == continual_metrics.Summary(
        average=0.75,
        bwt=None,
        fwt=None,
        forgetting=None,
        unseen=None,
        memorizability=None,
        generalizability=None,
    )


def test_two_sites_forget_exactly_what_backward_transfer_says() -> None:
    summary = continual_metrics.summarise([[0.0, 0.0], [0.9, 0.5], [0.6, 0.8]])
    assert summary.bwt == pytest.approx(-0.3)
    assert summary.forgetting == pytest.approx(0.3)
    assert summary.fwt == pytest.approx(0.5)
    assert summary.unseen == summary.generalizability == pytest.approx(0.5)


def test_a_site_that_ends_better_than_it_ever_was_counts_as_negative_forgetting() -> None:
    summary = continual_metrics.summarise([[0.0, 0.0], [0.5, 0.1], [0.7, 0.8]])
    assert summary.forgetting == pytest.approx(-0.2)


def test_what_a_site_scored_before_its_own_visit_is_not_forgotten() -> None:
    # Site 2 scored 0.9 before its visit and 0.6 from then on: nothing taught was lost.
    rows = [[0.0, 0.0, 0.0], [0.8, 0.9, 0.1], [0.8, 0.6, 0.1], [0.8, 0.6, 0.7]]
    assert continual_metrics.summarise(rows).forgetting == pytest.approx(0.0)


def test_a_study_stopped_after_two_of_three_visits_still_has_figures() -> None:
    summary = continual_metrics.summarise(THREE[:3])
    assert summary.average == pytest.approx(0.7)
    assert summary.bwt == pytest.approx(0.1)
    assert summary.fwt == pytest.approx(0.2)
    assert summary.memorizability == pytest.approx(0.9)
    assert summary.unseen == pytest.approx(0.4)
    assert summary.generalizability == pytest.approx(0.425)


def test_the_starting_model_alone_has_only_an_average() -> None:
    summary = continual_metrics.summarise([[0.2, 0.4]])
    assert summary.average == pytest.approx(0.3)
    assert summary.bwt is summary.fwt is summary.unseen is summary.memorizability is None


def test_unseen_weighs_cells_and_generalizability_weighs_visits() -> None:
    rows = [[0.0] * 3, [1.0, 0.0, 0.0], [1.0, 1.0, 0.6], [1.0, 1.0, 1.0]]
    summary = continual_metrics.summarise(rows)
    assert summary.unseen == pytest.approx(0.2)
    assert summary.generalizability == pytest.approx(0.3)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[]],
        [[0.1, 0.2], [0.3]],
        [[0.1], [0.2], [0.3]],
        [[0.1], [1.2]],
        [[0.1], [-0.1]],
        [[0.1], [float("nan")]],
    ],
)
def test_what_is_no_results_matrix_is_refused(rows: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="results matrix"):
        continual_metrics.summarise(rows)


dice = st.floats(0, 1, allow_nan=False)


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(st.lists(dice, min_size=n, max_size=n), min_size=n + 1, max_size=n + 1)
    )
)
def test_forgetting_is_never_less_than_the_backward_transfer_lost(rows: list[list[float]]) -> None:
    summary = continual_metrics.summarise(rows)
    assert summary.forgetting is not None
    assert summary.bwt is not None
    assert summary.forgetting >= -summary.bwt - 1e-12


def test_a_cell_that_nobody_scored_is_left_out_of_every_figure() -> None:
    """THREE without R[3, 1] and R[2, 3]; by hand.

    average (0.8 + 0.9) / 2; BWT 0.8 - 0.7; FWT 0.3 - 0.1; forgetting 0.7 - 0.8; unseen
    (0.3 + 0.4) / 2; memorizability 0.8; generalizability (0.3 + 0.4) / 2
    """
    rows = [THREE[0], THREE[1], [0.9, 0.7, None], [None, 0.8, 0.9]]
    summary = continual_metrics.summarise(rows)
    assert summary.average == pytest.approx(0.85)
    assert summary.bwt == pytest.approx(0.1)
    assert summary.fwt == pytest.approx(0.2)
    assert summary.forgetting == pytest.approx(-0.1)
    assert summary.unseen == pytest.approx(0.35)
    assert summary.memorizability == pytest.approx(0.8)
    assert summary.generalizability == pytest.approx(0.35)
    assert continual_metrics.curves([[None, None]]).average == (None,)


def test_a_site_that_is_never_visited_counts_as_unseen_to_the_end() -> None:
    """Two of three sites are visited: unseen (0.3 + 0.4 + 0.5) / 3, BWT 0.9 - 0.8."""
    summary = continual_metrics.summarise(THREE[:3])
    assert summary.unseen == pytest.approx(0.4)
    assert summary.bwt == pytest.approx(0.1)
