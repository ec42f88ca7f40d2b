"""The end that dials: reach the coordinator, wait for it, tell its refusals apart.

A coordinator that is away is waited for, for as long as it takes; one that refuses who is calling
is not asked again. This module knows gRPC and none of the messages.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import NoReturn, Self, TypeVar

import grpc

from wardround.shared.errors import (
    CheckpointError,
    ConnectionLost,
    IdentityError,
    StaleLease,
    WardroundError,
    WireError,
)
from wardround.shared.handshake import is_turned_away
from wardround.shared.identity import Credentials

TURNED_AWAY = 3  # in a row; once may be a coordinator that stops just then
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0

OPTIONS = (
    # Finds a dead connection while nothing is sent, which may be hours.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # The pauses between attempts are ours.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
)
_OWN = "grpc.use_local_subchannel_pool", 1  # else channels to one address share a connection
_AWAY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
)
_ERRORS: Mapping[grpc.StatusCode, type[WardroundError]] = {
    grpc.StatusCode.UNAUTHENTICATED: IdentityError,
    grpc.StatusCode.PERMISSION_DENIED: IdentityError,
    grpc.StatusCode.FAILED_PRECONDITION: StaleLease,
    grpc.StatusCode.INVALID_ARGUMENT: WireError,
    grpc.StatusCode.DATA_LOSS: CheckpointError,
}
# How gRPC's TLS library words that one end does not accept the other's certificate.
_NOT_TRUSTED = (
    "CERTIFICATE_VERIFY_FAILED",
    "CERTIFICATE_REQUIRED",
    "UNKNOWN_CA",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "BAD_CERTIFICATE",
    "Peer name",
    "Hostname Verification",
)

log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Connection:
    """A connection to the coordinator, made anew whenever it breaks.

    Args:
        address: HOST:PORT of the coordinator.
        credentials: Of the site, or of an operator.
        on_answer: Is told of every call that the coordinator answered, on the thread that made it.
        sleep: Waits that many seconds.
        draw: Returns a number in [0, 1), so that sites that lost the coordinator together do not
            come back together.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        *,
        on_answer: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._address, self._credentials = address, credentials
        self.on_answer = on_answer
        self._sleep, self._draw = sleep, draw
        self._turned_away = 0
        self._secure = grpc.ssl_channel_credentials(
            root_certificates=credentials.authority,
            private_key=credentials.key,
            certificate_chain=credentials.certificate,
        )
        self.channel = grpc.secure_channel(address, self._secure, options=OPTIONS)

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.channel.close()

    def one_more(self) -> grpc.Channel:
        """Return another channel, whose connection is made for its first call and ends with it."""
        return grpc.secure_channel(self._address, self._secure, options=(*OPTIONS, _OWN))

    def pauses(self) -> Iterator[float]:
        """Yield how long to wait before each further attempt, in seconds, without end."""
        longest = FIRST_PAUSE_S
        while True:
            yield longest * (0.5 + self._draw() / 2)
            longest = min(2 * longest, LONGEST_PAUSE_S)

    def call(self, what: str, act: Callable[[], _T]) -> _T:
        """Return what `act` returns, waiting for the coordinator while it is away.

        Args:
            what: What is being done, for the log line that says what is waited for.
            act: Makes one remote call.

        Raises:
            WardroundError: The coordinator refused.
        """
        pauses = self.pauses()
        while True:
            try:
                answer = act()
            except grpc.RpcError as error:
                self.wait_out(error, what, next(pauses))
            else:
                self.on_answer()
                return answer

    def wait_out(self, error: grpc.RpcError, what: str, pause_s: float) -> None:
        """Wait `pause_s` where `error` means that the coordinator is away, else raise what it is.

        Raises:
            WardroundError: The coordinator refused.
        """
        try:
            self.explain(error)
        except ConnectionLost as lost:
            is_refused = is_turned_away(self._address, self._credentials)
            self._turned_away = self._turned_away + 1 if is_refused else 0
            if self._turned_away >= TURNED_AWAY:
                raise self._not_accepted("it closes the connection on seeing this one's") from lost
            log.warning("%s: %s Next try in %.1f s.", what, lost, pause_s)
            self._sleep(pause_s)

    def explain_at_once(self, error: grpc.RpcError) -> NoReturn:
        """Raise `error` as one of our own, and tell who refuses from who is away without waiting.

        Raises:
            WardroundError: As `explain`.
        """
        try:
            self.explain(error)
        except ConnectionLost as lost:
            if is_turned_away(self._address, self._credentials):
                raise self._not_accepted("it closes the connection on seeing this one's") from lost
            raise

    def explain(self, error: grpc.RpcError) -> NoReturn:
        """Raise `error` as one of our own.

        Raises:
            ConnectionLost: The coordinator is away; trying again may help.
            IdentityError: One end does not accept the other's certificate.
            WardroundError: What the coordinator refused, in its words.
        """
        code, text = _status(error)
        if code is grpc.StatusCode.UNAVAILABLE and any(mark in text for mark in _NOT_TRUSTED):
            raise self._not_accepted(text) from error
        if code in _AWAY or (code is grpc.StatusCode.INTERNAL and text):
            raise ConnectionLost(
                f"the coordinator at '{self._address}' cannot be reached ({text:.200})."
            ) from error
        if code in _ERRORS:
            raise _ERRORS[code](text) from error
        raise WireError(
            f"the coordinator at '{self._address}' failed ({code}: {text:.200}). "
            f"Look at its log; both sides must run the same release."
        ) from error

    def _not_accepted(self, why: str) -> IdentityError:
        return IdentityError(
            f"the coordinator at '{self._address}' and this end do not accept each other's "
            f"certificates ({why:.300}). Check the address, and that both were approved by the "
            f"same authority and are not expired."
        )


def _status(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    if isinstance(error, grpc.Call):
        return error.code(), error.details() or ""
    return grpc.StatusCode.UNKNOWN, str(error)
