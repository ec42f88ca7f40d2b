"""A site as a Flower ClientApp: a visit for each train message, a score for each evaluate message.

Flower runs every message in a new process. Whatever goes wrong there leaves the site as a number,
the exit status of the error's class; its text stays in the site's own log.
"""

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from wardround.deploy.flower.message_link import MessageLink
from wardround.deploy.flower.records import (
    OrderRecord,
    ResultRecord,
    key_of,
    pack_result,
    unpack_order,
)
from wardround.shared import plan as plans
from wardround.shared.errors import PlanError, UsageError, WardroundError
from wardround.shared.link import CoordinatorLink, SiteGateway

SETTINGS = ("site", "plan", "data", "workspace")

log = logging.getLogger(__name__)
_OpenSite = Callable[[Context, OrderRecord], AbstractContextManager[SiteGateway]]


def client_app(open_site: _OpenSite) -> ClientApp:
    """Return the ClientApp of a site.

    Args:
        open_site: Gives the site that is to carry out an order.
    """
    made = ClientApp()

    @made.train()
    def visit(message: Message, context: Context) -> Message:
        def carry_out(order: OrderRecord, link: CoordinatorLink) -> None:
            with open_site(context, order) as site:
                site.visit(order.order, link)

        return _answer(message, carry_out)

    @made.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        def carry_out(order: OrderRecord, link: CoordinatorLink) -> None:
            with open_site(context, order) as site:
                site.evaluate(order.order, link)

        return _answer(message, carry_out)

    return made


@contextmanager
def own_site(context: Context, order: OrderRecord) -> Iterator[SiteGateway]:
    """Give the site that the SuperNode's own configuration names, to one process at a time.

    A process of an earlier attempt may still be at work; what it finishes is then remembered.

    Raises:
        DataError: The site's data cannot be used.
        PlanError: The plan is not valid or does not name this site.
        UsageError: A setting is missing.
    """
    from wardround.site_client.data.cases import load_site
    from wardround.site_client.learning.genesis import make_genesis
    from wardround.site_client.site import Site

    del order  # the site's egress guard refuses one that is not for this site
    settings = {key: str(context.node_config.get(key, "")) for key in SETTINGS}
    missing = [key for key, value in settings.items() if not value]
    if missing:
        raise UsageError(
            f"the SuperNode's --node-config lacks {', '.join(missing)}. "
            f"Start the site with wardround flower site."
        )
    plan, name = plans.load(Path(settings["plan"])), settings["site"]
    if name not in plan.sites:
        raise PlanError(
            f"site '{name}' is not in the plan, whose sites are {', '.join(plan.sites)}. "
            f"Name one of them with --site."
        )
    workspace = Path(settings["workspace"])
    workspace.mkdir(parents=True, exist_ok=True)
    with (workspace / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cases = load_site(name, Path(settings["data"]), plan.task, plan.data)
        yield Site(plan, cases, make_genesis(plan).manifest, workspace=workspace)


def _answer(message: Message, carry_out: Callable[[OrderRecord, CoordinatorLink], None]) -> Message:
    key = ""
    try:
        order = unpack_order(message.content)
        key = key_of(order.order)
        link = MessageLink(order)
        carry_out(order, link)
        result = link.result()
    except Exception as error:  # its text must not reach Flower, which would send it
        log.exception("this site could not carry out its order")
        status = error.exit_status if isinstance(error, WardroundError) else 1
        result = ResultRecord(key=key, status=status)
    return Message(pack_result(result), reply_to=message)


app = client_app(own_site)
