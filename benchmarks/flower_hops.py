"""Measure how long an order takes over Flower that moves a megabyte and trains nothing.

The federation and its sites are those of the tests: two real SuperNodes (TLS, authentication), the
same sites in Flower's simulation runtime, and in one process. A hop is the time from one event of
the journal to the next.
"""

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))  # what the tests share

import flower_network
import six_sites
import tiny_site
from study_state import state_of
from wardround.deploy.flower.simulation import simulated_engine
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.deploy.throwaway import ThrowawayAuthority
from wardround.server.loop import Engine, run
from wardround.server.relay import Relay
from wardround.server.study_folder import JOURNAL
from wardround.shared.link import SiteGateway

PLAN = six_sites.a_plan().model_copy(update={"sites": ("runmc", "bmc")})


def main() -> None:
    """Print the seconds of a hop in one process, in the simulation runtime, in a federation."""
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sites = {
            site_id: tiny_site.TinySite(PLAN, site_id, folder / site_id) for site_id in PLAN.sites
        }
        _measure_here(folder / "here", "in one process", lambda relay: _in_process(sites, relay))
        _measure_here(
            folder / "simulation", "simulation runtime", lambda relay: _simulation(sites, relay)
        )
        _measure_federation(folder)


def _in_process(
    sites: Mapping[str, SiteGateway], relay: Relay
) -> AbstractContextManager[InProcessEngine]:
    return nullcontext(InProcessEngine(sites, relay))


@contextmanager
def _simulation(sites: Mapping[str, SiteGateway], relay: Relay) -> Iterator[Engine]:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(tiny_site)
    with simulated_engine(sites, relay) as engine:
        yield engine


def _measure_here(
    study: Path, what: str, engine_of: Callable[[Relay], AbstractContextManager[Engine]]
) -> None:
    with (
        open_study(study, PLAN, tiny_site.MANIFEST, tiny_site.GENESIS) as relay,
        engine_of(relay) as engine,
    ):
        run(relay, engine)
    _show(what, study)


def _measure_federation(folder: Path) -> None:
    study = folder / "study"
    with open_study(study, PLAN, tiny_site.MANIFEST, tiny_site.GENESIS, engine="flower"):
        pass
    authority = ThrowawayAuthority(folder / "credentials")
    with flower_network.network(folder / "flower", authority, *PLAN.sites) as started:
        for site_id in PLAN.sites:
            started.start_tiny_site(site_id, PLAN)
        log = started.run(study).log()
    assert state_of(study).is_complete, log
    _show("SuperLink and SuperNodes", study)


def _show(what: str, study: Path) -> None:
    hops_s = _hops_s(study)
    shown = f"{min(hops_s):.3f} / {statistics.median(hops_s):.3f} / {max(hops_s):.3f} s"
    print(f"{what}: {len(hops_s)} hops, min / median / max {shown}", flush=True)


def _hops_s(study: Path) -> list[float]:
    """Return the seconds of each order but the first, which waits for the start."""
    lines = [json.loads(line) for line in (study / JOURNAL).read_text().splitlines()]
    times = [datetime.fromisoformat(line["at"]) for line in lines]
    kinds = [line["event"]["event"] for line in lines]
    return [
        (after - before).total_seconds()
        for before, after, kind in zip(times[1:], times[2:], kinds[2:], strict=False)
        if kind in ("SiteEvaluated", "VisitCommitted")
    ]


if __name__ == "__main__":
    main()
