"""What is done about a site that is absent when it is its turn; pure.

The plan says for each site: wait, skip it and mark it, or stop the study. A site that an operator
left out already is not waited for, nor is a visited one under the policy skip: its evaluation is
marked as missed.
"""

from wardround.server.events import EvaluationMissed, Event, SiteSkipped, StudyStopped
from wardround.server.state import EvaluateAt, MakeVisit, StudyState, may_begin, next_action
from wardround.shared.plan import StudyPlan


def event_of(state: StudyState, plan: StudyPlan, site_id: str, absent_s: float) -> Event | None:
    """Return what happens because `site_id` is absent; None where the study waits for it.

    Args:
        state: Where the study stands.
        plan: Its plan.
        site_id: The site that is absent.
        absent_s: For how many seconds it has been silent, at least three heartbeats.
    """
    action = next_action(state)
    if not isinstance(action, MakeVisit | EvaluateAt) or action.site_id != site_id:
        return None
    if not may_begin(state):
        return None
    if site_id in state.skipped:
        return EvaluationMissed(visit=action.visit, site_id=site_id)
    policy = plan.absence.policy_of(site_id)
    if policy == "wait" or absent_s < plan.absence.after_s:
        return None
    if policy == "stop":
        return StudyStopped(by=None)
    if site_id in state.to_come:
        return SiteSkipped(site_id=site_id, by=None)
    return EvaluationMissed(visit=action.visit, site_id=site_id)
