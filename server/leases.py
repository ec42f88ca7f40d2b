"""Leases: who works on the order that is due, proved by a token that nobody else can know.

A token is drawn once per order and life of the coordinator. Whoever asks again for the same order
is given the same token, so a site may lose an answer or start anew; whoever holds the token of an
order that is done, or of an earlier coordinator, is told that it is stale. A lease never expires:
slow is not dead.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from wardround.server.order import Order
from wardround.shared.errors import StaleLease


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An order and the token of whoever carries it out."""

    token: str
    order: Order


class Leases:
    """The lease that is out, and those that were.

    Args:
        draw: Returns a token that cannot be guessed.
    """

    def __init__(self, draw: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self._draw = draw
        self._current: Lease | None = None
        self._granted: dict[str, str] = {}

    @property
    def current(self) -> Lease | None:
        """Return the lease that is out."""
        return self._current

    def grant(self, order: Order) -> Lease:
        """Return the lease on `order`, the one that is due; the same one each time."""
        if self._current is None or self._current.order != order:
            self._current = Lease(token=self._draw(), order=order)
            self._granted[self._current.token] = order.site_id
        return self._current

    def release(self) -> None:
        """End the lease that is out: its order is done."""
        self._current = None

    def is_current(self, token: str, site_id: str) -> bool:
        """Return whether `site_id` holds the lease that is out."""
        lease = self._current
        return (
            lease is not None
            and lease.order.site_id == site_id
            and secrets.compare_digest(lease.token.encode(), token.encode())
        )

    def expect_current(self, token: str, site_id: str) -> None:
        """Check that `site_id` holds the lease that is out.

        Raises:
            StaleLease: It does not.
        """
        if not self.is_current(token, site_id):
            raise _stale(site_id)

    def expect_granted(self, token: str, site_id: str) -> None:
        """Check that `site_id` was given this token, for this order or an earlier one.

        A result may arrive twice when its first answer was lost; whether the second is the same as
        the first is for the relay to say.

        Raises:
            StaleLease: It was not, by this coordinator in this life.
        """
        if self._granted.get(token) != site_id:
            raise _stale(site_id)


def _stale(site_id: str) -> StaleLease:
    return StaleLease(
        f"site '{site_id}' has no lease with this token: the order is done, belongs to another "
        f"site, or the coordinator was started anew. Ask for the next order."
    )
