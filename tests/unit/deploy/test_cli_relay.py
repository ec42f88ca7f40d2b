from functools import partial
from pathlib import Path

import pytest

from wardround.deploy import cli_plan, cli_relay, cli_study, plan_text
from wardround.deploy.throwaway import ThrowawayAuthority
from wardround.server.journal import read_events
from wardround.server.state import fold
from wardround.server.study_folder import JOURNAL
from wardround.shared.errors import DataError, JournalError, NotPermitted, PlanError, UsageError
from wardround.shared.identity import Role


@pytest.fixture
def study(tiny_plan, tmp_path: Path) -> str:
    path = tmp_path / "study.toml"
    path.write_text(plan_text.write(tiny_plan, heading=""), encoding="utf-8")
    return str(path)


def test_a_created_study_holds_its_start_and_nothing_more(study: str, tmp_path: Path) -> None:
    cli_study.create(study=study, out=tmp_path / "out", overrides=None, hold=False)
    state = fold(read_events(tmp_path / "out" / JOURNAL))
    assert state is not None
    assert (state.study_id, state.num_visits, state.leased) == ("tiny", 0, 0)


def test_a_study_is_not_created_over_another(study: str, tmp_path: Path) -> None:
    cli_study.create(study=study, out=tmp_path / "out", overrides=None, hold=False)
    with pytest.raises(JournalError, match="holds a study already"):
        cli_study.create(study=study, out=tmp_path / "out", overrides=None, hold=False)


@pytest.mark.parametrize("method", ["exemplar-replay", "joint"])
def test_methods_that_keep_real_cases_are_refused_over_machines(
    study: str, tmp_path: Path, method: str
) -> None:
    with pytest.raises(PlanError, match="never leave a site"):
        cli_study.create(
            study=study, out=tmp_path / "out", overrides=[f"method.name={method}"], hold=False
        )
    assert not (tmp_path / "out").exists()


def test_a_site_that_the_plan_does_not_name_does_not_start(study: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="site 'zoe' is not in the plan"):
        cli_relay.start(
            study=study,
            name="zoe",
            data=tmp_path,
            workspace=tmp_path / "work",
            credentials=tmp_path,
            coordinator="127.0.0.1:1",
        )


def test_a_plan_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        cli_study.create(study="nowhere.toml", out=tmp_path / "out", overrides=None, hold=False)


def test_a_site_does_not_start_before_its_staff_approved_the_plan(
    study: str, tmp_path: Path
) -> None:
    (tmp_path / "ca").mkdir()
    credentials = ThrowawayAuthority(tmp_path / "ca").issue(Role.SITE, "ada")
    start = partial(
        cli_relay.start,
        study=study,
        name="ada",
        data=tmp_path,
        workspace=tmp_path / "work",
        credentials=credentials,
        coordinator="127.0.0.1:1",
    )
    with pytest.raises(NotPermitted, match="is not approved at site 'ada'"):
        start()
    cli_plan.approve(study=study, name="ada", workspace=tmp_path / "work", by="anna")
    (tmp_path / "work" / "site.toml").write_text('network = "open"\n')
    with pytest.raises(DataError):  # there are no cases; approval and network are past
        start()
    cli_plan.revoke(study=study, name="ada", workspace=tmp_path / "work", by="anna")
    with pytest.raises(NotPermitted):
        start()
