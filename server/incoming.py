"""A part on its way in: what arrived stays on the disk when the sender is cut off.

The file is named by the digest it is to have, so a sender that comes back, to this process or to
the next one, goes on where it was cut. Bytes are hashed and looked at as they arrive, and the disk
is told again and again to keep what it has, so that there is little left to wait for at the end.
"""

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from wardround.shared.checkpoint import CHUNK_BYTES, Chunk
from wardround.shared.errors import CheckpointError, ConnectionLost, WireError
from wardround.shared.messages import PartRef
from wardround.shared.tensor_check import TensorCheck


class Incoming:
    """One partial file, open for writing at its end.

    Args:
        path: The partial file; made when it does not exist, its folder must exist.
        part: What the bytes must be in the end.
        check: New; is shown every byte.
        offset: Where to go on; what lies behind it is cut off.

    Raises:
        CheckpointError: The file cannot be opened.
        WireError: Fewer than `offset` bytes are there.
    """

    def __init__(self, path: Path, part: PartRef, check: TensorCheck, offset: int) -> None:
        self.path = path
        self.part = part
        self._check = check
        self._lock = Lock()
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._fault: CheckpointError | None = None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _cannot_be_written(part, path, error) from error
        try:
            self._go_on_at(offset)
        except BaseException:
            os.close(self._file)
            raise
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._syncing: Future[None] | None = None
        self._is_open = True

    @property
    def arrived(self) -> int | None:
        """How many bytes arrived; None where nobody sends any more, and the file says it."""
        return self._size if self._is_open else None

    def write(self, content: Chunk) -> None:
        """Look at the next bytes and write them.

        Raises:
            CheckpointError: More bytes than announced, or they cannot be written.
            ConnectionLost: Another connection has begun to send the same part.
        """
        with self._lock:
            self._expect_open()
            if self._size + len(content) > self.part.size_bytes:
                self.path.unlink(missing_ok=True)
                raise CheckpointError(
                    f"part '{self.part.name}': more than the announced {self.part.size_bytes} "
                    f"bytes arrived. Announce what is sent and send the part again."
                )
            try:
                self._append(memoryview(content))
                self._keep_syncing()
            except OSError as error:
                self._fault = _cannot_be_written(self.part, self.path, error)
                self._let_go()  # what follows would lie behind a gap
                raise self._fault from error
            self._look_at(content)
            self._size += len(content)

    def finish(self) -> None:
        """Check that the file is the announced one and bring it to the disk.

        Raises:
            CheckpointError: It is not, or holds what it may not; nothing of it is kept.
            ConnectionLost: Bytes are missing still, or another connection has begun to send the
                same part; what arrived is kept.
        """
        with self._lock:
            self._expect_open()
            if self._size < self.part.size_bytes:
                # A connection that breaks looks like a sender who has no more to say.
                raise ConnectionLost(
                    f"part '{self.part.name}': {self._size} of {self.part.size_bytes} bytes "
                    f"arrived. Go on from there."
                )
            digest = self._sha256.hexdigest()
            if digest != self.part.digest:
                self.path.unlink(missing_ok=True)
                raise CheckpointError(
                    f"part '{self.part.name}': {self._size} bytes arrived with digest {digest}, "
                    f"expected {self.part.digest}. Send the part again from its first byte."
                )
            try:
                self._check.finish()
            except CheckpointError:
                self.path.unlink(missing_ok=True)
                raise
            try:
                if self._syncing is not None:
                    self._syncing.result()
                os.fsync(self._file)
            except OSError as error:
                raise _cannot_be_written(self.part, self.path, error) from error

    def close(self) -> None:
        """Let go of the file; whoever still writes to it is refused."""
        with self._lock:
            if self._is_open:
                self._let_go()

    def _let_go(self) -> None:
        self._is_open = False
        self._disk.shutdown()
        os.close(self._file)

    def _append(self, data: memoryview) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._file, data[done:], self._size + done)

    def _keep_syncing(self) -> None:
        """Have the disk keep what it has, unless it is still at it."""
        if self._syncing is not None:
            if not self._syncing.done():
                return
            self._syncing.result()
        self._syncing = self._disk.submit(_kept, self._file)

    def _go_on_at(self, offset: int) -> None:
        there = os.fstat(self._file).st_size
        if not 0 <= offset <= there:
            raise WireError(
                f"part '{self.part.name}' is sent from byte {offset}, and {there} bytes are here. "
                f"Ask how many arrived (Offer) and go on from there."
            )
        os.ftruncate(self._file, offset)
        while self._size < offset:
            chunk = os.read(self._file, min(CHUNK_BYTES, offset - self._size))
            self._look_at(chunk)
            self._size += len(chunk)

    def _look_at(self, chunk: Chunk) -> None:
        self._sha256.update(chunk)
        self._check.update(chunk)

    def _expect_open(self) -> None:
        if self._fault is not None:
            raise self._fault
        if not self._is_open:
            raise ConnectionLost(
                f"part '{self.part.name}' is being sent over another connection. "
                f"Ask how many bytes arrived and go on from there."
            )


def _kept(file: int) -> None:
    """Have the disk keep what is written, and the system's cache forget it.

    Writing then takes the same few pages again and again, instead of ever new ones that a virtual
    machine must ask its host for; nobody reads the part until another site is next.
    """
    os.fdatasync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def _cannot_be_written(part: PartRef, path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"part '{part.name}' cannot be written to '{path.name}': {error.strerror}. "
        f"Make room on the coordinator's disk and send it again."
    )
