"""A study on `flwr run` with Flower's simulation runtime: the loop and all sites on one machine.

Where the data lie comes with the run, as it may on an own machine alone. A site of a federation
does not run this: it has not got this bundle on its list, and asks its own configuration.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from wardround.deploy.flower.client_app import Tell, alone_in, client_app
from wardround.deploy.flower.engine import FlowerEngine, virtual_nodes
from wardround.deploy.flower.records import OrderRecord
from wardround.deploy.flower.server_app import carry_through
from wardround.server.journal import read_events
from wardround.server.loop import Engine
from wardround.server.relay import Relay
from wardround.server.state import fold
from wardround.server.study_folder import JOURNAL
from wardround.shared import plan as plans
from wardround.shared.errors import DataError, JournalError
from wardround.shared.link import SiteGateway
from wardround.shared.plan import StudyPlan

server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Carry the study in the folder `study` through to its end, with the sites under `data`."""

    def engine_of(relay: Relay) -> Engine:
        root = _data(context)
        absent = [site for site in relay.state.members if not (root / site).is_dir()]
        if absent:
            raise DataError(
                f"'{root}' has no folder {', '.join(absent)}. Name a folder that holds one of "
                f'cases for each site: flwr run ... --run-config \'study="DIR" data="DIR"\'.'
            )
        return FlowerEngine(grid, relay, virtual_nodes(grid))

    carry_through(context, engine_of)


@contextmanager
def simulated_site(context: Context, order: OrderRecord, tell: Tell) -> Iterator[SiteGateway]:
    """Give the site that an order is for, with its data and the study's own plan."""
    from wardround.deploy.own_site import open_site, telling_refusals, trail_of
    from wardround.site_client.privacy.approval import approve_in_simulation

    study = Path(str(context.run_config["study"]))
    workspace = study / "sites" / order.site_id
    with alone_in(workspace):
        data = _data(context) / order.site_id
        plan = _plan_in(study)
        approve_in_simulation(trail_of(order.site_id, workspace), plan)
        with telling_refusals(plan, order.site_id, workspace, tell):
            yield open_site(plan, order.site_id, data, workspace)  # loads torch


def _data(context: Context) -> Path:
    return Path(str(context.run_config["data"]))


def _plan_in(study: Path) -> StudyPlan:
    state = fold(read_events(study / JOURNAL))
    if state is None:
        raise JournalError(f"journal '{study / JOURNAL}' is empty. Create the study anew.")
    return plans.parse(json.loads(state.plan), origin=str(study / JOURNAL))


client = client_app(simulated_site)
