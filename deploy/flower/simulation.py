"""All sites of a study in Flower's simulation runtime: one virtual SuperNode for each.

The runtime starts a ServerApp, whose `Grid` is handed out here, and gives each message to one of
its processes, together with the sites.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Thread

from flwr.app import Context
from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from wardround.deploy.flower.client_app import OpenSite, Tell, client_app
from wardround.deploy.flower.engine import FlowerEngine, virtual_nodes
from wardround.deploy.flower.records import OrderRecord
from wardround.server.relay import Relay
from wardround.shared.errors import ConnectionLost, UsageError
from wardround.shared.link import SiteGateway

# One site works at a time, so one process is enough.
_RESOURCES: BackendConfig = {"init_args": {"num_cpus": 1}, "client_resources": {"num_cpus": 1}}

log = logging.getLogger(__name__)


@contextmanager
def simulated_engine(gateways: Mapping[str, SiteGateway], relay: Relay) -> Iterator[FlowerEngine]:
    """Give an engine whose sites run in Flower's simulation runtime while the context lasts.

    Args:
        gateways: site_id -> the site; every site of the plan must be there. Sent to the runtime's
            processes as bytes, so a site must not hold what cannot be sent.
        relay: Where what the sites send goes.

    Raises:
        ConnectionLost: The runtime did not start.
    """
    grids: SimpleQueue[Grid | None] = SimpleQueue()
    finished = Event()
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, _context: Context) -> None:
        grids.put(grid)
        finished.wait()

    def run() -> None:
        try:
            run_simulation(
                server_app, client_app(_one_of(gateways)), len(gateways), backend_config=_RESOURCES
            )
        except Exception:
            log.exception("Flower's simulation runtime stopped")
        finally:
            grids.put(None)

    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    runtime = Thread(target=run, name="flower-simulation")

    def sleep(pause_s: float) -> None:
        if not runtime.is_alive():
            raise _not_running()
        time.sleep(pause_s)

    runtime.start()
    try:
        grid = grids.get()
        if grid is None:
            raise _not_running()
        yield FlowerEngine(grid, relay, virtual_nodes(grid), sleep=sleep)
    finally:
        finished.set()
        runtime.join()


def _one_of(gateways: Mapping[str, SiteGateway]) -> OpenSite:
    @contextmanager
    def open_site(_context: Context, order: OrderRecord, _tell: Tell) -> Iterator[SiteGateway]:
        if order.site_id not in gateways:
            raise UsageError(
                f"site '{order.site_id}' is not in this simulation; here are "
                f"{', '.join(sorted(gateways))}. Give every site of the plan its data."
            )
        yield gateways[order.site_id]

    return open_site


def _not_running() -> ConnectionLost:
    return ConnectionLost(
        "Flower's simulation runtime is not running; the log says why. "
        "Mend that and resume the study."
    )
