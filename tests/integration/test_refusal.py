"""A site whose staff did not approve the plan says so over gRPC, in one word, and ends.

The coordinator is a process, and so is the site that refuses, which is `wardround site start`
itself; who takes part is a thread with the arithmetic of tiny_site.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from study_network import network
from wardround.deploy import plan_text
from wardround.deploy.own_site import trail_of
from wardround.deploy.study_text import waiting_text
from wardround.shared.identity import Role
from wardround.shared.messages import RefusalReason
from wardround.shared.study_api import StudyStatus
from wardround.shared.trail_lines import LineKind

NOT_PERMITTED = 13


@pytest.fixture
def plan(tiny_plan):
    """Return a plan of two sites that goes on without one of them, and waits for the other."""
    absence = {"policy": "skip", "sites": {"ben": "wait"}}
    return tiny_plan.model_copy(
        update={
            "sites": ("ada", "ben"),
            "absence": tiny_plan.absence.model_validate(absence),
        }
    )


@pytest.fixture
def net(tmp_path, authority, plan):
    with network(tmp_path, authority, plan) as running:
        yield running


def start_unapproved(net, plan, authority, tmp_path: Path, site_id: str) -> int:
    """Start a site without approval, wait for its end, return its exit status."""
    file = tmp_path / "plan.toml"
    file.write_text(plan_text.write(plan, heading=""), encoding="utf-8")
    words = ["site", "start", str(file), "--site", site_id, "--data", str(tmp_path)]
    words += ["--workspace", str(tmp_path / "work" / site_id)]
    words += ["--credentials", str(authority.issue(Role.SITE, site_id))]
    words += ["--coordinator", net.coordinator.address]
    ended = subprocess.run(
        [sys.executable, "-m", "wardround.deploy.cli", *words],
        check=False,
        capture_output=True,
        text=True,
    )
    assert "is not approved at site" in ended.stderr
    return ended.returncode


def status_of(net) -> StudyStatus:
    with net.operator() as client:
        status, _plan = client.status()
        return status


def refusal_of(status: StudyStatus, site_id: str) -> RefusalReason | None:
    (site,) = (site for site in status.sites if site.site_id == site_id)
    return site.refusal


@pytest.mark.slow
def test_a_refusal_is_shown_and_acted_upon_until_the_site_takes_part(
    net, plan, authority, tmp_path
):
    # Ben is waited for: refused, shown, and forgotten once its staff approved and it came.
    assert start_unapproved(net, plan, authority, tmp_path, "ben") == NOT_PERMITTED
    assert refusal_of(status_of(net), "ben") is RefusalReason.NOT_APPROVED
    (left,) = (
        line.facts
        for line in trail_of("ben", tmp_path / "work" / "ben").lines()
        if line.kind == LineKind.RELEASED
    )
    assert left["what"] == "Refusal"
    # Ada is not: its evaluation is not waited for, and then its visit is skipped, at once.
    assert start_unapproved(net, plan, authority, tmp_path, "ada") == NOT_PERMITTED
    status = status_of(net)
    assert status.due is not None
    assert status.due.site_id == "ben"
    assert waiting_text(status).endswith("; it refuses, for its staff do not approve the plan")
    net.start("ben")
    state = net.end()
    assert state.is_complete
    assert state.visited == ("ben",)
    assert dict(state.skipped) == {"ada": None}
