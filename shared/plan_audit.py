"""The table `[audit]` of a plan: what is looked at before a denoiser and a prompt leave a site."""

from typing import Annotated, Literal

from pydantic import Field

from wardround.shared.plan_section import Section

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Area = Annotated[float, Field(ge=0.5, le=1, allow_inf_nan=False)]


class Audit(Section):
    """Whether what the denoiser draws under a site's own prompt is copied from its cases."""

    samples: Annotated[int, Field(ge=0, le=100_000)] = Field(
        64, description="pairs drawn under the own prompt and compared; 0: no audit"
    )
    max_copy_rate: Share = Field(
        0.1, description="share of copies that, once it is certain to be exceeded, stops a release"
    )
    max_membership_auc: Area = Field(
        1.0,
        description="how well training cases may be told from held-out ones by the denoiser's "
        "loss, likewise; 0.5: not at all; 1: however well, it is only reported",
    )
    retries: Annotated[int, Field(ge=0, le=8)] = Field(
        1,
        description="how often the denoiser is then trained anew, half the steps and more jitter",
    )
    few_cases: Literal["release", "refuse"] = Field(
        "release", description="what is done at a site with too few cases to tell"
    )
