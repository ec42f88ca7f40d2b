"""The site's own policy, `site.toml`: what its staff demand beyond the study plan.

It lies at the site and never leaves. Each key can only tighten what the plan says, never loosen it:
where both speak, the stricter holds. It is validated as strictly as a plan: an unknown key is an
error.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from wardround.shared import plan_faults
from wardround.shared.errors import NotPermitted, PlanError
from wardround.shared.plan import StudyPlan
from wardround.shared.plan_audit import Area, Share

POLICY_FILE = "site.toml"
Address = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253}):[0-9]{1,5}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")]


class SitePolicy(BaseModel):
    """What a site demands; everything left out is as the plan says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    min_cases: Annotated[int, Field(ge=1)] = Field(
        1, description="fewest cases with which this site takes part in a study"
    )
    min_count: Annotated[int, Field(ge=1)] = Field(
        1, description="k: case counts below this never leave"
    )
    byte_budget: Annotated[int, Field(ge=1)] | None = Field(
        None, description="most bytes of checkpoint that may leave in one visit"
    )
    max_copy_rate: Share | None = Field(
        None, description="as `audit.max_copy_rate` of a plan; the smaller one holds"
    )
    max_membership_auc: Area | None = Field(
        None, description="as `audit.max_membership_auc` of a plan; the smaller one holds"
    )
    few_cases: Literal["as-planned", "refuse"] = Field(
        "as-planned",
        description="as-planned: where this site has too few cases for the memorisation audit to "
        "tell, do as the plan's `audit.few_cases` says; refuse: release no denoiser then",
    )
    epsilon_budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="most epsilon that this site's prompts may add up to; a visit without formal "
        "DP is then refused",
    )
    network: Literal["coordinator-only", "open"] = Field(
        "coordinator-only",
        description="coordinator-only: do not start where anything else can be reached; open: the "
        "site's staff accept that it can",
    )
    probe_addresses: Annotated[tuple[Address, ...], Field(max_length=32)] = Field(
        (), description="HOST:PORT that must not answer; tried at the start, nothing else is"
    )
    probe_names: Annotated[tuple[Name, ...], Field(max_length=32)] = Field(
        (), description="names that must not resolve; asked for at the start, no others are"
    )

    def smallest_count(self, plan: StudyPlan) -> int:
        """Return the smallest case count that may leave."""
        return max(self.min_count, plan.release.min_count)

    def most_bytes(self, plan: StudyPlan) -> int:
        """Return how many bytes of checkpoint a visit may release."""
        own = self.byte_budget
        return plan.release.byte_budget if own is None else min(own, plan.release.byte_budget)

    def most_copies(self, plan: StudyPlan) -> float:
        """Return the share of copies that stops a release once it is certain to be exceeded."""
        return min(plan.audit.max_copy_rate, self.max_copy_rate or 1.0)

    def most_membership(self, plan: StudyPlan) -> float:
        """Return the area under the curve of telling members that stops a release likewise."""
        return min(plan.audit.max_membership_auc, self.max_membership_auc or 1.0)

    def may_release_untold(self, plan: StudyPlan) -> bool:
        """Return whether a denoiser may leave that too few cases are there to judge."""
        return self.few_cases != "refuse" and plan.audit.few_cases == "release"

    def most_epsilon(self, plan: StudyPlan) -> float:
        """Return what the prompts of this site may add up to."""
        own, planned = self.epsilon_budget, plan.privacy.epsilon_budget
        return planned if own is None else min(own, planned)

    def expect_enough_cases(self, site_id: str, num_cases: int) -> None:
        """Check that the site has as many cases as its policy demands.

        Raises:
            NotPermitted: It has fewer.
        """
        if num_cases < self.min_cases:
            raise NotPermitted(
                f"site '{site_id}' has {num_cases} cases, its policy demands min_cases = "
                f"{self.min_cases}. Take part with more cases, or have the site's staff change "
                f"{POLICY_FILE}."
            )


def load(path: Path) -> SitePolicy:
    """Return the policy in a file; where there is none, that of a site which demands nothing.

    Raises:
        PlanError: It cannot be read, is not TOML, or holds an unknown key or a value not allowed.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SitePolicy()
    except OSError as error:
        raise PlanError(
            f"site policy '{path}' cannot be read: {error.strerror}. Let the site's own user read "
            f"it; nothing is done without it."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(
            f"site policy '{path}' is not valid TOML: {error}. Mend that line."
        ) from error
    return plan_faults.validated(SitePolicy, content, f"site policy '{path}'")
