"""The table `[privacy]` of a plan: differential privacy of the prompts."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wardround.shared import accountant
from wardround.shared.plan_section import Count, Rate, Section

Epsilon = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class Privacy(Section):
    """Whether and how a site's prompt is trained with differential privacy (DP-SGD)."""

    dp: bool = Field(
        False,
        description="train the prompt of every visit but the first with differential privacy; "
        "needs denoiser.mode = 'frozen'",
    )
    epsilon: Epsilon = Field(4.0, description="of one visit's prompt; the noise follows from it")
    delta: Annotated[float, Field(gt=0, lt=0.1)] = Field(
        1e-5, description="should be well below one over the number of a site's cases"
    )
    epsilon_budget: Epsilon = Field(
        8.0, description="most that the prompts of one site may add up to; more is refused"
    )
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1.0, description="norm to which what one case gives to a step is clipped"
    )
    sampling_rate: Rate = Field(
        0.25, description="how likely each case is to be taken in a step, each by itself"
    )
    segmenter: Literal["cases", "drawn"] = Field(
        "cases",
        description="what the segmenter of a visit whose prompt has the guarantee trains on: the "
        "site's cases, or pairs drawn under that prompt, so that the guarantee covers it too",
    )
    samples_per_case: Count = Field(
        4, description="samples (slices, crops) that a case which is taken gives to a step"
    )

    @model_validator(mode="after")
    def _budget_fits(self) -> Self:
        if self.epsilon_budget < self.epsilon:
            raise ValueError(
                f"privacy.epsilon_budget (= {self.epsilon_budget:g}) is below privacy.epsilon "
                f"(= {self.epsilon:g}), so that no visit could be made"
            )
        if self.segmenter == "drawn" and not self.dp:
            raise ValueError(
                "privacy.segmenter (= 'drawn') extends the guarantee of a prompt to the segmenter, "
                "and no prompt has one: set privacy.dp = true, or leave privacy.segmenter out"
            )
        return self

    def spending(self, steps: int) -> accountant.Spending:
        """Return what one visit's prompt spends, trained in `steps` steps.

        Raises:
            ValueError: No noise that could be used gives this epsilon.
        """
        noise = accountant.noise_for(self.epsilon, self.delta, self.sampling_rate, steps)
        return accountant.Spending(
            noise_multiplier=noise, sampling_rate=self.sampling_rate, steps=steps
        )
