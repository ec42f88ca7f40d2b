"""The operator's end of the study API."""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import grpc

from wardround.shared import study_codec
from wardround.shared.connection import Connection
from wardround.shared.errors import UsageError
from wardround.shared.identity import Credentials
from wardround.shared.study_api import Change, News, StudyStatus
from wardround.wire.v1 import study_pb2 as wire
from wardround.wire.v1 import study_pb2_grpc as wire_grpc

ANSWER_S = 30.0

_T = TypeVar("_T")


class StudyClient:
    """One study at its coordinator.

    Args:
        address: HOST:PORT of the coordinator.
        credentials: Of an operator.
        study_id: The study that is meant; the coordinator refuses another.
        sleep: Waits that many seconds, while a coordinator that is away is waited for.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        study_id: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection(address, credentials, sleep=sleep)
        self._stub = wire_grpc.StudyServiceStub(self._connection.channel)
        self._study_id = study_id

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._connection.channel.close()

    def status(self) -> tuple[StudyStatus, str]:
        """Return where the study stands, and its plan as canonical JSON.

        Raises:
            ConnectionLost: The coordinator cannot be reached.
            IdentityError: It does not accept these credentials, or not for this.
            UsageError: It serves another study.
        """
        request = wire.GetStatusRequest(study_id=self._study_id)
        answer = self._call(lambda: self._stub.GetStatus(request, timeout=ANSWER_S))
        return study_codec.decode_status(answer.status), answer.plan

    def change(self, change: Change) -> StudyStatus:
        """Change how the study goes on, and return where it stands then; may be repeated.

        Raises:
            ConnectionLost: The coordinator cannot be reached; the change may have been made.
            IdentityError: It does not accept these credentials, or not for this.
            UsageError: It serves another study, or the change cannot be made.
        """
        request = study_codec.encode_change(self._study_id, change)
        answer = self._call(lambda: self._stub.Change(request, timeout=ANSWER_S))
        return study_codec.decode_status(answer.status)

    def watch(self, after: int = 0) -> Iterator[News]:
        """Yield what is new until the study has ended, waiting for a coordinator that is away.

        Args:
            after: Number of the last event that is known already.

        Raises:
            IdentityError: The coordinator does not accept these credentials, or not for this.
            UsageError: It serves another study.
        """
        pauses = self._connection.pauses()
        while True:
            call = self._stub.Watch(wire.WatchRequest(study_id=self._study_id, after=after))
            try:
                for message in call:
                    news = study_codec.decode_news(message)
                    after, pauses = news.status.num_events, self._connection.pauses()
                    yield news
                return
            except grpc.RpcError as error:
                _raise_refusal(error)
                self._connection.wait_out(error, "watching the study", next(pauses))
            finally:
                call.cancel()

    def _call(self, act: Callable[[], _T]) -> _T:
        try:
            return act()
        except grpc.RpcError as error:
            _raise_refusal(error)
            self._connection.explain_at_once(error)


def _raise_refusal(error: grpc.RpcError) -> None:
    refusals = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)
    if isinstance(error, grpc.Call) and error.code() in refusals:
        raise UsageError(error.details() or "the coordinator refused.") from error
