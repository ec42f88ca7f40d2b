"""A site whose memorisation audit lets nothing leave says so over gRPC, in one word, and ends.

Everything is real: the coordinator is a process, so is the site, `wardround site start` itself,
and it has trained before it refuses.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay_calls import Coordinator
from wardround.deploy import plan_text
from wardround.deploy.in_process import open_study
from wardround.deploy.own_site import trail_of
from wardround.deploy.study_client import StudyClient
from wardround.deploy.study_text import waiting_text
from wardround.server.events import SiteRefused, SiteReturned
from wardround.server.journal import read_events
from wardround.server.state import fold
from wardround.server.study_folder import JOURNAL
from wardround.shared import plan as plans
from wardround.shared.identity import Role, read_credentials
from wardround.shared.messages import RefusalReason
from wardround.shared.study_api import StudyStatus
from wardround.shared.trail_lines import LineKind
from wardround.site_client.data.mock import write_mock_sites
from wardround.site_client.learning.genesis import make_genesis
from wardround.site_client.privacy import approval

AUDIT_FAILED = 14


@pytest.fixture
def plan(tiny_plan):
    """Return a plan that waits for its first site, and not for the other."""
    absence = {"policy": "skip", "after_s": 1, "sites": {"runmc": "wait"}}
    return tiny_plan.model_copy(
        update={
            "sites": ("runmc", "bmc"),
            "absence": tiny_plan.absence.model_validate(absence),
        }
    )


class Hospital:
    """One site with too few cases for its audit to tell, and a coordinator to dial."""

    def __init__(self, folder: Path, authority, plan: plans.StudyPlan) -> None:
        self.study, self.workspace = folder / "study", folder / "work"
        self._authority, self._plan = authority, plan
        genesis = make_genesis(plan)
        with open_study(self.study, plan, genesis.manifest, genesis.parts, engine="grpc"):
            pass
        data = write_mock_sites(folder / "data", 4, 0)["runmc"]
        file = folder / "plan.toml"
        file.write_text(plan_text.write(plan, heading=""), encoding="utf-8")
        self.workspace.mkdir()
        self.trail = trail_of("runmc", self.workspace)
        approval.approve(self.trail, plan, "staff")
        hub = authority.issue(Role.COORDINATOR, "hub")
        self.coordinator = Coordinator(self.study, hub)
        self._words = [sys.executable, "-m", "wardround.deploy.cli", "site", "start", str(file)]
        self._words += ["--site", "runmc", "--data", str(data), "--workspace", str(self.workspace)]
        self._words += ["--credentials", str(authority.issue(Role.SITE, "runmc"))]

    def take_part(self, few_cases: str) -> "subprocess.CompletedProcess[str]":
        """Start the site under a policy and wait for its end."""
        policy = f'network = "open"\nfew_cases = "{few_cases}"\n'
        (self.workspace / "site.toml").write_text(policy, encoding="utf-8")
        words = [*self._words, "--coordinator", self.coordinator.address]
        return subprocess.run(words, check=False, capture_output=True, text=True)

    def status(self) -> StudyStatus:
        own = read_credentials(self._authority.issue(Role.OPERATOR, "anna"))
        with StudyClient(self.coordinator.address, own, self._plan.study_id) as client:
            return client.status()[0]


@pytest.fixture
def hospital(tmp_path, authority, plan) -> Iterator[Hospital]:
    made = Hospital(tmp_path, authority, plan)
    made.coordinator.start()
    yield made
    made.coordinator.kill()


@pytest.mark.slow
def test_a_failed_audit_is_told_in_one_word_and_remembered_until_the_site_comes_back(hospital):
    ended = hospital.take_part("refuse")
    assert ended.returncode == AUDIT_FAILED, ended.stderr
    assert "too few cases" in ended.stderr
    status = hospital.status()
    assert status.sites[0].refusal is RefusalReason.AUDIT_FAILED
    assert waiting_text(status).endswith(
        "; it refuses, for its memorisation audit lets nothing leave"
    )
    left = [line.facts["what"] for line in hospital.trail.lines() if line.kind == LineKind.RELEASED]
    assert left[-1] == "Refusal"
    assert "VisitReport" not in left

    hospital.coordinator.kill()
    hospital.coordinator.start()
    assert hospital.status().sites[0].refusal is RefusalReason.AUDIT_FAILED

    ended = hospital.take_part("as-planned")
    assert ended.returncode == 0, ended.stderr
    history = read_events(hospital.study / JOURNAL)
    state = fold(history)
    assert state is not None
    assert (state.visited, dict(state.refused)) == (("runmc",), {})
    assert [event for event in history if isinstance(event, SiteRefused | SiteReturned)] == [
        SiteRefused(site_id="runmc", reason="audit-failed"),
        SiteReturned(site_id="runmc"),
    ]
