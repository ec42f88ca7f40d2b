"""Through a network that delays, throttles, cuts and corrupts, a study ends in the same bytes.

The sites are the tiny ones of tiny_site.py; each kind of fault strikes connections in the middle
of a download and of an upload, which are 1.2 MB each.
"""

from pathlib import Path

import pytest

import relay_calls as calls
from fault_proxy import Fault, faulty
from study_state import digests, state_of
from tiny_site import GENESIS, MANIFEST, TinySite
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.server.loop import run
from wardround.server.study_folder import CHECKPOINTS
from wardround.shared.connection import Connection
from wardround.shared.identity import Role, read_credentials
from wardround.site_client.dial import work


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
    with open_study(whole, plan, MANIFEST, GENESIS) as relay:
        site = TinySite(plan, "ada", tmp_path / "in-process")
        run(relay, InProcessEngine({"ada": site}, relay))

    own = read_credentials(authority.issue(Role.SITE, "ada"))
    with (
        calls.serving(tmp_path, authority, plan) as address,
        faulty(int(address.split(":")[1]), *faults) as proxy,
        Connection(f"127.0.0.1:{proxy.port}", own, sleep=lambda seconds: None) as connection,
    ):
        site = TinySite(plan, "ada", tmp_path / "work")
        work(connection, own, site, site_id="ada", plan=plan, manifest=MANIFEST)
        assert (proxy.num_struck > 0) == is_struck
    assert digests(state_of(tmp_path / "study")) == digests(state_of(whole))
    assert not list((tmp_path / "study" / CHECKPOINTS / "partial").iterdir())
