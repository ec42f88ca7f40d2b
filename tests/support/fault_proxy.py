"""A TCP proxy that does to a connection what networks do: delay, throttle, cut, corrupt."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What becomes of one connection, and of those after the last one that was named: nothing.

    Attributes:
        delay_s: Each piece of at most 64 KiB waits so long before it goes on.
        cut_after: The connection is reset when so many bytes went to the coordinator, or came.
        corrupt_at: Number of the byte of either direction that arrives changed.
    """

    delay_s: float = 0.0
    cut_after: int | None = None
    corrupt_at: int | None = None


class FaultProxy:
    """Carries connections to `port` on this machine; each has the next fault of the list."""

    def __init__(self, port: int, faults: list[Fault]) -> None:
        self._target = ("127.0.0.1", port)
        self._faults = iter(faults)
        self.num_struck = 0
        self._lines: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for line in self._lines:
            line.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return  # closed, or the coordinator has ended
            self._lines += [near, far]
            fault = next(self._faults, Fault())
            for source, sink in ((near, far), (far, near)):
                threading.Thread(
                    target=self._carry, args=(source, sink, fault), daemon=True
                ).start()

    def _carry(self, source: socket.socket, sink: socket.socket, fault: Fault) -> None:
        passed = 0
        try:
            while piece := bytearray(source.recv(2**16)):
                time.sleep(fault.delay_s)
                if fault.corrupt_at is not None and 0 <= fault.corrupt_at - passed < len(piece):
                    piece[fault.corrupt_at - passed] ^= 1
                    self.num_struck += 1
                passed += len(piece)
                sink.sendall(piece)
                if fault.cut_after is not None and passed >= fault.cut_after:
                    self.num_struck += 1
                    break
        except OSError:
            pass
        for line in (source, sink):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


@contextmanager
def faulty(port: int, *faults: Fault) -> Iterator[FaultProxy]:
    """Stand between sites and the coordinator at `port`."""
    proxy = FaultProxy(port, list(faults))
    try:
        yield proxy
    finally:
        proxy.close()
