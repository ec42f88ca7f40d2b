"""The outer step on weights that can be reckoned in the head, and where it is taken."""

import pytest
import torch

from wardround.shared import plan as plans
from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.outer_step import outer_step_of, stepped

ARRIVED = {"weight": torch.tensor([0.0, 4.0]), "bias": torch.tensor([1.0])}
TRAINED = {"weight": torch.tensor([2.0, 0.0]), "bias": torch.tensor([1.0])}


@pytest.mark.parametrize(
    ("size", "weight"), [(0.25, [0.5, 3.0]), (0.5, [1.0, 2.0]), (1.0, [2.0, 0.0])]
)
def test_the_weights_go_a_share_of_the_way(size: float, weight: list[float]) -> None:
    made = stepped(ARRIVED, TRAINED, size)
    assert {name: tensor.tolist() for name, tensor in made.items()} == {
        "weight": weight,
        "bias": [1.0],
    }


def test_a_whole_step_keeps_every_bit() -> None:
    arrived, trained = {"w": torch.tensor([1e30])}, {"w": torch.tensor([0.1])}
    assert torch.equal(stepped(arrived, trained, 1.0)["w"], trained["w"])
    assert not torch.equal(arrived["w"] + (trained["w"] - arrived["w"]), trained["w"])


@pytest.mark.parametrize(
    ("method", "visited", "size"),
    [("smd", ["ada"], 0.25), ("smd", [], 1.0), ("diffusion-replay", ["ada"], 1.0)],
)
def test_later_visits_of_smd_take_it(
    tiny_plan: StudyPlan, method: str, visited: list[str], size: float
) -> None:
    content = tiny_plan.model_dump(mode="json", exclude_none=True)
    content["method"] |= {"name": method, "outer_step": 0.25}
    assert outer_step_of(plans.parse(content, origin="test"), visited) == size
