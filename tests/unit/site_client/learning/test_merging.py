"""What is heard, pixel by pixel; an image is a row of pixels here."""

import pytest
import torch

from wardround.site_client.learning.merging import Answer, confidence, merged


def answer(classes, *pixels, trust=1.0):
    """One image; for each pixel the probabilities of background and the classes."""
    probabilities = torch.tensor([pixels]).movedim(-1, 1)
    return Answer(classes=classes, probabilities_BKX=probabilities, trust_B=torch.tensor([trust]))


def heard(*answers, num_classes=3):
    """For each pixel the probabilities of background and the plan's classes."""
    return merged(answers, num_classes).movedim(1, -1)[0].tolist()


def test_confidence_is_one_minus_the_entropy_over_that_of_a_guess():
    pixels = [[0.5, 0.5], [0.0, 1.0], [0.25, 0.75]]
    # Of (1/4, 3/4) the entropy is 0.811278 bits of 1.
    said = confidence(torch.tensor([pixels]).movedim(-1, 1))[0].tolist()
    assert said == pytest.approx([0.0, 1.0, 0.188722], abs=1e-5)
    third = confidence(torch.tensor([[[0.5]], [[0.5]], [[0.0]], [[0.0]]]).movedim(1, 0))
    assert third.item() == pytest.approx(0.5)  # 1 bit of 2


def test_a_single_decoder_is_heard_as_it_is_in_the_numbers_of_the_plan():
    assert heard(answer((1, 3), [0.5, 0.25, 0.25], [0.0, 0.25, 0.75])) == [
        [0.5, 0.25, 0.0, 0.25],
        [0.0, 0.25, 0.0, 0.75],
    ]


def test_a_claim_is_heard_before_a_surer_background_of_who_knows_other_classes():
    ventricle = answer((1,), [0.25, 0.75], [0.875, 0.125])
    muscle = answer((2,), [1.0, 0.0], [1.0, 0.0])
    assert heard(ventricle, muscle) == [[0.25, 0.75, 0.0, 0.0], [0.875, 0.125, 0.0, 0.0]]
    assert heard(muscle, ventricle)[0] == [0.25, 0.75, 0.0, 0.0]


def test_of_two_claims_the_surer_is_heard():
    ventricle = answer((1,), [0.25, 0.75], [0.0625, 0.9375])
    muscle = answer((2,), [0.125, 0.875], [0.125, 0.875])
    assert heard(ventricle, muscle) == [[0.125, 0.0, 0.875, 0.0], [0.0625, 0.9375, 0.0, 0.0]]


def test_a_claim_about_a_strange_image_counts_less():
    # Confidence of (1/8, 7/8) is 0.456, of (1/16, 15/16) 0.663; half of the latter is less.
    ventricle = answer((1,), [0.0625, 0.9375], trust=0.5)
    muscle = answer((2,), [0.125, 0.875])
    assert heard(ventricle, muscle) == [[0.125, 0.0, 0.875, 0.0]]


def test_of_those_who_know_the_same_classes_the_surer_is_heard_about_background_too():
    ada = answer((1,), [0.25, 0.75], [0.25, 0.75])
    ben = answer((1,), [0.875, 0.125], [0.625, 0.375])
    assert heard(ada, ben, num_classes=1) == [[0.875, 0.125], [0.25, 0.75]]


def test_equals_are_heard_in_the_order_in_which_they_come():
    ventricle, muscle = answer((1,), [0.25, 0.75]), answer((2,), [0.25, 0.75])
    assert heard(ventricle, muscle) == [[0.25, 0.75, 0.0, 0.0]]
    assert heard(muscle, ventricle) == [[0.25, 0.0, 0.75, 0.0]]


def test_each_image_of_a_batch_has_its_own_trust():
    said = torch.tensor([[[0.125], [0.875]]] * 2)
    ventricle = Answer(classes=(1,), probabilities_BKX=said, trust_B=torch.tensor([1.0, 0.25]))
    muscle = Answer(classes=(2,), probabilities_BKX=said, trust_B=torch.tensor([0.5, 0.5]))
    assert merged([ventricle, muscle], 2).argmax(dim=1).tolist() == [[1], [2]]
