"""What the C library does with memory that chunks have passed through: kept while more come.

Left alone, glibc gives each freed block of 1 MiB back to the system, and each new one is filled
with zeros page by page, which takes more time than the transfer does. Told to keep such blocks, it
never gives back those that lie below a small one in use, so a process that runs for weeks would
grow. Both are said here; other C libraries have neither habit and are left alone.
"""

import ctypes

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8

_LIBRARY = ctypes.CDLL(None)


def keep_freed_memory() -> None:
    """Have this process keep some freed MiB; called once, before chunks are moved."""
    if hasattr(_LIBRARY, "mallopt"):
        _LIBRARY.mallopt(_MMAP_THRESHOLD, 4 * 2**20)  # a chunk and its message are smaller
        _LIBRARY.mallopt(_TRIM_THRESHOLD, 8 * 2**20)
        _LIBRARY.mallopt(_ARENA_MAX, 2)  # each thread would keep its own


def return_freed_memory() -> None:
    """Give all freed memory back to the system; called when a transfer is over."""
    if hasattr(_LIBRARY, "malloc_trim"):
        _LIBRARY.malloc_trim(0)
