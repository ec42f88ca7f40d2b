"""Surface distances in `report.json`: what the published model says of one cell of the matrix."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from wardround.shared import continual_metrics
from wardround.shared.messages import EvaluationReport

Dice = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """One table of the report: frozen, with no key that it does not name."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassSurface(Part):
    """One class in one cell of the matrix."""

    name: str
    dice: Dice
    hd95_mm: Length | None = Field(description="null where no case has both masks")
    asd_mm: Length | None
    num_undefined: Whole | None = Field(description="cases with an empty mask; null: suppressed")


class SurfaceCell(Part):
    """Surface distances of one cell of the matrix, means over the classes where defined."""

    visit: Whole = Field(description="0 is the starting model")
    site: str
    num_cases: Whole | None = Field(description="null where suppressed")
    hd95_mm: Length | None = Field(
        description="95th percentile Hausdorff distance, millimetres (pixels for PNG images)"
    )
    asd_mm: Length | None = Field(description="average symmetric surface distance, likewise")
    num_undefined: Whole | None = Field(description="over all classes; null: one is suppressed")
    classes: tuple[ClassSurface, ...]
    folds: Dice | None = Field(
        None, description="share of the image that is folded; null where none is deformed"
    )
    tre_mm: Length | None = Field(
        None,
        description="target registration error, millimetres; null where there are no key points",
    )


def clip(dice: float) -> float:
    """Return a Dice in [0, 1]."""
    # A mean of ones may come out as 1 + 2e-16.
    return min(max(dice, 0.0), 1.0)


def surface_of(cell: EvaluationReport) -> SurfaceCell:
    """Return what one evaluation found."""
    return SurfaceCell(
        visit=cell.visit,
        site=cell.site_id,
        num_cases=cell.num_cases,
        hd95_mm=_mean([score.hd95_mm for score in cell.classes]),
        asd_mm=_mean([score.asd_mm for score in cell.classes]),
        num_undefined=continual_metrics.total(score.num_undefined for score in cell.classes),
        classes=tuple(
            ClassSurface(
                name=score.class_name,
                dice=clip(score.dice),
                hd95_mm=score.hd95_mm,
                asd_mm=score.asd_mm,
                num_undefined=score.num_undefined,
            )
            for score in cell.classes
        ),
        folds=cell.folds,
        tre_mm=cell.tre_mm,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
