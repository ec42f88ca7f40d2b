import pytest
import torch

from wardround.site_client.learning.averaging import RunningAverage


def test_an_average_goes_most_of_the_way_at_first_and_a_tenth_of_it_once_it_is_warm():
    kept, current = torch.zeros(1), torch.tensor([11.0])
    average = RunningAverage([kept], [current], decay=0.9)
    average.update()  # moves by 10 / 11, since 1 / 11 is less than 0.9
    assert kept.item() == pytest.approx(10)
    for _ in range(88):
        average.update()
    current.fill_(kept.item() + 1)
    before = kept.item()
    average.update()  # the ninetieth: 90 / 100
    assert kept.item() - before == pytest.approx(0.1, rel=1e-4)


def test_without_decay_it_is_what_it_follows():
    kept, current = torch.zeros(2), torch.tensor([3.0, 4.0])
    RunningAverage([kept], [current], decay=0.0).update()
    assert kept.tolist() == [3.0, 4.0]
