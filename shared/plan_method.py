"""The table `[method]` of a plan: which continual-learning method, and the settings of each."""

from typing import Annotated, Literal

from pydantic import Field

from wardround.shared.plan_section import Count, Section, Weight

DRAWS_PAIRS = ("diffusion-replay", "smd")  # methods with a denoiser, and a prompt for each site
KEEPS_REAL_CASES = ("exemplar-replay", "joint")  # methods that run in a simulation alone


class Method(Section):
    """The continual-learning method and its settings; settings of other methods are left alone."""

    name: Literal[
        "finetune",
        "joint",
        "per-site",
        "bigaug",
        "ewc",
        "mas",
        "si",
        "lwf",
        "exemplar-replay",
        "diffusion-replay",
        "smd",
    ] = "smd"
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="length of the look-ahead step"
    )
    orientational: Weight = Field(
        1.0, description="weight of the alignment incoming -> earlier sites"
    )
    arbitrary: Weight = Field(1.0, description="weight of the alignment between random groups")
    order: Literal["first", "second"] = Field(
        "first", description="drop or keep second derivatives"
    )
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        10.0, description="norm to which gradients are clipped"
    )
    exemplars: Count = Field(
        5, description="methods that keep exemplars: real cases kept of each earlier site"
    )
    ewc: Weight = Field(1e4, description="ewc: weight of the penalty")
    ewc_decay: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="ewc: share of the Fisher information of earlier sites that is kept"
    )
    mas: Weight = Field(1.0, description="mas: weight of the penalty")
    si: Weight = Field(1.0, description="si: weight of the penalty")
    lwf: Weight = Field(1.0, description="lwf: weight of the distillation")
