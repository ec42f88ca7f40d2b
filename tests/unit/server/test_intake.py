"""Chunks of any size reach the disk in order, and few of them are ever in memory."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.server.intake import Intake
from wardround.shared.checkpoint import CHUNK_BYTES
from wardround.shared.errors import CheckpointError

BYTES = bytes(range(251)) * 60_000  # 15 MB


class _Disk:
    """An `Incoming` that is as slow as the test likes, and full after so many bytes."""

    def __init__(self, room: int = len(BYTES)) -> None:
        self.may_go_on, self.written, self._room = Event(), b"", room

    def write(self, content: memoryview) -> None:
        assert self.may_go_on.wait(10)
        if len(self.written) + len(content) > self._room:
            raise CheckpointError("full")
        self.written += bytes(content)


async def _take_in(disk: _Disk, chunks: list[bytes]) -> int:
    """Return how many chunks were taken before the disk wrote anything."""
    num_taken = 0
    with ThreadPoolExecutor(2) as threads:
        loop = asyncio.get_running_loop()
        intake = Intake(disk, lambda act: loop.run_in_executor(threads, act))

        async def take() -> None:
            nonlocal num_taken
            try:
                for chunk in chunks:
                    await intake.add(chunk)
                    num_taken += 1
            finally:
                await intake.settle()

        taking = asyncio.create_task(take())
        for _ in range(100):
            await asyncio.sleep(0)
        before = num_taken
        disk.may_go_on.set()
        await taking
    return before


def _cut(data: bytes, sizes: list[int]) -> list[bytes]:
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [data[start : start + size] for start, size in zip(starts, sizes, strict=True)]


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.one_of(st.integers(1, 9000), st.just(CHUNK_BYTES)), max_size=5))
def test_what_is_taken_in_is_written_in_order(sizes) -> None:
    disk, chunks = _Disk(), _cut(BYTES, sizes)
    asyncio.run(_take_in(disk, chunks))
    assert disk.written == b"".join(chunks)


def test_one_chunk_is_taken_in_while_another_is_written() -> None:
    """However large a part is and however slow the disk."""
    chunks = [BYTES[:CHUNK_BYTES]] * 14
    disk = _Disk()
    assert asyncio.run(_take_in(disk, chunks)) == 1
    assert disk.written == b"".join(chunks)


def test_nothing_is_written_behind_bytes_that_were_lost() -> None:
    disk = _Disk(room=4 * CHUNK_BYTES)
    with pytest.raises(CheckpointError, match="full"):
        asyncio.run(_take_in(disk, [BYTES[:CHUNK_BYTES]] * 14))
    assert disk.written == BYTES[:CHUNK_BYTES] * 4


def test_who_is_cut_off_while_waiting_still_has_what_was_taken_in_written() -> None:
    disk, chunk = _Disk(), BYTES[:CHUNK_BYTES]

    async def cut_off() -> None:
        with ThreadPoolExecutor(2) as threads:
            loop = asyncio.get_running_loop()
            intake = Intake(disk, lambda act: loop.run_in_executor(threads, act))
            await intake.add(chunk)
            waiting = asyncio.create_task(intake.add(chunk))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            disk.may_go_on.set()
            await intake.settle()

    asyncio.run(cut_off())
    assert disk.written == chunk


def test_what_is_taken_in_is_written_at_once_for_who_asks_and_more_may_follow() -> None:
    disk = _Disk()
    disk.may_go_on.set()

    async def ask_between() -> None:
        with ThreadPoolExecutor(2) as threads:
            loop = asyncio.get_running_loop()
            intake = Intake(disk, lambda act: loop.run_in_executor(threads, act))
            await intake.add(BYTES[:1000])
            await intake.settle()
            assert disk.written == BYTES[:1000]
            await intake.add(BYTES[1000:5000])
            await intake.settle()

    asyncio.run(ask_between())
    assert disk.written == BYTES[:5000]
