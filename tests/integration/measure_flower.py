"""How long an order takes that moves nothing and trains nothing, over Flower.

    .venv/bin/python tests/integration/measure_flower.py

The sites are the tiny ones of test_resume.py, at two real SuperNodes (TLS, authentication) and in
Flower's simulation runtime. A hop is the time from one event of the journal to the next.
"""

import importlib.util
import json
import os
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from wardround.deploy.flower.simulation import simulated_engine
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.server.loop import run
from wardround.server.study_folder import JOURNAL


def _load(name: str):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that it can be sent to processes of the simulation runtime
    spec.loader.exec_module(module)
    return module


tiny, relay_tests = _load("test_resume"), _load("test_grpc_relay")
network, conftest = _load("flower_network"), _load("conftest")


def hops_s(study: Path) -> list[float]:
    """Return the seconds of each order but the first, which waits for the start."""
    lines = [json.loads(line) for line in (study / JOURNAL).read_text().splitlines()]
    times = [datetime.fromisoformat(line["at"]) for line in lines]
    kinds = [line["event"]["event"] for line in lines]
    return [
        (after - before).total_seconds()
        for before, after, kind in zip(times[1:], times[2:], kinds[2:], strict=False)
        if kind in ("SiteEvaluated", "VisitCommitted")
    ]


def show(what: str, hops: list[float]) -> None:
    shown = f"{min(hops):.3f} / {statistics.median(hops):.3f} / {max(hops):.3f} s"
    print(f"{what}: {len(hops)} hops, min / median / max {shown}")


def main() -> None:
    plan = relay_tests.a_plan().model_copy(update={"sites": ("runmc", "bmc")})
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = folder / "in-process"
        sites = {site_id: tiny._TinySite(plan, site_id, folder / site_id) for site_id in plan.sites}
        with open_study(study, plan, tiny.MANIFEST, tiny.GENESIS) as relay:
            run(relay, InProcessEngine(sites, relay))
        show("in-process", hops_s(study))

        study = folder / "simulation"
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(tiny)
        with (
            open_study(study, plan, tiny.MANIFEST, tiny.GENESIS) as relay,
            simulated_engine(sites, relay) as engine,
        ):
            run(relay, engine)
        show("Flower, simulation runtime", hops_s(study))

        study = folder / "federation"
        with open_study(study, plan, tiny.MANIFEST, tiny.GENESIS):
            pass
        authority = conftest.Authority(folder / "credentials", "authority")
        (folder / "flower").mkdir()
        places = dict.fromkeys(plan.sites, folder)
        with network.network(folder / "flower", authority, plan, places) as started:
            for site_id in plan.sites:
                started.start_site(site_id, is_tiny=True)
            log = started.run(study).log()
        assert relay_tests.state_of(study).is_complete, log
        show("Flower, SuperLink and SuperNodes", hops_s(study))


if __name__ == "__main__":
    main()
