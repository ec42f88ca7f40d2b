"""The artefact store: files addressed by their SHA-256, written whole or not at all.

A file appears under its final name only when its bytes are on the disk, give its digest and have
passed the caller's check, so whatever is found in the store may be trusted. Bytes stream through in
chunks; a part is never held in memory.
"""

import hashlib
import os
import tempfile
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from threading import Lock

from wardround.server.incoming import Incoming
from wardround.shared.checkpoint import CHUNK_BYTES, Chunk, verified
from wardround.shared.errors import CheckpointError
from wardround.shared.files import fsync_folder
from wardround.shared.messages import PartRef
from wardround.shared.tensor_check import TensorCheck

_INCOMING = ".incoming-"
_STRETCH_BYTES = 8 * 2**20


class ArtefactStore:
    """Files under `root`/sha256/ab/cdef..., the rest of the path being the digest.

    Args:
        root: Folder of the store; made when it does not exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "sha256"
        self._partial = root / "partial"
        self._lock = Lock()
        self._receiving: dict[str, Incoming] = {}
        _make_folder(self._root)

    def path(self, digest: str) -> Path:
        """Return where the file with this digest lies, or would lie."""
        return self._root / digest[:2] / digest[2:]

    def has(self, part: PartRef) -> bool:
        """Return whether the file of `part` is here, at its full size."""
        path = self.path(part.digest)
        return path.is_file() and path.stat().st_size == part.size_bytes

    def is_whole(self, part: PartRef) -> bool:
        """Return whether the file of `part` is here and has its digest; reads all of it."""
        return self.has(part) and _digest_of_file(self.path(part.digest)) == part.digest

    def put(self, part: PartRef, chunks: Iterable[Chunk], *, check: TensorCheck) -> None:
        """Take in a part; on any error the store is as it was before.

        Args:
            part: What the bytes must be.
            chunks: The bytes in order; not read when the file is here already and whole.
            check: New; is shown every byte before the file gets its name.

        Raises:
            CheckpointError: The bytes are not the announced ones, refused, or cannot be written.
        """
        path = self.path(part.digest)
        if self.is_whole(part):
            for chunk in self.read(part):
                check.update(chunk)
            check.finish()
            return
        try:
            _make_folder(path.parent)
            handle, name = tempfile.mkstemp(prefix=_INCOMING, dir=path.parent)
            incoming = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    for passed in verified(part, chunks):
                        check.update(passed)
                        file.write(passed)
                    check.finish()
                    file.flush()
                    os.fsync(file.fileno())
                incoming.replace(path)
                fsync_folder(path.parent)
            finally:
                incoming.unlink(missing_ok=True)
        except (ConnectionError, TimeoutError):  # of the chunks' sender, not of the disk
            raise
        except OSError as error:
            raise CheckpointError(
                f"part '{part.name}' cannot be stored under '{path}': {error.strerror}. "
                f"Make room on the disk and resume the study."
            ) from error

    def arrived(self, part: PartRef) -> int:
        """Return how many bytes of a part that is not here yet were received."""
        with self._lock:
            incoming = self._receiving.get(part.digest)
            arrived = None if incoming is None else incoming.arrived
        if arrived is not None:
            return arrived
        path = self._partial / part.digest
        return path.stat().st_size if path.is_file() else 0

    def receive(self, part: PartRef, offset: int, *, check: TensorCheck) -> Incoming:
        """Begin to take in a part, or go on at `offset`; whoever sends it already is cut off.

        Args:
            part: What the bytes must be.
            offset: How many of them are here.
            check: New; is shown every byte, those that are here too.

        Raises:
            CheckpointError: The partial file cannot be opened.
            WireError: Fewer than `offset` bytes are here.
        """
        with self._lock:
            if part.digest in self._receiving:
                self._receiving.pop(part.digest).close()
            _make_folder(self._partial)
            incoming = Incoming(self._partial / part.digest, part, check, offset)
            self._receiving[part.digest] = incoming
        return incoming

    def adopt(self, incoming: Incoming) -> None:
        """Give a part that has arrived its name; when this returns, it is on the disk.

        Raises:
            CheckpointError: The bytes are not the announced ones, or refused; none are kept.
            ConnectionLost: Bytes are missing still, or another connection has begun to send the
                same part; what arrived is kept.
        """
        incoming.finish()
        with self._lock:
            if self._receiving.get(incoming.part.digest) is incoming:
                del self._receiving[incoming.part.digest]
        path = self.path(incoming.part.digest)
        try:
            _make_folder(path.parent)
            incoming.path.replace(path)
            fsync_folder(path.parent)
        except OSError as error:
            raise CheckpointError(
                f"part '{incoming.part.name}' cannot be stored under '{path}': {error.strerror}. "
                f"Make room on the disk and send it again."
            ) from error

    def keep_partial(self, parts: Iterable[PartRef]) -> None:
        """Drop what arrived of any other part, so that partial files never exceed one upload."""
        kept = {part.digest for part in parts}
        if not self._partial.is_dir():
            return
        with self._lock:
            for path in self._partial.iterdir():
                if path.name not in kept:
                    if path.name in self._receiving:
                        self._receiving.pop(path.name).close()
                    path.unlink(missing_ok=True)

    def read(self, part: PartRef, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of a part from `offset` on in chunks of 1 MiB, as they lie on the disk.

        Whoever takes them in checks them against the part's digest (`checkpoint.verified`).

        Raises:
            CheckpointError: The file is gone or cannot be read.
        """
        path = self.path(part.digest)
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
                    offset += len(chunk)
                    if offset % _STRETCH_BYTES < len(chunk):  # the next reader may be days away
                        os.posix_fadvise(file.fileno(), 0, offset, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise CheckpointError(
                f"part '{part.name}' cannot be read from '{path}': {error.strerror}. "
                f"Restore the study's folder from a copy."
            ) from error

    def remove(self, digests: Iterable[str]) -> None:
        """Remove the files with these digests, where they are here."""
        for digest in digests:
            self.path(digest).unlink(missing_ok=True)

    def keep_only(self, digests: Container[str]) -> None:
        """Remove every other file, and whatever arrived of a part that is not here yet."""
        self.keep_partial(())
        for path in self._root.glob("*/*"):
            if path.parent.name + path.name not in digests:
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what `put` left when it was cut; only for who writes to this store alone.

        What `receive` took in stays, to be gone on with.
        """
        for path in self._root.glob(f"*/{_INCOMING}*"):
            path.unlink(missing_ok=True)


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)
