"""In which numbers the network that draws pairs computes."""

import pytest
import torch

from wardround.shared import plan as plans
from wardround.site_client.learning import generator_training
from wardround.site_client.learning.generator_training import precision


@pytest.mark.parametrize(
    ("wanted", "has_it", "used"),
    [
        ("bfloat16", True, torch.bfloat16),
        ("bfloat16", False, torch.float32),
        ("float32", True, torch.float32),
    ],
)
def test_bfloat16_is_used_where_it_is_wanted_and_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, wanted: str, has_it: bool, used: torch.dtype
) -> None:
    monkeypatch.setattr(generator_training, "has_bfloat16", lambda: has_it)
    plan = plans.parse(
        {
            "study_id": "tiny",
            "sites": ["a"],
            "task": {"classes": ["one"]},
            "compute": {"precision": wanted},
        },
        origin="test",
    )
    with precision(plan):
        result = torch.ones(2, 2) @ torch.ones(2, 2)
    assert result.dtype == used
