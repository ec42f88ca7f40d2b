"""Which sites are heard from.

A site that missed three heartbeats is absent until it is heard from again. It keeps its lease: slow
is not dead. What is done about an absent site is for the plan to say (`wardround.server.absence`).
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
        self._began_at = clock()
        self._heard_at: dict[str, float] = {}
        self._present: set[str] = set()

    def is_present(self, site_id: str) -> bool:
        """Return whether a site was heard from and is not absent."""
        return site_id in self._present

    def absent_s(self, site_id: str) -> float:
        """Return for how many seconds a site has been silent; 0 before it missed three heartbeats.

        One that was never heard from has been silent since this began.
        """
        silent_s = self._clock() - self._heard_at.get(site_id, self._began_at)
        return silent_s if silent_s > self._allowed_s else 0.0

    def heard(self, site_id: str) -> None:
        """Note that a site was heard from now."""
        self._heard_at[site_id] = self._clock()
        if site_id not in self._present:
            self._present.add(site_id)
            log.info("site %s is here", site_id)
            self._tell(site_id, is_present=True)

    def look(self) -> None:
        """Mark as absent whoever was not heard from for three heartbeats."""
        for site_id in sorted(self._present):
            silent_s = self.absent_s(site_id)
            if silent_s:
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
