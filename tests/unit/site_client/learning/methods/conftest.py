"""A segmenter of two parameters, small enough to compute by hand what a method does with it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from wardround.shared import plan as plans
from wardround.site_client.learning.methods.method import Arrival
from wardround.site_client.learning.pool import Batch


class Line(nn.Module):
    """Logits 0 for the background and w x + b for the foreground of a pixel of intensity x."""

    def __init__(self, w: float, b: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(b, dtype=torch.float64))

    def forward(self, images_BCX: Tensor) -> Tensor:
        z = self.w * images_BCX + self.b
        return torch.cat([torch.zeros_like(z), z], dim=1)


@pytest.fixture
def line() -> Callable[[float, float], Line]:
    return Line


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """Return how to make a batch: one sample of a single pixel for each (intensity, label)."""

    def made(*pixels: tuple[float, int], groups: tuple[int, ...] | None = None) -> Batch:
        images = torch.tensor([x for x, _ in pixels], dtype=torch.float64)
        labels = torch.tensor([y for _, y in pixels])
        targets = torch.nn.functional.one_hot(labels, 2).double()
        return Batch(
            images_BCX=images.reshape(-1, 1, 1, 1),
            targets_BKX=targets.reshape(-1, 2, 1, 1),
            group_B=torch.tensor(groups or [0] * len(pixels)),
        )

    return made


@pytest.fixture
def arrival() -> Callable[..., Arrival]:
    """Return how to make an arrival at a later site, with settings of the method."""

    def made(
        segmenter: nn.Module,
        state: dict[str, Tensor] | None = None,
        *,
        is_first: bool = False,
        **method: object,
    ) -> Arrival:
        content = {
            "study_id": "line",
            "sites": ["ada", "ben"],
            "task": {"classes": ["organ"], "working_size": [16, 16]},
            "method": method,
        }
        plan = plans.parse(content, origin="test")
        return Arrival(segmenter=segmenter, state=state or {}, is_first=is_first, plan=plan)

    return made
