"""The commands of an operator, as a person types them, against a coordinator that serves."""

import json
import subprocess
import sys
from pathlib import Path

import relay_calls as calls
from tiny_site import GENESIS, MANIFEST
from wardround.deploy.in_process import open_study
from wardround.server.journal import read_events
from wardround.server.study_folder import JOURNAL
from wardround.shared.identity import Role

STUDY = [sys.executable, "-m", "wardround.deploy.cli", "study"]


def test_an_operator_looks_after_a_study_by_commands(tmp_path: Path, authority, tiny_plan) -> None:
    plan = tiny_plan.model_copy(update={"late_sites": True})
    study = tmp_path / "study"
    with open_study(study, plan, MANIFEST, GENESIS, engine="grpc", is_on_hold=True):
        pass
    coordinator = calls.Coordinator(study, authority.issue(Role.COORDINATOR, "hub"))
    coordinator.start()
    own = authority.issue(Role.OPERATOR, "anna")

    def typed(*words: str, identity: Path = own) -> list[str]:
        options = ["--coordinator", coordinator.address, "--credentials", str(identity)]
        return [*STUDY, *words, *options]

    def wardround(*words: str, identity: Path = own) -> subprocess.CompletedProcess[str]:
        words = typed(*words, identity=identity)
        return subprocess.run(words, capture_output=True, text=True, check=False)

    try:
        status = wardround("status", "tiny")
        assert status.returncode == 0, status.stderr
        assert "tiny: on hold, 0 of 3 visits made" in status.stdout
        assert "waiting to be started" in status.stdout
        for words in (
            ("skip", "tiny", "ada"),
            ("add", "tiny", "zoe"),
            ("reorder", "tiny", "zoe", "cai", "ben"),
            ("withdraw", "tiny", "ben"),
            ("start", "tiny"),
            ("pause", "tiny"),
            ("resume", "tiny"),
        ):
            done = wardround(*words)
            assert done.returncode == 0, done.stderr
        told = json.loads(wardround("status", "tiny", "--format", "json").stdout)
        assert told["standing"] == "running"
        assert [(site["site_id"], site["standing"], site["by"]) for site in told["sites"]] == [
            ("zoe", "to come", None),
            ("cai", "to come", None),
            ("ada", "skipped", "anna"),
            ("ben", "withdrawn", "anna"),
        ]

        refused = wardround("skip", "tiny", "nobody")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "whose sites are ada, ben, cai, zoe" in refused.stderr
        other = wardround("pause", "other", "--format", "json")
        assert json.loads(other.stderr)["error"] == "UsageError"
        assert other.returncode == 2
        site = wardround("stop", "tiny", identity=authority.issue(Role.SITE, "ada"))
        assert site.returncode == 10

        watching = typed("watch", "tiny", "--after", "0", "--format", "json")
        with subprocess.Popen(watching, stdout=subprocess.PIPE, text=True) as watch:
            assert watch.stdout is not None
            lines = [watch.stdout.readline()]
            assert wardround("stop", "tiny").returncode == 0
            lines += watch.stdout.readlines()
        assert watch.returncode == 0
        kinds = [event["kind"] for line in lines for event in json.loads(line)["events"]]
        assert kinds == [type(event).__name__ for event in read_events(study / JOURNAL)]
        assert kinds[-1] == "StudyStopped"
    finally:
        coordinator.kill()
    away = wardround("status", "tiny")
    assert away.returncode == 11
    assert "cannot be reached" in away.stderr


def test_a_study_that_nobody_serves_is_started_in_its_folder(
    tmp_path: Path, authority, tiny_plan
) -> None:
    study, own = tmp_path / "study", authority.issue(Role.OPERATOR, "anna")
    with open_study(study, tiny_plan, MANIFEST, GENESIS, engine="flower", is_on_hold=True):
        pass

    def wardround(*words: str) -> subprocess.CompletedProcess[str]:
        typed = [*STUDY, *words, "--credentials", str(own)]
        return subprocess.run(typed, capture_output=True, text=True, check=False)

    started = wardround("start", "tiny", "--folder", str(study), "--format", "json")
    assert json.loads(started.stdout)["standing"] == "running", started.stderr
    for place in ([], ["--folder", str(study), "--coordinator", "127.0.0.1:1"]):
        unclear = wardround("status", "tiny", *place)
        assert unclear.returncode == 2
        assert "one of --coordinator HOST:PORT and --folder DIR" in unclear.stderr
