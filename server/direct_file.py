"""A large file that is written once, from one end to the other, past the system's cache.

Nobody reads a checkpoint in the moment after it arrived, and finding memory for its pages takes
more processor time than all else that is done with them. So bytes are gathered and handed to the
disk as they lie, while the next ones are gathered. A file system that wants them by way of its
cache gets them so.
"""

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from wardround.shared.checkpoint import Chunk

GATHERED_BYTES = 2 * 2**20
_BLOCK_BYTES = 4096  # what disks ask for: position, length and memory must be multiples of it
_PAST_THE_CACHE = getattr(os, "O_DIRECT", 0)  # Linux


class DirectFile:
    """Writes at the end of an open file. A process that dies loses what is gathered.

    Args:
        handle: Open for reading and writing; its owner closes it, after `settle`.
        size: How many bytes the file has.
        look_at: Is shown what was added, in order, many bytes at a time; may not keep them.
    """

    def __init__(self, handle: int, size: int, look_at: Callable[[memoryview], None]) -> None:
        self._handle, self._look_at = handle, look_at
        self._gathered, self._other = _new_memory(), _new_memory()
        self._start = size - size % _BLOCK_BYTES  # where the gathered bytes belong
        self._length = self._num_seen = size - self._start
        self._gathered[: self._length] = os.pread(handle, self._length, self._start)
        with contextlib.suppress(OSError):  # not every file system can do without its cache
            self._set_flags(_PAST_THE_CACHE)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._writing: Future[None] | None = None

    def write(self, chunk: Chunk) -> None:
        """Add the next bytes.

        Raises:
            OSError: Bytes cannot be written; they may be earlier ones.
        """
        rest = memoryview(chunk)
        while rest:
            taken = min(len(rest), GATHERED_BYTES - self._length)
            self._gathered[self._length : self._length + taken] = rest[:taken]
            self._length, rest = self._length + taken, rest[taken:]
            if self._length == GATHERED_BYTES:
                self._hand_over()

    def settle(self) -> None:
        """Write what is gathered. Nothing can be written afterwards.

        Raises:
            OSError: Bytes cannot be written.
        """
        try:
            self._wait()
            self._set_flags(0)  # the last bytes do not fill a block
            self._hand_over()
            self._wait()
        finally:
            self._thread.shutdown()
            self._gathered = self._other = memoryview(b"")
            self._length = self._num_seen = 0

    def _hand_over(self) -> None:
        if not self._length:
            return
        self._wait()
        full = self._gathered[: self._length]
        self._writing = self._thread.submit(self._write_all, full, self._start)
        self._look_at(full[self._num_seen :])  # meanwhile
        self._start, self._length, self._num_seen = self._start + self._length, 0, 0
        self._gathered, self._other = self._other, self._gathered

    def _wait(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            try:
                writing.result()
            except OSError:
                # Written behind a gap they would be worth nothing.
                self._length = self._num_seen = 0
                raise

    def _write_all(self, data: memoryview, start: int) -> None:
        done = 0
        while done < len(data):
            try:
                done += os.pwrite(self._handle, data[done:], start + done)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._flags() & _PAST_THE_CACHE:
                    raise
                self._set_flags(0)

    def _flags(self) -> int:
        return fcntl.fcntl(self._handle, fcntl.F_GETFL)

    def _set_flags(self, added: int) -> None:
        fcntl.fcntl(self._handle, fcntl.F_SETFL, self._flags() & ~_PAST_THE_CACHE | added)


def _new_memory() -> memoryview:
    return memoryview(mmap.mmap(-1, GATHERED_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
