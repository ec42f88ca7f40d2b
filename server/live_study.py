"""A study while it is served: it changes on one thread, and who waits for a change is woken.

Both services of the coordinator, the sites' relay and the operators' study API, share one.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from wardround.server.leases import Leases
from wardround.server.presence import Presence
from wardround.server.relay import Relay
from wardround.server.study_status import status_of
from wardround.shared.errors import JournalError, TrailError
from wardround.shared.messages import Progress, RefusalReason
from wardround.shared.study_api import Change, StudyStatus

log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Bell:
    """Wakes whoever waits for it to ring; from the event loop's thread alone."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """Return what is set when it rings next; take it before looking at what may change."""
        return self._next

    def ring(self) -> None:
        """Wake everybody."""
        rung, self._next = self._next, asyncio.Event()
        rung.set()


class LiveStudy:
    """One study that is served.

    Args:
        relay: The study; nobody else may use it meanwhile.
        presence: When its sites were heard from.
    """

    def __init__(self, relay: Relay, presence: Presence) -> None:
        self.relay, self.presence = relay, presence
        self.leases = Leases()
        self.moved_on = Bell()  # the state changed
        self.news = Bell()  # the state, somebody's presence or the progress changed
        self.complete = asyncio.Event()  # the study has ended
        self.ended = asyncio.Event()  # and every site was told, or journal or trail failed
        self.failure: JournalError | TrailError | None = None
        self._progress: Progress | None = None
        self._told: set[str] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="study")
        relay.settle()
        if relay.state.has_ended:
            self.complete.set()

    def close(self) -> None:
        """End the thread; after the server has stopped."""
        self._thread.shutdown()

    async def run(self, act: Callable[[], _T]) -> _T:
        """Return what `act` returns, on the thread on which alone the study changes."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)

    async def alter(self, act: Callable[[], None]) -> None:
        """Do what may change the study's state, and wake whoever waits for that."""

        def altered() -> bool:
            before = self.relay.state
            act()
            self.relay.settle()
            lease = self.leases.current
            if lease is not None and not self.relay.is_due(lease.order):
                self.leases.release()
            return self.relay.state is not before

        if await self.run(altered):
            if self.relay.state.has_ended:
                self.complete.set()
            self.moved_on.ring()
            self.news.ring()

    def note_progress(self, progress: Progress) -> None:
        """Keep what a site said last."""
        self._progress = progress

    async def refuse(self, site_id: str, reason: RefusalReason) -> None:
        """Note that a site carries out no order; the plan's absence policy acts at once."""
        await self.alter(partial(self.relay.note_refusal, site_id, reason))
        await self.look()

    async def accept(self, site_id: str) -> None:
        """Note that a site works for the study, whatever it said before."""
        await self.alter(partial(self.relay.note_refusal, site_id, None))

    def fail(self, error: JournalError | TrailError) -> None:
        """End the serving: nothing more can be written down."""
        self.failure = error
        self.ended.set()

    async def change(self, change: Change, by: str) -> None:
        """Do what an operator asks for.

        Raises:
            UsageError: It cannot be done.
        """
        await self.alter(partial(self.relay.change, change, by))
        log.info("%s asked for %s", by, change)

    async def look(self) -> None:
        """Look who is absent, and act upon it as the plan says."""
        self.presence.look()
        self.news.ring()
        try:
            state = None
            while state is not self.relay.state:
                state = self.relay.state
                await self.alter(self._note_absent)
        except (JournalError, TrailError) as error:
            self.fail(error)

    def status(self) -> StudyStatus:
        """Return where the study stands."""
        num_events = len(self.relay.history)
        return status_of(self.relay.state, self.presence, self._progress, num_events)

    def tell_ended(self, site_id: str) -> None:
        """Note that a site was told of its end; when the last one was, the serving ends."""
        state = self.relay.state
        if not state.has_ended:
            return  # the site was withdrawn from a study that goes on
        self._told.add(site_id)
        left_out = {*state.skipped, *state.withdrawn, *state.refused}
        awaited = {
            site for site in state.members if site not in left_out or self.presence.is_present(site)
        }
        if self._told >= awaited:
            self.ended.set()

    def _note_absent(self) -> None:
        due = self.relay.due()
        if due is None:
            return
        is_refused = due.site_id in self.relay.state.refused
        absent_s = math.inf if is_refused else self.presence.absent_s(due.site_id)
        if absent_s:
            self.relay.note_absent(due.site_id, absent_s)
