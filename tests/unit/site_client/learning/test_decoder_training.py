import numpy as np
import pytest
import torch

from wardround.shared import plan as plans
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.decoder_training import (
    lesson_of,
    train_averaged,
    validation_dice,
)
from wardround.site_client.learning.genesis import untrained_decoder, untrained_encoder
from wardround.site_client.learning.split_network import SplitSegmenter, frozen


def plan_of(**method):
    return plans.parse(
        {
            "study_id": "tiny",
            "sites": ["ada", "ben"],
            "task": {
                "classes": ["ventricle", "muscle"],
                "labels": {"ada": {"muscle": 5}},
                "working_size": [16, 16],
            },
            "augmentation": {"flip": False},
            "segmenter": {"features": [4, 8], "steps": 3, "batch_size": 2},
            "method": {"name": "incremental-decoders", **method},
        },
        origin="test",
    )


def case(number):
    """One slice; the upper half is bright and class 2; a bright pixel below tells the number."""
    image = np.zeros((1, 16, 16, 1), np.float32)
    image[:, :8] = 1
    image[:, 15, number] = 1
    label = np.zeros((16, 16, 1), np.uint8)
    label[:8] = 2
    return Case(
        case_id=f"c{number}",
        image_CHWD=image,
        label_HWD=label,
        fov_HWD=None,
        spacing_mm=(1.0, 1.0, 1.0),
    )


def numbers_in(pool):
    return pool.images_NCX[:, 0, 15].argmax(dim=1).tolist()


def test_a_site_is_asked_for_its_own_classes_and_validation_cases_are_spread_over_its_cases():
    plan = plan_of(decoder_validation=0.4)
    lesson = lesson_of([case(number) for number in range(5)], plan, "ada")
    assert lesson.asked == (0, 2)
    assert (len(lesson.without_validation), len(lesson.validation)) == (3, 2)
    assert lesson.everything.targets_NKX.shape == (5, 2, 16, 16)
    assert lesson.everything.targets_NKX[:, 1, :8].eq(1).all()
    # The middles of two halves of five.
    assert [numbers_in(one) for one in lesson.validation] == [[1], [3]]
    assert numbers_in(lesson.without_validation) == [0, 2, 4]
    assert lesson_of([case(0), case(1)], plan, "ben").asked == (0, 1, 2)


@pytest.mark.parametrize(("cases", "parts"), [(1, (1, 1)), (2, (1, 1)), (3, (2, 1))])
def test_at_least_one_case_lies_on_either_side(cases, parts):
    lesson = lesson_of([case(number) for number in range(cases)], plan_of(), "ada")
    assert (len(lesson.without_validation), len(lesson.validation)) == parts


class Upper(torch.nn.Module):
    """Finds class 1 of those asked for in the first rows."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def forward(self, images_BCX):
        said = torch.zeros(len(images_BCX), 2, *images_BCX.shape[2:])
        said[:, 1] = -1.0
        said[:, 1, : self.rows] = 1.0
        return said


@pytest.mark.parametrize(("rows", "dice"), [(8, 1.0), (4, 2 / 3), (0, 0.0), (16, 2 / 3)])
def test_validation_dice_is_that_of_the_classes_asked_for(rows, dice):
    plan = plan_of()
    lesson = lesson_of([case(0), case(1)], plan, "ada")
    assert validation_dice(Upper(rows), lesson, plan.task) == pytest.approx(dice)


def same(one, other):
    weights = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in weights)


def trained(plan, *, is_taught=False):
    encoder = untrained_encoder(plan)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encode = frozen(encoder)
    network = SplitSegmenter(encode, untrained_decoder(plan, 0.5), (0, 2))
    teacher = SplitSegmenter(encode, untrained_decoder(plan, 1.0), (0, 2))
    lesson = lesson_of([case(number) for number in range(4)], plan, "ada")
    averaged, loss = train_averaged(
        network,
        lesson.everything,
        teacher=teacher if is_taught else None,
        plan=plan,
        generator=torch.Generator().manual_seed(1),
        watch=lambda _step, _steps: None,
    )
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name])
    return network, averaged, loss


def test_training_a_decoder_leaves_the_encoder_and_gives_the_average_of_the_way():
    last, averaged, loss = trained(plan_of())
    assert loss > 0
    assert not same(last, averaged)
    last, averaged, _ = trained(plan_of(decoder_ema=0.0))
    assert same(last, averaged)


def test_a_teacher_is_listened_to_as_much_as_the_plan_says():
    _, alone, loss = trained(plan_of())
    _, deaf, alike = trained(plan_of(decoder_distillation=0.0), is_taught=True)
    assert loss == alike
    assert same(alone, deaf)
    _, taught, larger = trained(plan_of(decoder_distillation=1.0), is_taught=True)
    assert larger > loss
    assert not same(alone, taught)
