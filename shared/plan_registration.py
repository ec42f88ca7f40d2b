"""The table `[registration]` of a plan: which images are brought onto each other, and the loss."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from wardround.shared.plan_method import DRAWS_PAIRS, SAYS_CLASSES
from wardround.shared.plan_section import Count, Section, SiteId, Weight

if TYPE_CHECKING:
    from wardround.shared.plan import StudyPlan


class Registration(Section):
    """Pairs and loss where `task.kind` is "registration"; else it is left alone."""

    within: dict[SiteId, Count] = Field(
        default_factory=dict,
        description="site = n, where only images of one person are registered with each other: "
        "those whose names, cut at each _, have the same first n parts; else any two",
    )
    partners: Count = Field(
        4, description="how many others each training image is registered with, at most"
    )
    samples: Count = Field(
        256, description="most samples (pairs of slices; of volumes in 3-D) of a site"
    )
    ncc: Weight = Field(1.0, description="weight of the local correlation of the images")
    window: Annotated[int, Field(ge=3)] = Field(
        9, description="side of the window of the local correlation, in pixels; odd"
    )
    dice: Weight = Field(1.0, description="weight of the overlap of the labels")
    bending: Weight = Field(1.0, description="weight of the bending energy of the velocity")

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("must be odd")
        return window


def expect_registrable(plan: "StudyPlan") -> None:
    """Check that a plan asks of registration only what fits it.

    Raises:
        ValueError: Naming the key, its value and what to set instead.
    """
    method, task = plan.method.name, plan.task
    if method in SAYS_CLASSES:
        raise ValueError(
            f"method.name (= '{method}') holds on to what a network says of each class; a network "
            f"that registers says none: for task.kind = 'registration' choose another method, such "
            f"as 'samcl' or 'samcl-generated'"
        )
    if method in DRAWS_PAIRS and plan.replay.labels != "joint":
        raise ValueError(
            f"replay.labels (= '{plan.replay.labels}') has a segmenter label what is drawn, and "
            f"task.kind = 'registration' has none: set replay.labels = 'joint'"
        )
    if plan.replay.keep_share != 1:
        raise ValueError(
            f"replay.keep_share (= {plan.replay.keep_share:g}) keeps what a segmenter agrees with, "
            f"and task.kind = 'registration' has none: leave it out"
        )
    if plan.privacy.dp:
        raise ValueError(
            "privacy.dp bounds what one case adds, and for task.kind = 'registration' a case is in "
            "several pairs: leave it out"
        )
    if min(task.working_size) < 4:
        raise ValueError(
            f"task.working_size (= {list(task.working_size)}) leaves no room for a deformation to "
            f"bend: for task.kind = 'registration' each side must be at least 4"
        )
    if task.dims == "2.5d" or task.patch_size is not None:
        raise ValueError(
            "task.kind = 'registration' needs whole slices or volumes: set task.dims to '2d' or "
            "'3d' and leave out task.patch_size"
        )
