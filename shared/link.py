"""How a site and the coordinator reach each other, whatever carries the bytes.

The coordinator's loop and a site's visit are written against these protocols; engines implement
them. Only bytes cross, in the encoding of `wardround.shared.codec`.
"""

from collections.abc import Iterator
from typing import Protocol

from wardround.shared.checkpoint import Chunk
from wardround.shared.messages import PartRef


class CoordinatorLink(Protocol):
    """What a site is given to talk through, bound to that site's identity."""

    def trail_head(self) -> bytes:
        """Return the encoded `Anchor` that came with the order: the coordinator's trail's head.

        Empty where the coordinator sent none.
        """
        ...

    def fetch(self, part: PartRef) -> Iterator[Chunk]:
        """Yield the bytes of a part of the ordered checkpoint in chunks of at most 1 MiB.

        The site checks them against the part's digest (`checkpoint.verified`).

        Raises:
            CheckpointError: The coordinator's file is gone or cannot be read.
            WireError: The part does not belong to this site's current order.
        """
        ...

    def progress(self, message: bytes) -> None:
        """Hand over an encoded `Progress`.

        Raises:
            WireError: It is not valid or not about this site's current order.
        """
        ...

    def deliver(self, announcement: bytes, part_name: str, data: bytes) -> None:
        """Upload one part of the checkpoint in `announcement`, an encoded `CheckpointUpload`.

        A part that the coordinator has already, from the parent or from an interrupted upload, need
        not be delivered again, and does no harm when it is.

        Raises:
            CheckpointError: The bytes are not the announced part, or not what the manifest allows.
            WireError: The announcement is not valid or not about this site's current order.
        """
        ...

    def commit(self, report: bytes, upload: bytes) -> None:
        """End a visit with an encoded `VisitReport` and the `CheckpointUpload` that was delivered.

        The same commit may be repeated.

        Raises:
            CheckpointError: A part is missing or not what the manifest allows.
            WireError: A message is not valid, or contradicts a commit made before.
        """
        ...

    def evaluated(self, report: bytes) -> None:
        """End an evaluation with an encoded `EvaluationReport`. The same report may be repeated.

        Raises:
            WireError: It is not valid, or contradicts a report made before.
        """
        ...


class SiteGateway(Protocol):
    """What an engine holds of each site: it carries out orders, talking through the link."""

    def visit(self, order: bytes, link: CoordinatorLink) -> None:
        """Carry out an encoded `VisitOrder`; returns after `link.commit`."""
        ...

    def evaluate(self, order: bytes, link: CoordinatorLink) -> None:
        """Carry out an encoded `EvaluationOrder`; returns after `link.evaluated`."""
        ...
