"""An operator looks after a study in its folder, where nobody serves it."""

from pathlib import Path

import pytest

from tiny_site import GENESIS, MANIFEST, TinySite
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.deploy.study_in_folder import StudyInFolder
from wardround.server.events import StudyStarted
from wardround.server.journal import read_events
from wardround.server.loop import run
from wardround.server.study_folder import JOURNAL
from wardround.shared.errors import IdentityError, JournalError, UsageError
from wardround.shared.identity import Role, read_credentials
from wardround.shared.study_api import Pause, Reorder, Resume, Skip, Standing, Start, Withdraw


@pytest.fixture
def folder(tmp_path: Path, tiny_plan) -> Path:
    """The folder of a study that was created on hold."""
    with open_study(
        tmp_path / "study", tiny_plan, MANIFEST, GENESIS, engine="flower", is_on_hold=True
    ):
        return tmp_path / "study"


@pytest.fixture
def study(folder: Path, authority) -> StudyInFolder:
    """The study in that folder, in the hands of anna."""
    own = read_credentials(authority.issue(Role.OPERATOR, "anna"))
    return StudyInFolder(folder, own, "tiny")


def test_what_is_changed_in_the_folder_is_what_the_next_run_does(
    folder: Path, study: StudyInFolder, tiny_plan
) -> None:
    assert study.status()[0].standing is Standing.ON_HOLD
    study.change(Withdraw("ada"))
    study.change(Reorder(("cai", "ben")))
    assert study.change(Start()).standing is Standing.RUNNING
    assert StudyStarted(by="anna") in read_events(folder / JOURNAL)
    sites = {name: TinySite(tiny_plan, name, folder / name) for name in tiny_plan.sites}
    with open_study(folder, tiny_plan, MANIFEST, GENESIS, engine="flower", resume=True) as relay:
        assert study.status()[0].standing is Standing.RUNNING, "one may look during a run"
        assert run(relay, InProcessEngine(sites, relay)).visited == ("cai", "ben")
    assert study.status()[0].standing is Standing.COMPLETE


def test_a_change_may_be_made_twice_and_is_one_event(folder: Path, study: StudyInFolder) -> None:
    study.change(Start())
    for change in (Pause(), Pause(), Resume(), Resume(), Skip("ben"), Skip("ben")):
        study.change(change)
    assert len(read_events(folder / JOURNAL)) == 1 + 4


def test_a_study_that_is_being_run_is_not_changed(
    folder: Path, study: StudyInFolder, tiny_plan
) -> None:
    with (
        open_study(folder, tiny_plan, MANIFEST, GENESIS, engine="flower", resume=True),
        pytest.raises(JournalError, match="in use by another process"),
    ):
        study.change(Start())
    assert len(read_events(folder / JOURNAL)) == 1


def test_another_study_another_folder_and_another_role_are_refused(
    folder: Path, tmp_path: Path, authority
) -> None:
    anna = read_credentials(authority.issue(Role.OPERATOR, "anna"))
    with pytest.raises(UsageError, match="holds study 'tiny', not 'heart'"):
        StudyInFolder(folder, anna, "heart").change(Start())
    for act in (lambda study: study.status(), lambda study: study.change(Start())):
        with pytest.raises(JournalError, match="holds no study"):
            act(StudyInFolder(tmp_path, anna, "tiny"))
    assert not (tmp_path / JOURNAL).exists()
    site = read_credentials(authority.issue(Role.SITE, "ada"))
    with pytest.raises(IdentityError, match="site 'ada'"):
        StudyInFolder(folder, site, "tiny")
