"""The table `[release]` of a plan: bounds on what may leave a site."""

from typing import Annotated

from pydantic import Field

from wardround.shared.plan_section import Count, Section


class Release(Section):
    """Bounds on what may leave a site in one visit."""

    byte_budget: Count = Field(256 * 2**20, description="bytes of checkpoint a visit may release")
    min_count: Annotated[int, Field(ge=1)] = Field(
        3, description="case counts below this are suppressed"
    )
    prompt_images: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="most bytes of a prompt, in 8-bit images; left out: one, or 1024 bytes"
    )
