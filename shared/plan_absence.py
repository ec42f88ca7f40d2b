"""The table `[absence]` of a plan: what is done about a site that is not heard from."""

from typing import Literal

from pydantic import Field

from wardround.shared.plan_section import Count, Section, SiteId

AbsencePolicy = Literal["wait", "skip", "stop"]


class Absence(Section):
    """What is done about a site that is not heard from when it is its turn."""

    policy: AbsencePolicy = Field(
        "wait",
        description="wait: for as long as it takes; skip: go on without the site and mark it; "
        "stop: end the study",
    )
    after_s: Count = Field(
        3600,
        description="seconds of silence after which skip and stop act; at least three heartbeats",
    )
    sites: dict[SiteId, AbsencePolicy] = Field(
        default_factory=dict, description="site = policy, where it is not the one above"
    )

    def policy_of(self, site_id: str) -> AbsencePolicy:
        """Return the policy that holds for a site."""
        return self.sites.get(site_id, self.policy)
