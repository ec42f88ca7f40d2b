"""Estimates and their bounds, against values computed by hand."""

import pytest

from wardround.site_client.privacy.estimates import separation, share


def test_no_copy_among_ten_leaves_an_upper_bound_of_one_minus_the_tenth_root():
    # (1 - p)^10 = 0.05 at the bound.
    found = share(0, 10)
    assert (found.value, found.at_least) == (0.0, 0.0)
    assert found.at_most == pytest.approx(1 - 0.05**0.1)


def test_all_copies_leave_the_lower_bound_that_mirrors_it():
    found = share(10, 10)
    assert (found.value, found.at_most) == (1.0, 1.0)
    assert found.at_least == pytest.approx(0.05**0.1)


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    # 1 < 2 and 1 < 4; 3 > 2 and 3 < 4: three pairs of four.
    assert separation([1.0, 3.0], [2.0, 4.0]).value == 0.75


def test_ties_count_half():
    found = separation([1.0, 1.0, 1.0], [1.0, 1.0])
    assert found.value == 0.5
    assert found.at_least < 0.5 < found.at_most


def test_members_wholly_apart_still_have_a_lower_bound_below_one():
    found = separation([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert (found.value, found.at_most) == (1.0, 1.0)
    assert 0.5 < found.at_least < 1


def test_more_cases_bring_the_bounds_together():
    few = separation([1.0, 3.0] * 3, [2.0, 4.0] * 3)
    many = separation([1.0, 3.0] * 30, [2.0, 4.0] * 30)
    assert few.value == many.value == 0.75
    assert few.at_least < many.at_least < 0.75 < many.at_most < few.at_most
