"""The table `[simulation]` of a plan: where one machine finds the sites' data."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from wardround.shared.plan_section import Count, Section


class Simulation(Section):
    """Where one machine finds the sites' data. Not part of what a site approves."""

    mock: Annotated[int, Field(ge=3)] | None = Field(
        None, description="make mock prostate sites, this many cases each"
    )
    mock_heldout: Count | None = Field(
        None, description="how many cases of a mock site are held out; a quarter where left out"
    )
    data_root: str | None = Field(None, description="folder with one folder per site")
    data: dict[str, str] = Field(
        default_factory=dict, description="site_id -> folder, where not under data_root"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.mock is not None and (self.data_root is not None or self.data):
            raise ValueError(
                "mock makes the data, so data_root and data would not be read: leave out mock, "
                "or leave out both of the others"
            )
        if self.mock_heldout is not None and self.mock_heldout > (self.mock or 0) - 2:
            raise ValueError(
                f"mock_heldout (= {self.mock_heldout}) must leave two of the mock cases "
                f"(mock = {self.mock}) to train on"
            )
        return self
