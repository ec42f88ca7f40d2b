"""From a stream of chunks to the disk: one is looked at and written while the next one comes in."""

import asyncio
from collections.abc import Callable
from functools import partial

from wardround.server.incoming import Incoming
from wardround.shared.checkpoint import Chunk


class Intake:
    """Takes in the chunks of one part.

    Args:
        incoming: Where they go.
        on_bytes: Runs what it is given on another thread.
    """

    def __init__(
        self, incoming: Incoming, on_bytes: Callable[[Callable[[], None]], "asyncio.Future[None]"]
    ) -> None:
        self._incoming, self._on_bytes = incoming, on_bytes
        self._turn = asyncio.Lock()  # of who sends, and of who asks how much has arrived
        self._writing: asyncio.Future[None] | None = None

    async def add(self, chunk: Chunk) -> None:
        """Take in the next bytes, waiting until those before them are written.

        Raises:
            CheckpointError: Bytes cannot be written; they may be earlier ones.
            ConnectionLost: Another connection has begun to send the same part.
        """
        async with self._turn:
            await self._written()
            self._writing = self._on_bytes(partial(self._incoming.write, chunk))

    async def settle(self) -> None:
        """Wait until all is written; more may follow.

        Raises:
            CheckpointError: As `add`.
            ConnectionLost: As `add`.
        """
        async with self._turn:
            await self._written()

    async def _written(self) -> None:
        if self._writing is not None:
            # Not simply awaited: who is cut off here comes back, to `settle`, for the same bytes.
            await asyncio.wait([self._writing])
            writing, self._writing = self._writing, None
            writing.result()
