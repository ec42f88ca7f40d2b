"""Kill the coordinator at each of its steps, start it again, and no event is lost or doubled.

Each life of the coordinator ends at one step, chosen beforehand; the site works on meanwhile.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

import dying_coordinator
from tiny_site import GENESIS, MANIFEST, TinySite
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.server.journal import read_events
from wardround.server.loop import run
from wardround.server.study_folder import JOURNAL
from wardround.shared.connection import Connection
from wardround.shared.identity import Role, read_credentials
from wardround.site_client.dial import work

EVENTS = (
    "StudyCreated",
    "SiteEvaluated",
    "VisitLeased",
    "VisitCommitted",
    "SiteEvaluated",
    "StudyCompleted",
)
# Where the lives of one coordinator end, in order; each goes on from what the one before left.
LIVES = (
    "append VisitLeased",
    "torn VisitLeased",
    "appended VisitLeased",
    "fetch",
    "deliver",
    "adopt",
    "adopted",
    "append VisitCommitted",
    "torn VisitCommitted",
    "appended VisitCommitted",
    "torn StudyCompleted",
)


class _Lives:
    """A coordinator that is started again, on the same port, whenever it was killed."""

    def __init__(self, study: Path, credentials: Path) -> None:
        self._words = [sys.executable, dying_coordinator.__file__, str(study), str(credentials)]
        self.endings: list[tuple[str, int]] = []
        self.port = 0
        self._is_given_up = False
        self._process = self._start(LIVES[0])
        self._thread = Thread(target=self._look_after)

    def __enter__(self) -> "_Lives":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._is_given_up = True
            self._process.kill()
        self._thread.join()

    def _start(self, moment: str) -> subprocess.Popen[str]:
        words = [*self._words, str(self.port), moment]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        return process

    def _look_after(self) -> None:
        for moment, following in zip((*LIVES, "never"), (*LIVES[1:], "never", None), strict=True):
            with self._process as process:
                self.endings.append((moment, process.wait()))
            if following is None or self._is_given_up or self.endings[-1][1] == 0:
                return
            self._process = self._start(following)


@pytest.mark.slow
def test_a_coordinator_killed_at_every_step_loses_and_doubles_nothing(
    tmp_path: Path, authority, tiny_plan
) -> None:
    plan = tiny_plan.model_copy(update={"sites": ("ada",)})
    with open_study(tmp_path / "whole", plan, MANIFEST, GENESIS) as relay:
        site = TinySite(plan, "ada", tmp_path / "in-process")
        expected = run(relay, InProcessEngine({"ada": site}, relay)).checkpoints
    study = tmp_path / "study"
    with open_study(study, plan, MANIFEST, GENESIS):
        pass
    own = read_credentials(authority.issue(Role.SITE, "ada"))
    with (
        _Lives(study, authority.issue(Role.COORDINATOR, "hub")) as lives,
        Connection(
            f"127.0.0.1:{lives.port}", own, sleep=lambda seconds: time.sleep(0.05)
        ) as connection,
    ):
        site = TinySite(plan, "ada", tmp_path / "work")
        work(connection, own, site, site_id="ada", plan=plan, manifest=MANIFEST)

    assert lives.endings == [*((moment, -signal.SIGKILL) for moment in LIVES), ("never", 0)]
    events = read_events(study / JOURNAL)
    assert tuple(type(event).__name__ for event in events) == EVENTS
    with open_study(study, plan, MANIFEST, GENESIS, resume=True) as relay:
        assert relay.state.checkpoints == expected
