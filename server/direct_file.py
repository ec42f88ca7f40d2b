"""A large file that is written once, from one end to the other, past the system's cache.

Nobody reads a checkpoint in the moment after it arrived, and finding memory for its pages takes
more processor time than all else that is done with them. So bytes are gathered and handed to the
disk as they lie. A file system that wants them by way of its cache gets them so.
"""

import contextlib
import errno
import fcntl
import mmap
import os

from wardround.shared.checkpoint import Chunk

GATHERED_BYTES = 4 * 2**20
_BLOCK_BYTES = 4096  # what disks ask for: position, length and memory must be multiples of it
_PAST_THE_CACHE = getattr(os, "O_DIRECT", 0)  # Linux


class DirectFile:
    """Writes at the end of an open file. A process that dies loses what is gathered.

    Args:
        handle: Open for reading and writing; its owner closes it, after `settle`.
        size: How many bytes the file has.
    """

    def __init__(self, handle: int, size: int) -> None:
        self._handle = handle
        memory = mmap.mmap(-1, GATHERED_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._gathered = memoryview(memory)
        self._start = size - size % _BLOCK_BYTES  # where the gathered bytes belong
        self._length = size - self._start
        self._gathered[: self._length] = os.pread(handle, self._length, self._start)
        with contextlib.suppress(OSError):  # not every file system can do without its cache
            self._set_flags(_PAST_THE_CACHE)

    def write(self, chunk: Chunk) -> None:
        """Add the next bytes.

        Raises:
            OSError: They cannot be written.
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
            OSError: It cannot be written.
        """
        try:
            self._set_flags(0)  # the last bytes do not fill a block
            self._hand_over()
        finally:
            self._length = 0

    def _hand_over(self) -> None:
        done = 0
        while done < self._length:
            try:
                done += os.pwrite(
                    self._handle, self._gathered[done : self._length], self._start + done
                )
            except OSError as error:
                if error.errno != errno.EINVAL or not self._flags() & _PAST_THE_CACHE:
                    raise
                self._set_flags(0)
        self._start, self._length = self._start + done, 0

    def _flags(self) -> int:
        return fcntl.fcntl(self._handle, fcntl.F_GETFL)

    def _set_flags(self, added: int) -> None:
        fcntl.fcntl(self._handle, fcntl.F_SETFL, self._flags() & ~_PAST_THE_CACHE | added)
