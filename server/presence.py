"""Which sites are heard from. Absence is something to show, never a reason to act.

A site that missed three heartbeats is absent until it is heard from again. It keeps its lease.
"""

import logging
import time
from collections.abc import Callable

MISSED_HEARTBEATS = 3

log = logging.getLogger(__name__)


class Presence:
    """When each site was last heard from.

    Args:
        interval_s: Seconds between heartbeats.
        clock: Returns seconds that only ever grow.
        on_change: Is told (site_id, is_present) whenever that changes.
    """

    def __init__(
        self,
        interval_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[str, bool], None] | None = None,
    ) -> None:
        self._allowed_s = MISSED_HEARTBEATS * interval_s
        self._clock = clock
        self._on_change = on_change
        self._heard_at: dict[str, float] = {}
        self._present: set[str] = set()

    @property
    def present(self) -> frozenset[str]:
        """Return the sites that were heard from and are not absent."""
        return frozenset(self._present)

    def heard(self, site_id: str) -> None:
        """Note that a site was heard from now."""
        self._heard_at[site_id] = self._clock()
        if site_id not in self._present:
            self._present.add(site_id)
            log.info("site %s is here", site_id)
            self._tell(site_id, is_present=True)

    def look(self) -> None:
        """Mark as absent whoever was not heard from for three heartbeats."""
        now = self._clock()
        for site_id in sorted(self._present):
            silent_s = now - self._heard_at[site_id]
            if silent_s > self._allowed_s:
                self._present.remove(site_id)
                log.warning(
                    "site %s is absent: not heard from for %.0f s; its lease stays its own",
                    site_id,
                    silent_s,
                )
                self._tell(site_id, is_present=False)

    def _tell(self, site_id: str, *, is_present: bool) -> None:
        if self._on_change is not None:
            self._on_change(site_id, is_present)
