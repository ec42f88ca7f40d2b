import pytest
import torch

from wardround.shared.plan import Segmenter, Task
from wardround.site_client.learning.split_network import (
    SplitSegmenter,
    build_decoder,
    build_encoder,
    frozen,
    num_weights,
)

TASK = Task(classes=("a", "b"), working_size=(16, 32))
CONFIG = Segmenter(features=(4, 8, 12))


@pytest.mark.parametrize(
    "task",
    [
        TASK,
        Task(classes=("a", "b"), working_size=(48, 64), channels=3),
        Task(classes=("a", "b"), working_size=(16, 16, 6), dims="3d"),
        Task(classes=("a", "b"), working_size=(32, 32), patch_size=(16, 24), dims="2.5d"),
    ],
)
@pytest.mark.parametrize("width", [1.0, 0.5, 0.01])
def test_an_answer_has_a_number_for_each_class_asked_for_at_each_pixel(task, width):
    encoder, decoder = build_encoder(task, CONFIG, 0), build_decoder(task, CONFIG, width, 0)
    images = torch.rand(2, task.input_channels, *task.sample_size)
    assert SplitSegmenter(encoder, decoder, [0, 2])(images).shape == (2, 2, *task.sample_size)


def test_a_decoder_asked_for_one_class_says_of_it_what_it_says_asked_for_all():
    encoder, decoder = build_encoder(TASK, CONFIG, 0), build_decoder(TASK, CONFIG, 0.5, 0)
    images = torch.rand(2, 1, 16, 32)
    all_of_them = SplitSegmenter(encoder, decoder, [0, 1, 2])(images)
    assert torch.equal(SplitSegmenter(encoder, decoder, [0, 2])(images), all_of_them[:, [0, 2]])


def test_half_the_width_has_somewhat_more_than_a_quarter_of_the_weights():
    whole, half, third = (
        num_weights(build_decoder(TASK, Segmenter(), width, 0)) for width in (1.0, 0.5, 0.35)
    )
    assert 0.25 < half / whole < 0.35
    assert third / whole < 0.25


def test_on_a_frozen_encoder_the_decoder_alone_is_trained():
    encoder, decoder = build_encoder(TASK, CONFIG, 0), build_decoder(TASK, CONFIG, 1.0, 0)
    together = SplitSegmenter(encoder, decoder, [0, 1])
    assert len(list(together.parameters())) > len(list(decoder.parameters()))
    alone = SplitSegmenter(frozen(encoder), decoder, [0, 1])
    assert [id(p) for p in alone.parameters()] == [id(p) for p in decoder.parameters()]
    alone(torch.rand(1, 1, 16, 32)).sum().backward()
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_weights_follow_from_the_seed():
    first, same, other = (build_decoder(TASK, CONFIG, 0.5, seed) for seed in (1, 1, 2))
    weights = (first.named_parameters(), same.parameters(), other.parameters())
    for (name, one), two, three in zip(*weights, strict=True):
        assert torch.equal(one, two)
        assert not name.endswith("conv.weight") or not torch.equal(one, three)
