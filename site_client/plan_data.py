"""A site's cases as a plan needs them: each sound by itself, and fit for the task together."""

from pathlib import Path

from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import SiteData, load_site
from wardround.site_client.learning.task_kinds import kind_of


def load_for_plan(plan: StudyPlan, site_id: str, folder: Path) -> SiteData:
    """Read and check all cases of a site.

    Raises:
        DataError: Any case is at fault, as `load_site` says, or has no other to be registered with.
    """
    data = load_site(site_id, folder, plan.task, plan.data)
    for cases in (data.train, data.heldout):
        kind_of(plan.task).specimens(cases, plan, site_id)
    return data
