"""What every table of a plan has in common: frozen, strict, no key that it does not name."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
SiteId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Section(BaseModel):
    """One table of a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
