"""Keep the memory that chunks pass through, instead of asking the system for it chunk by chunk."""

_KEPT_BYTES = 4 * 2**20


def keep_freed_memory() -> None:
    """Have this process keep freed memory of a few MiB; call it once, before chunks are moved.

    The C library returns large freed blocks to the system at once, and each new one is filled
    with zeros page by page: while messages of 1 MiB come and go this takes more time than the
    network does. glibc learns from the largest block it has seen freed, so one is freed here. Other
    libraries have no such habit, and lose nothing.
    """
    bytearray(_KEPT_BYTES)
