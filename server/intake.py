"""From a stream of chunks to the disk: one block fills while the other is looked at and written.

Filling is done where the chunks arrive, while they are still in the processor's cache and so that
their memory is free at once; a hand-over to another thread is made for a block, not for a chunk.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from wardround.server.direct_file import Block
from wardround.server.incoming import Incoming
from wardround.shared.checkpoint import Chunk


class Intake:
    """Takes in the chunks of one part.

    Args:
        incoming: Where they go.
        position: How many bytes of the part are there.
        on_bytes: Runs what it is given on another thread.
    """

    def __init__(
        self,
        incoming: Incoming,
        position: int,
        on_bytes: Callable[[Callable[[], None]], "asyncio.Future[None]"],
    ) -> None:
        self._incoming, self._on_bytes = incoming, on_bytes
        self._filling, self._other = Block(), Block()
        self._filling.begin(position)
        self._position = position
        self._turn = asyncio.Lock()  # of who sends, and of who asks how much has arrived
        self._writing: asyncio.Future[None] | None = None

    async def add(self, chunk: Chunk) -> None:
        """Take in the next bytes, waiting while both blocks are full.

        Raises:
            CheckpointError: Bytes cannot be written; they may be earlier ones.
            ConnectionLost: Another connection has begun to send the same part.
        """
        async with self._turn:
            while rest := self._filling.add(chunk):
                chunk = rest
                await self._hand_over()
            if self._filling.is_full:
                await self._hand_over()

    async def settle(self) -> None:
        """Write what is gathered; more may follow.

        Raises:
            CheckpointError: As `add`.
            ConnectionLost: As `add`.
        """
        async with self._turn:
            await self._hand_over()
            await self._written()

    async def _hand_over(self) -> None:
        await self._written()
        content = self._filling.content
        if content:
            self._writing = self._on_bytes(partial(self._incoming.write, content))
            self._filling, self._other = self._other, self._filling
            self._position += len(content)
            self._filling.begin(self._position)

    async def _written(self) -> None:
        if self._writing is not None:
            # Not simply awaited: who is cut off here comes back, to `settle`, for the same bytes.
            await asyncio.wait([self._writing])
            writing, self._writing = self._writing, None
            writing.result()
