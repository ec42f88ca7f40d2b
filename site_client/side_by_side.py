"""Do work on threads of its own, watched and stopped from the thread that began it.

Torch releases the interpreter inside its kernels, so two trainings on small images fill two cores,
which two torch threads inside one such training do not.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
Watch = Callable[[int, int], None]

LOOK_INTERVAL_S = 0.25


class Stopped(Exception):
    """Raised inside the work, at its next step, once nobody waits for its result."""


@dataclass(slots=True)
class _Position:
    step: int = 0
    steps: int = 0
    stopped: bool = False

    def watch(self, step: int, steps: int) -> None:
        if self.stopped:
            raise Stopped
        self.step, self.steps = step, steps


@dataclass(frozen=True, slots=True)
class Work(Generic[T]):
    """Work under way."""

    future: Future[T]
    position: _Position

    def wait(self, watch: Watch) -> T:
        """Return the result; until then tell `watch`, on the caller's thread, how far it is.

        Raises:
            Exception: Whatever the work raised.
        """
        while not wait([self.future], timeout=LOOK_INTERVAL_S).done:
            watch(self.position.step, self.position.steps)
        return self.future.result()


@contextmanager
def alongside(work: Callable[[Watch], T]) -> Iterator[Work[T]]:
    """Run `work` beside the block.

    Args:
        work: Given a function to call with (step, steps) after every step of its own; that call
            raises `Stopped` where the block was left by an error, and the work must let it pass.
    """
    position = _Position()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="alongside") as threads:
        try:
            yield Work(threads.submit(work, position.watch), position)
        except BaseException:
            position.stopped = True
            raise


def two_at_a_time(
    works: Sequence[Callable[[Watch], T]], watch: Callable[[Sequence[tuple[int, int]]], None]
) -> list[T]:
    """Return the results of all works, in their order; at most two run at a time.

    Args:
        works: Each as for `alongside`. Where one raises, the others are stopped.
        watch: Told now and then, on the caller's thread, the (step, steps) of each.

    Raises:
        Exception: Whatever the first of the works that failed raised.
    """
    positions = [_Position() for _ in works]
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="two-at-a-time") as threads:
        try:
            futures = [
                threads.submit(work, position.watch)
                for work, position in zip(works, positions, strict=True)
            ]
            while wait(futures, timeout=LOOK_INTERVAL_S, return_when=FIRST_EXCEPTION).not_done:
                for future in futures:
                    if future.done():
                        future.result()  # raises what the work raised
                watch([(position.step, position.steps) for position in positions])
        except BaseException:
            for position in positions:
                position.stopped = True
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    watch([(position.step, position.steps) for position in positions])
    return [future.result() for future in futures]
