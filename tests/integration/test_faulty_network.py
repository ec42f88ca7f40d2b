"""Through a network that delays, throttles, cuts and corrupts, a study ends in the same bytes.

The sites are the tiny ones of test_resume.py; each kind of fault strikes connections in the middle
of a download and of an upload, which are 1.2 MB each.
"""

import importlib.util
from pathlib import Path

import pytest

from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.server.journal import read_events
from wardround.server.loop import run
from wardround.server.state import fold
from wardround.server.study_folder import CHECKPOINTS, JOURNAL
from wardround.shared.connection import Connection
from wardround.shared.identity import Role, read_credentials
from wardround.site_client.dial import work


def _load(name: str):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


calls = _load("relay_calls")
proxies = _load("fault_proxy")
tiny = calls.tiny
Fault = proxies.Fault


def digests_of(folder: Path) -> list[str]:
    state = fold(read_events(folder / JOURNAL))
    assert state is not None
    return [checkpoint.digest for checkpoint in state.checkpoints]


@pytest.mark.parametrize(
    ("faults", "is_struck"),
    [
        ([Fault(delay_s=0.01)], False),
        ([Fault(cut_after=size) for size in (3_000, 20_000, 400_000, 900_000, 1_500_000)], True),
        ([Fault(corrupt_at=place) for place in (10, 4_000, 300_000, 1_100_000)], True),
        ([Fault(cut_after=700_000, delay_s=0.002), Fault(corrupt_at=800_000)], True),
    ],
    ids=["slow", "cut", "corrupted", "all"],
)
@pytest.mark.slow
def test_a_study_ends_in_the_bytes_of_the_in_process_engine(
    tmp_path: Path, authority, tiny_plan, monkeypatch, faults, is_struck: bool
) -> None:
    """One site makes the study's only visit and all evaluations through the proxy."""
    plan = tiny_plan.model_copy(update={"sites": ("ada",)})
    whole = tmp_path / "whole"
    with open_study(whole, plan, tiny.MANIFEST, tiny.GENESIS) as relay:
        site = tiny._TinySite(plan, "ada", tmp_path / "in-process")
        run(relay, InProcessEngine({"ada": site}, relay))

    own = read_credentials(authority.issue(Role.SITE, "ada"))
    with (
        calls.serving(tmp_path, authority, plan) as address,
        proxies.faulty(int(address.split(":")[1]), *faults) as proxy,
        Connection(f"127.0.0.1:{proxy.port}", own, sleep=lambda seconds: None) as connection,
    ):
        site = tiny._TinySite(plan, "ada", tmp_path / "work")
        work(connection, own, site, site_id="ada", plan=plan, manifest=tiny.MANIFEST)
        assert (proxy.num_struck > 0) == is_struck
    assert digests_of(tmp_path / "study") == digests_of(whole)
    assert not list((tmp_path / "study" / CHECKPOINTS / "partial").iterdir())
