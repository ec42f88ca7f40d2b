"""A Flower federation of real processes over loopback, with TLS and SuperNode authentication.

Killed anywhere and started again, a study ends in the bytes that the in-process engine gives. The
sites "train" by arithmetic on a few numbers (those of test_resume.py), but for one study.
"""

import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="the Flower engine needs flwr: pip install 'wardround[flower]'")

from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.server.loop import run
from wardround.server.study_folder import JOURNAL

pytestmark = pytest.mark.slow


def _load(name: str):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = _load("test_resume")
relay_tests = _load("test_grpc_relay")
flower = _load("flower_network")
conftest = _load("conftest")
digests, state_of = relay_tests.digests, relay_tests.state_of
SITES = ("runmc", "bmc")


def a_plan():
    return relay_tests.a_plan().model_copy(update={"sites": SITES})


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Iterator:
    """A federation with two tiny sites."""
    folder = tmp_path_factory.mktemp("flower")
    authority = conftest.Authority(folder / "credentials", "authority")
    places = dict.fromkeys(SITES, folder)
    with flower.network(folder, authority, a_plan(), places) as started:
        for site_id in SITES:
            started.start_site(site_id, is_tiny=True)
        yield started


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[str]:
    """The digests that the in-process engine gives for the same plan."""
    plan, folder = a_plan(), tmp_path_factory.mktemp("in-process")
    sites = {site_id: tiny._TinySite(plan, site_id, folder / site_id) for site_id in SITES}
    with open_study(folder / "study", plan, tiny.MANIFEST, tiny.GENESIS) as relay:
        return digests(run(relay, InProcessEngine(sites, relay)))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of two tiny sites that was created and not yet run."""
    with open_study(tmp_path / "study", a_plan(), tiny.MANIFEST, tiny.GENESIS):
        return tmp_path / "study"


def wait_for(condition) -> None:
    while not condition():
        time.sleep(0.05)


def num_events(study: Path) -> int:
    return (study / JOURNAL).read_bytes().count(b"\n")


def log_of(submitted) -> str:
    log = submitted.communicate()[0].decode()
    assert submitted.returncode == 0, log
    return log


def test_a_study_ends_in_the_bytes_of_the_in_process_engine(network, study, expected) -> None:
    log = log_of(network.run(study))
    assert digests(state_of(study)) == expected, log
    assert "visit 1 at runmc: segmenter 1/1" in log


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-x", "-s"]))
