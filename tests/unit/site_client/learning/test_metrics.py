import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wardround.shared.errors import DataError
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.metrics import CaseClassScore, score_case, summarise


def case(label: np.ndarray, spacing=(1.0, 1.0, 1.0), fov: np.ndarray | None = None) -> Case:
    return Case(
        case_id="a",
        image_CHWD=np.zeros((1, *label.shape), np.float32),
        label_HWD=label.astype(np.uint8),
        fov_HWD=fov,
        spacing_mm=spacing,
    )


def surface_points(mask: np.ndarray, spacing) -> np.ndarray:
    """List the surface voxels' centres in mm, one voxel at a time."""
    axes = 2 if mask.shape[2] == 1 else 3
    points = []
    for place in np.argwhere(mask):
        for axis, step in itertools.product(range(axes), (-1, 1)):
            beside = place.copy()
            beside[axis] += step
            outside = beside[axis] < 0 or beside[axis] >= mask.shape[axis]
            if outside or not mask[tuple(beside)]:
                points.append(place * np.array(spacing))
                break
    return np.array(points)


def oracle(one: np.ndarray, other: np.ndarray, spacing) -> tuple[float, float]:
    a, b = surface_points(one, spacing), surface_points(other, spacing)
    pairs = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    there, back = pairs.min(1), pairs.min(0)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(hd95), float((there.sum() + back.sum()) / (len(a) + len(b)))


shapes = st.tuples(st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 1, 2, 4]))
masks = shapes.flatmap(lambda s: st.tuples(arrays(np.bool_, s), arrays(np.bool_, s)))
sides = st.sampled_from([0.4, 1.0, 1.3, 5.0])


@settings(max_examples=150, deadline=None)
@given(pair=masks, spacing=st.tuples(sides, sides, sides))
def test_distances_equal_those_between_all_pairs_of_surface_points(pair, spacing):
    one, other = pair
    (score,) = score_case(one.astype(np.uint8), case(other, spacing), 1)
    if not one.any() or not other.any():
        assert (score.hd95_mm, score.asd_mm) == (None, None)
        return
    hd95, asd = oracle(one, other, spacing)
    assert score.hd95_mm == pytest.approx(hd95)
    assert score.asd_mm == pytest.approx(asd)
    assert score.dice == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()))


@settings(max_examples=40, deadline=None)
@given(pair=masks, spacing=st.tuples(sides, sides, sides))
def test_scores_are_symmetric(pair, spacing):
    one, other = (mask.astype(np.uint8) for mask in pair)
    (there,), (back,) = (
        score_case(one, case(other, spacing), 1),
        score_case(other, case(one, spacing), 1),
    )
    assert there.dice == back.dice
    assert there.hd95_mm == pytest.approx(back.hd95_mm)
    assert there.asd_mm == pytest.approx(back.asd_mm)


def test_a_perfect_prediction_has_dice_1_and_no_distance():
    label = np.zeros((6, 6, 3))
    label[1:4, 2:5, 1:] = 1
    assert score_case(label, case(label), 1) == (CaseClassScore(dice=1.0, hd95_mm=0.0, asd_mm=0.0),)


def test_two_single_voxels_are_as_far_apart_as_their_spacing_says():
    one, other = np.zeros((4, 5, 6)), np.zeros((4, 5, 6))
    one[0, 0, 0] = other[3, 4, 0] = 1
    (score,) = score_case(one, case(other, (2.0, 2.0, 7.0)), 1)
    assert score == CaseClassScore(dice=0.0, hd95_mm=10.0, asd_mm=10.0)
    one[:], one[3, 4, 5] = 0, 1
    (score,) = score_case(one, case(other, (2.0, 2.0, 7.0)), 1)
    assert score.hd95_mm == pytest.approx(35.0)


def test_a_single_slice_is_taken_as_2d():
    one, other = np.zeros((9, 9, 1)), np.zeros((9, 9, 1))
    one[1:8, 1:8] = 1
    other[2:7, 2:7] = 1
    (score,) = score_case(one, case(other), 1)
    # In 3-D every voxel of the one slice would be surface, and the inner ones would be at 0 mm.
    # Outer ring: 24 voxels, of which 20 at 1 mm and 4 corners at sqrt 2; inner ring: 16 at 1 mm.
    assert score.asd_mm == pytest.approx((20 + 4 * 2**0.5 + 16) / 40)
    assert score.hd95_mm == pytest.approx(2**0.5)


@pytest.mark.parametrize(("predicted", "label", "dice"), [(0, 0, 1.0), (1, 0, 0.0), (0, 1, 0.0)])
def test_an_empty_mask_has_a_dice_but_no_distance(predicted, label, dice):
    (score,) = score_case(np.full((3, 3, 1), predicted), case(np.full((3, 3, 1), label)), 1)
    assert score == CaseClassScore(dice=dice, hd95_mm=None, asd_mm=None)


def test_each_class_is_scored_on_its_own():
    label = np.array([[1, 1, 2, 2]]).reshape(4, 1, 1)
    predicted = np.array([[1, 1, 1, 2]]).reshape(4, 1, 1)
    one, two, three = score_case(predicted, case(label), 3)
    assert one.dice == pytest.approx(4 / 5)
    assert two.dice == pytest.approx(2 / 3)
    assert three == CaseClassScore(dice=1.0, hd95_mm=None, asd_mm=None)


def test_only_what_lies_in_the_field_of_view_counts():
    label, predicted = np.zeros((6, 6, 1)), np.zeros((6, 6, 1))
    label[1:3, 1:3] = predicted[1:3, 1:3] = 1
    predicted[5, :] = 1
    fov = np.ones((6, 6, 1), dtype=bool)
    fov[5] = False
    assert score_case(predicted, case(label, fov=fov), 1)[0].hd95_mm == 0.0
    assert score_case(predicted, case(label), 1)[0].dice < 1


def test_a_prediction_on_another_grid_is_refused():
    with pytest.raises(DataError, match=r"preprocess\.to_native"):
        score_case(np.zeros((2, 2, 1)), case(np.zeros((3, 3, 1))), 1)


def test_means_leave_out_and_count_undefined_distances():
    scores = [
        (CaseClassScore(dice=1.0, hd95_mm=2.0, asd_mm=1.0),),
        (CaseClassScore(dice=0.5, hd95_mm=4.0, asd_mm=2.0),),
        (CaseClassScore(dice=0.0, hd95_mm=None, asd_mm=None),),
    ]
    (mean,) = summarise(scores, ["organ"])
    assert (mean.class_name, mean.dice, mean.hd95_mm, mean.asd_mm, mean.num_undefined) == (
        "organ",
        0.5,
        3.0,
        1.5,
        1,
    )


def test_a_distance_defined_nowhere_is_none():
    (mean,) = summarise([(CaseClassScore(dice=0.0, hd95_mm=None, asd_mm=None),)], ["organ"])
    assert (mean.hd95_mm, mean.asd_mm, mean.num_undefined) == (None, None, 1)


@pytest.mark.parametrize("scores", [[], [()]])
def test_nothing_to_summarise_is_refused(scores):
    with pytest.raises(DataError):
        summarise(scores, ["organ"])
