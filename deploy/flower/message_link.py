"""A site's link to the coordinator while it answers one Flower message.

What it may fetch came with the message; what it hands over is collected into the one reply.
"""

from collections.abc import Iterator

from wardround.deploy.flower.records import OrderRecord, ResultRecord, key_of
from wardround.shared.checkpoint import Chunk, chunks_of
from wardround.shared.errors import WireError
from wardround.shared.messages import PartRef


class MessageLink:
    """The `CoordinatorLink` of one order.

    Args:
        order: What the message brought.
    """

    def __init__(self, order: OrderRecord) -> None:
        self._order = order
        self._progress: list[bytes] = []
        self._parts: dict[str, bytes] = {}
        self._report = self._upload = b""

    def result(self) -> ResultRecord:
        """Return what the site handed over.

        Raises:
            WireError: It ended the order with neither commit nor evaluation.
        """
        if not self._report:
            raise WireError(
                f"site '{self._order.site_id}' ended its order without a report. "
                f"This is a fault of wardround; report it."
            )
        return ResultRecord(
            key=key_of(self._order.order),
            progress=tuple(self._progress),
            report=self._report,
            upload=self._upload,
            parts=self._parts,
        )

    def trail_head(self) -> bytes:
        """Return what came beside the order."""
        return self._order.trail

    def fetch(self, part: PartRef) -> Iterator[Chunk]:
        """Yield the bytes of a part that came with the order."""
        if part.digest not in self._order.parts:
            raise WireError(
                f"part '{part.name}' did not come with the order. "
                f"Run the same release of wardround at both ends."
            )
        yield from chunks_of(self._order.parts[part.digest])

    def progress(self, message: bytes) -> None:
        """Keep a progress message for the reply: Flower has no way to send it earlier."""
        self._progress.append(message)

    def deliver(self, announcement: bytes, part_name: str, data: bytes) -> None:
        """Keep a part for the reply; the announcement goes with the commit."""
        del announcement
        self._parts[part_name] = data

    def commit(self, report: bytes, upload: bytes) -> None:
        """Keep the end of a visit for the reply."""
        self._report, self._upload = report, upload

    def evaluated(self, report: bytes) -> None:
        """Keep the end of an evaluation for the reply."""
        self._report = report
