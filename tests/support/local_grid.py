"""Flower's `Grid` inside one process: every message is answered at once, unless a mishap is due."""

from collections.abc import Iterable, Iterator, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

NOT_TAKEN = "not taken"
RESTARTED = "restarted"


class LocalGrid(Grid):
    """One node for each site, under its name.

    Args:
        apps: site_id -> its ClientApp.
        mishaps: What happens to the first messages: None nothing, a number that error of Flower
            instead of the reply (the site has worked all the same), NOT_TAKEN no message is sent,
            RESTARTED the site's SuperNode is gone with the message, and there again at once.
    """

    def __init__(
        self, apps: Mapping[str, ClientApp], mishaps: Iterable[int | str | None] = ()
    ) -> None:
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
        self.names = list(apps)
        self.sent: list[Message] = []
        self._num_starts = dict.fromkeys(apps, 1)
        self.apps, self._mishaps = apps, iter(mishaps)
        self._replies: dict[str, Message] = {}

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [
            NodeInfo(
                node_id=self._apps_index(name),
                name=name,
                last_activated_at=f"start {self._num_starts[name]}",
            )
            for name in self.names
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        (message,) = messages
        mishap = next(self._mishaps, None)
        if mishap == NOT_TAKEN:
            return [None]
        self.sent.append(message)
        key = str(len(self.sent))
        message.metadata.__dict__["_message_id"] = key
        name, app = list(self.apps.items())[message.metadata.dst_node_id - 1]
        if mishap == RESTARTED:
            self._num_starts[name] += 1
            return [key]
        context = Context(1, message.metadata.dst_node_id, {}, RecordDict(), {})
        reply = app(message, context)
        if mishap is not None:
            reply = Message(Error(code=mishap, reason="lost"), reply_to=message)
        self._replies[key] = reply
        return [key]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        return iter([self._replies.pop(key) for key in message_ids if key in self._replies])

    def _apps_index(self, name: str) -> int:
        return list(self.apps).index(name) + 1

    def get_node_ids(self) -> Iterable[int]:
        return [node.node_id for node in self.get_nodes()]

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *arguments, **named) -> Message:
        raise NotImplementedError

    def send_and_receive(self, messages, *, timeout=None) -> Iterable[Message]:
        raise NotImplementedError
