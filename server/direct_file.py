"""A large file that is written once, from one end to the other, past the system's cache.

Nobody reads a checkpoint in the moment after it arrived, and finding memory for its pages takes
more processor time than all else that is done with them. So bytes are gathered in blocks that a
disk can take as they lie. A file system that wants them by way of its cache gets them so.
"""

import contextlib
import errno
import fcntl
import mmap
import os

from wardround.shared.checkpoint import Chunk

GATHERED_BYTES = 4 * 2**20
_UNIT_BYTES = 4096  # what disks ask for: position, length and memory must be multiples of it
_PAST_THE_CACHE = getattr(os, "O_DIRECT", 0)  # Linux


class Block:
    """Memory for the bytes of a file from one position on, at most `GATHERED_BYTES` of them.

    A full block ends where a disk can go on; filling and writing may be done by two threads, one
    after the other.
    """

    def __init__(self) -> None:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = memoryview(mmap.mmap(-1, GATHERED_BYTES, private))
        self._length = self._capacity = 0

    def begin(self, position: int) -> None:
        """Be empty, for the bytes from `position` of the file on."""
        self._length, self._capacity = 0, GATHERED_BYTES - position % _UNIT_BYTES

    def add(self, chunk: Chunk) -> Chunk:
        """Take in as much as there is room for; return the rest."""
        taken = min(len(chunk), self._capacity - self._length)
        self._memory[self._length : self._length + taken] = chunk[:taken]
        self._length += taken
        return chunk[taken:]

    @property
    def is_full(self) -> bool:
        """Whether there is no more room."""
        return self._length == self._capacity

    @property
    def content(self) -> memoryview:
        """What was added since it began."""
        return self._memory[: self._length]


class DirectFile:
    """Writes at the end of an open file.

    Args:
        handle: Open for writing; its owner closes it.
        size: How many bytes the file has.
    """

    def __init__(self, handle: int, size: int) -> None:
        self._handle = handle
        self._size = size

    def write(self, data: memoryview) -> None:
        """Write the next bytes; best those of a full `Block`.

        Raises:
            OSError: They cannot all be written; some of the first may have been.
        """
        is_fit = not self._size % _UNIT_BYTES and not len(data) % _UNIT_BYTES
        with contextlib.suppress(OSError):  # not every file system can do without its cache
            self._set_flags(_PAST_THE_CACHE if is_fit else 0)
        done = 0
        while done < len(data):
            try:
                done += os.pwrite(self._handle, data[done:], self._size + done)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._flags() & _PAST_THE_CACHE:
                    raise
                self._set_flags(0)
        self._size += len(data)

    def _flags(self) -> int:
        return fcntl.fcntl(self._handle, fcntl.F_GETFL)

    def _set_flags(self, added: int) -> None:
        fcntl.fcntl(self._handle, fcntl.F_SETFL, self._flags() & ~_PAST_THE_CACHE | added)
