"""What a run does with the study in its folder, before and after the study's loop."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="the Flower engine needs flwr: pip install 'wardround[flower]'")

from flwr.app import Context, RecordDict

from tiny_site import GENESIS, MANIFEST
from wardround.deploy.flower import server_app, simulation_app
from wardround.deploy.in_process import open_study
from wardround.server.journal import read_events
from wardround.server.relay import Relay
from wardround.server.study_folder import JOURNAL
from wardround.shared.errors import DataError, JournalError, UsageError
from wardround.shared.study_api import Pause


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    ours = logging.getLogger("wardround")
    before, level = list(ours.handlers), ours.level
    yield
    ours.handlers, ours.level = before, level


def context(**config: Path) -> Context:
    run_config = {key: str(path) for key, path in config.items()}
    return Context(1, 1, {}, RecordDict(), run_config)


def nobody(relay: Relay):
    """An engine for a study in which nothing may begin."""


def test_a_folder_without_a_study_is_said_to_hold_none(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="holds no study"):
        server_app.carry_through(context(study=tmp_path), nobody)
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize(
    ("is_on_hold", "said"), [(True, "on hold.*study start"), (False, "paused.*study resume")]
)
def test_a_run_says_what_lets_a_study_go_on(
    tmp_path: Path, tiny_plan, is_on_hold: bool, said: str
) -> None:
    with open_study(
        tmp_path, tiny_plan, MANIFEST, GENESIS, engine="flower", is_on_hold=is_on_hold
    ) as relay:
        if not is_on_hold:
            relay.change(Pause(), "anna")
    before = read_events(tmp_path / JOURNAL)
    with pytest.raises(UsageError, match=said):
        server_app.carry_through(context(study=tmp_path), nobody)
    assert read_events(tmp_path / JOURNAL) == before


def test_a_simulation_names_the_sites_whose_data_are_not_there(tmp_path: Path, tiny_plan) -> None:
    study, data = tmp_path / "study", tmp_path / "data"
    with open_study(study, tiny_plan, MANIFEST, GENESIS, engine="flower"):
        (data / "ben").mkdir(parents=True)
    with pytest.raises(DataError, match="has no folder ada, cai"):
        simulation_app.server(None, context(study=study, data=data))
    assert len(read_events(study / JOURNAL)) == 1
