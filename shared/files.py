"""Files that are on the disk when the function that wrote them returns, with the mode asked for."""

import os
import tempfile
from pathlib import Path

PRIVATE = 0o600  # the owner alone reads and writes
PUBLIC = 0o644


def write_once(path: Path, data: bytes, *, mode: int = PUBLIC) -> None:
    """Write a file that must not exist yet.

    Raises:
        FileExistsError: It exists; it is as it was before.
        OSError: It cannot be written; there is none of that name.
    """
    # The mode is given at opening: a key is never readable by others, not for a moment.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        _fill(handle, data)
    except BaseException:
        path.unlink()
        raise
    fsync_folder(path.parent)


def write_over(path: Path, data: bytes) -> None:
    """Write a file that everybody may read, in the place of the one that may be there.

    Raises:
        OSError: It cannot be written; what was there is as it was before.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    incoming = Path(name)
    try:
        os.fchmod(handle, PUBLIC)
        _fill(handle, data)
        incoming.replace(path)
    finally:
        incoming.unlink(missing_ok=True)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(handle: int, data: bytes) -> None:
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
