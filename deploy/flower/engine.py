"""The engine over Flower's `Grid`: one message out, one reply in, until the reply has arrived.

Flower forgets a message when a SuperNode or its process dies, so the order is sent again, for as
long as it takes: an order is named by its digest, a site remembers its finished phases, and the
relay takes a repeated result as the same. Nothing limits how long a site may take. One whose
SuperNode is not there is absent, and the relay does about it what the plan says.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from wardround.deploy.flower.records import (
    OrderRecord,
    ResultRecord,
    key_of,
    pack_order,
    unpack_result,
)
from wardround.server import willingness
from wardround.server.order import Order
from wardround.server.relay import Relay
from wardround.shared import codec, errors
from wardround.shared.checkpoint import chunks_of, judged_parts
from wardround.shared.errors import IdentityError, WardroundError, WireError
from wardround.shared.messages import PartRef
from wardround.shared.plan import StudyPlan

MESSAGE_TYPES = {"visit": "train", "evaluation": "evaluate"}
LIFETIME_S = 30 * 24 * 3600.0  # of a message at the SuperLink; then it is sent again
FIRST_LOOK_S, LONGEST_LOOK_S = 0.05, 0.5  # between looks for a reply
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0  # before an order is sent again
ABSENT_AFTER_S = 30.0  # without a SuperNode; as long as three heartbeats of the relay

_LOST = {
    ErrorCode.MESSAGE_UNAVAILABLE: "the message expired or was dropped",
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: "the reply was dropped",
    ErrorCode.NODE_UNAVAILABLE: "its SuperNode went away",
    ErrorCode.CLIENT_APP_CRASHED: "its process died",
}
_REFUSED = {
    ErrorCode.INVALID_FAB: "the bundle of this run is not on its list",
}
# What the status of a site's answer stands for.
ERRORS: Mapping[int, type[WardroundError]] = {
    kind.exit_status: kind
    for kind in (
        WardroundError,
        errors.UsageError,
        errors.PlanError,
        errors.DataError,
        errors.CheckpointError,
        errors.EgressRefused,
        errors.WireError,
        errors.JournalError,
        errors.TrainingError,
        errors.IdentityError,
        errors.ConnectionLost,
        errors.TrailError,
        errors.NotPermitted,
        errors.AuditFailed,
    )
}

log = logging.getLogger(__name__)


class Node(NamedTuple):
    """A site's node, and since when it is there: another time is another SuperNode's process."""

    node_id: int
    since: str = ""


class FlowerEngine:
    """Carries orders out by Flower messages.

    Args:
        grid: Where the messages go.
        relay: Where what the sites send goes.
        node_of: Returns the node of a site, or None while it is not there.
        sleep: Waits that many seconds.
        clock: Returns seconds that only ever grow.
    """

    def __init__(
        self,
        grid: Grid,
        relay: Relay,
        node_of: Callable[[str], Node | None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._grid, self._relay, self._node_of = grid, relay, node_of
        self._sleep, self._clock = sleep, clock

    def carry_out(self, order: Order) -> None:
        """Have the order's site carry it out.

        Returns when the relay has accepted the result, or has gone on without an absent site.

        Raises:
            WardroundError: The site ended the order with an error of this class, or the relay
                refused its result.
        """
        result = self._ask(order)
        if result is None:
            return
        if result.refusal:
            self._refused(order, result)
            return
        self._relay.note_refusal(order.site_id, None)
        for message in result.progress:
            self._relay.progress(order.site_id, message)
        if order.kind == "evaluation":
            self._relay.evaluated(order.site_id, result.report)
            return
        for name, data in result.parts.items():
            self._relay.deliver(order.site_id, result.upload, name, chunks_of(data))
        self._relay.commit(order.site_id, result.report, result.upload)

    def _refused(self, order: Order, result: ResultRecord) -> None:
        """Note why a site refuses, and act as if it were absent; what the plan waits for ends."""
        site_id = order.site_id
        reason = willingness.reason_in(self._relay.state, site_id, result.refusal)
        log.warning("site %s refuses: %s", site_id, reason.value)
        self._relay.note_refusal(site_id, reason)
        before = None
        while self._relay.is_due(order) and self._relay.state != before:  # skip, then miss a score
            before = self._relay.state
            self._relay.note_absent(site_id, math.inf)
        if self._relay.is_due(order):
            _expect_done(order, result)

    def _ask(self, order: Order) -> ResultRecord | None:
        """Return the result of an order, sending it again until there is one or it is not due."""
        pauses = _growing(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while (node := self._wait_for_node(order)) is not None:
            reply = self._exchange(order, node)
            if isinstance(reply, Message) and reply.has_content():
                result = unpack_result(reply.content)
                return result if result.refusal else _expect_done(order, result)
            code = reply.error.code if isinstance(reply, Message) else reply
            if code not in _LOST:
                raise WireError(
                    f"site '{order.site_id}' did not take its {order.kind} order of visit "
                    f"{order.visit}: {_REFUSED.get(code, f'error {code} of Flower')}. "
                    f"Its own log says more; mend that there and start the run again."
                )
            pause_s = next(pauses)
            log.warning(
                "site %s: %s; the order is sent again in %.0f s",
                order.site_id,
                _LOST[code],
                pause_s,
            )
            self._sleep(pause_s)
        return None

    def _exchange(self, order: Order, node: Node) -> Message | int:
        """Send an order and return the reply, whenever it comes; the code of a loss without one.

        The SuperLink tells the loss of a node for as long as it is away. One that comes back
        between two looks is there again and knows nothing of the order, so that is looked for.
        """
        sent = list(self._grid.push_messages([self._message(order, node.node_id)]))
        if sent in ([], [None]):
            return ErrorCode.MESSAGE_UNAVAILABLE
        pauses = _growing(FIRST_LOOK_S, LONGEST_LOOK_S)
        while not (replies := list(self._grid.pull_messages(sent))):
            if self._node_of(order.site_id) not in (None, node):
                return ErrorCode.NODE_UNAVAILABLE
            self._sleep(next(pauses))
        return replies[0]

    def _message(self, order: Order, node_id: int) -> Message:
        # Under one digest once: a site's labeller may be the segmenter that left it.
        needed = {part.digest: part for part in _needed(order, self._relay.plan)}
        parts = {
            digest: b"".join(self._relay.fetch(order.site_id, part))
            for digest, part in needed.items()
        }
        record = OrderRecord(
            site_id=order.site_id, order=order.data, parts=parts, trail=self._relay.trail_head()
        )
        return Message(
            pack_order(record),
            node_id,
            MESSAGE_TYPES[order.kind],
            ttl=LIFETIME_S,
            group_id=str(order.visit),
        )

    def _wait_for_node(self, order: Order) -> Node | None:
        """Return the node of an order's site; None where the study goes on without the site."""
        site_id, began_s = order.site_id, self._clock()
        if (node := self._node_of(site_id)) is None:
            log.warning("waiting for site %s: no SuperNode of that name is online", site_id)
        pauses = _growing(FIRST_LOOK_S, LONGEST_LOOK_S)
        while node is None:
            absent_s = self._clock() - began_s
            if absent_s > ABSENT_AFTER_S:
                self._relay.note_absent(site_id, absent_s)
                if not self._relay.is_due(order):
                    log.warning("site %s is absent, and not waited for any longer", site_id)
                    return None
            self._sleep(next(pauses))
            node = self._node_of(site_id)
        return node


def registered_nodes(grid: Grid) -> Callable[[str], Node | None]:
    """Return who finds a site's node by the name under which its key was registered.

    A name that a site gives itself does not count.
    """

    def node_of(site_id: str) -> Node | None:
        found = [node for node in grid.get_nodes() if node.name == site_id]
        if len(found) > 1:
            raise IdentityError(
                f"{len(found)} SuperNodes are registered as '{site_id}'. "
                f"Unregister all but the site's own."
            )
        return Node(found[0].node_id, found[0].last_activated_at) if found else None

    return node_of


def virtual_nodes(grid: Grid) -> Callable[[str], Node | None]:
    """Return who finds a site's node in a simulation: nodes are alike there, so sites take turns.

    Which one a site gets makes no difference, nor how many there are: the order names the site.
    """
    places: list[str] = []

    def node_of(site_id: str) -> Node | None:
        if site_id not in places:
            places.append(site_id)
        nodes = sorted(grid.get_node_ids())
        return Node(nodes[places.index(site_id) % len(nodes)]) if nodes else None

    return node_of


def _needed(order: Order, plan: StudyPlan) -> tuple[PartRef, ...]:
    """Return the parts that a site needs for an order: a score does not take all."""
    if order.kind == "visit":
        return codec.decode_visit_order(order.data).parent.parts
    judged = codec.decode_evaluation_order(order.data).checkpoint
    return judged_parts(judged, plan, order.site_id)


def _expect_done(order: Order, result: ResultRecord) -> ResultRecord:
    if result.status:
        kind = ERRORS.get(result.status, WardroundError)
        raise kind(
            f"site '{order.site_id}' could not carry out its {order.kind} order of visit "
            f"{order.visit} (status {result.status}, {kind.__name__}). Its own log says why; mend "
            f"that there and start the run again."
        )
    if result.key != key_of(order.data):
        raise WireError(
            f"site '{order.site_id}' answered another order than the one of visit {order.visit}. "
            f"Run the same release of wardround at both ends."
        )
    return result


def _growing(first_s: float, longest_s: float) -> Iterator[float]:
    """Yield pauses that double up to the longest, without end."""
    while True:
        yield first_s
        first_s = min(2 * first_s, longest_s)
