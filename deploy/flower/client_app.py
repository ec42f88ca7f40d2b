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
from wardround.shared.errors import UsageError, WardroundError
from wardround.shared.link import CoordinatorLink, SiteGateway

SETTINGS = ("site", "plan", "data", "workspace")
Tell = Callable[[bytes], None]
OpenSite = Callable[[Context, OrderRecord, Tell], AbstractContextManager[SiteGateway]]

log = logging.getLogger(__name__)


def client_app(open_site: OpenSite) -> ClientApp:
    """Return the ClientApp of a site.

    Args:
        open_site: Gives the site that is to carry out an order; tells an encoded `Refusal` where
            it does not.
    """
    made = ClientApp()

    @made.train()
    def visit(message: Message, context: Context) -> Message:
        return _answer(message, context, open_site, lambda site: site.visit)

    @made.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return _answer(message, context, open_site, lambda site: site.evaluate)

    return made


@contextmanager
def own_site(context: Context, order: OrderRecord, tell: Tell) -> Iterator[SiteGateway]:
    """Give the site that the SuperNode's own configuration names, to one process at a time.

    Raises:
        DataError: The site's data cannot be used.
        PlanError: The plan is not valid or does not name this site.
        UsageError: A setting is missing.
    """
    del order  # the site's egress guard refuses one that is not for this site
    settings = {key: str(context.node_config.get(key, "")) for key in SETTINGS}
    missing = [key for key, value in settings.items() if not value]
    if missing:
        raise UsageError(
            f"the SuperNode's --node-config lacks {', '.join(missing)}. "
            f"Start the site with wardround flower site."
        )
    from wardround.deploy.own_site import approved_plan, open_site, telling_refusals  # loads torch

    site_id, workspace = settings["site"], Path(settings["workspace"])
    plan = approved_plan(Path(settings["plan"]), site_id)
    with alone_in(workspace), telling_refusals(plan, site_id, workspace, tell):
        yield open_site(plan, site_id, Path(settings["data"]), workspace)


@contextmanager
def alone_in(workspace: Path) -> Iterator[None]:
    """Wait until no other process works in `workspace`, and keep the others waiting.

    A process of an earlier attempt may still be at it; what it finishes is remembered for the next.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    with (workspace / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _answer(
    message: Message,
    context: Context,
    open_site: OpenSite,
    act: Callable[[SiteGateway], Callable[[bytes, CoordinatorLink], None]],
) -> Message:
    key, refusals = "", list[bytes]()
    try:
        order = unpack_order(message.content)
        key = key_of(order.order)
        link = MessageLink(order)
        with open_site(context, order, refusals.append) as site:
            act(site)(order.order, link)
        result = link.result()
    except Exception as error:  # its text must not reach Flower, which would send it
        log.exception("this site could not carry out its order")
        status = error.exit_status if isinstance(error, WardroundError) else 1
        result = ResultRecord(key=key, status=status, refusal=b"".join(refusals))
    return Message(pack_result(result), reply_to=message)


app = client_app(own_site)
