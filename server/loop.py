"""The coordinator's loop: give an order, have it carried out, go on until nothing is left.

It does not know how messages move. An engine does.
"""

from typing import Protocol

from wardround.server.order import Order
from wardround.server.relay import Relay
from wardround.server.state import StudyState
from wardround.shared.errors import WireError


class Engine(Protocol):
    """Brings orders to sites and what they send to the relay."""

    def carry_out(self, order: Order) -> None:
        """Have the order's site carry it out; returns when the relay has accepted the result."""
        ...


def run(relay: Relay, engine: Engine) -> StudyState:
    """Carry a study through to its end, from wherever it stands, and return the final state.

    Raises:
        WireError: A site answered an order without doing what it asks.
        WardroundError: Whatever else ended the study; what is journalled stays, so it can resume.
    """
    while (order := relay.next_order()) is not None:
        before = relay.state
        engine.carry_out(order)
        if relay.state == before:
            raise WireError(
                f"site '{order.site_id}' ended its {order.kind} order of visit {order.visit} "
                f"without a result. Look at the site's own log and resume the study."
            )
    return relay.state
