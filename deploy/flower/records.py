"""What one Flower message carries: an order with the parts it needs, or the result of an order.

Messages of the wire contract cross as the bytes that `codec` made. Each part of a checkpoint is
one array of bytes: Flower moves every array by itself, and a network has hundreds of tensors.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from wardround.shared.errors import WireError

ORDER, RESULT, PARTS = "order", "result", "parts"
_SAFETENSORS = "safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRecord:
    """An order on its way to a site.

    Attributes:
        site_id: Who is to carry it out.
        order: The encoded `VisitOrder` or `EvaluationOrder`.
        parts: Digest -> bytes of the parts that it needs.
        trail: The encoded `Anchor`: head of the coordinator's audit trail.
    """

    site_id: str
    order: bytes
    parts: Mapping[str, bytes]
    trail: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRecord:
    """What came of an order.

    Attributes:
        key: `key_of` the order.
        status: 0, or the exit status of the error that ended it; all else is empty then, but for
            the refusal.
        progress: Encoded `Progress` messages, in order.
        report: The encoded `VisitReport` or `EvaluationReport`.
        upload: The encoded `CheckpointUpload`; empty after an evaluation.
        parts: Part name -> bytes of what the upload announces and the parent does not hold.
        refusal: The encoded `Refusal` of a site that carries out no order; else empty.
    """

    key: str
    status: int = 0
    progress: tuple[bytes, ...] = ()
    report: bytes = b""
    upload: bytes = b""
    parts: Mapping[str, bytes] = field(default_factory=dict)
    refusal: bytes = b""


def key_of(order: bytes) -> str:
    """Return what names an order: the same for every attempt to have it carried out."""
    return hashlib.sha256(order).hexdigest()


def pack_order(record: OrderRecord) -> RecordDict:
    """Return the content of the message that brings an order."""
    config = ConfigRecord({"site": record.site_id, "order": record.order, "trail": record.trail})
    return RecordDict({ORDER: config, PARTS: _arrays(record.parts)})


def unpack_order(content: RecordDict) -> OrderRecord:
    """Return the order that a message brought.

    Raises:
        WireError: The message is not one that `pack_order` makes.
    """
    config = _config(content, ORDER, {"site": str, "order": bytes, "trail": bytes})
    return OrderRecord(
        site_id=config["site"],
        order=config["order"],
        parts=_bytes(content),
        trail=config["trail"],
    )


def pack_result(record: ResultRecord) -> RecordDict:
    """Return the content of the message that brings a result."""
    config = ConfigRecord(
        {
            "key": record.key,
            "status": record.status,
            "progress": list(record.progress),
            "report": record.report,
            "upload": record.upload,
            "refusal": record.refusal,
        }
    )
    return RecordDict({RESULT: config, PARTS: _arrays(record.parts)})


def unpack_result(content: RecordDict) -> ResultRecord:
    """Return the result that a message brought.

    Raises:
        WireError: The message is not one that `pack_result` makes.
    """
    kinds = {"key": str, "status": int, "progress": list}
    messages = dict.fromkeys(("report", "upload", "refusal"), bytes)
    config = _config(content, RESULT, {**kinds, **messages})
    if not all(isinstance(message, bytes) for message in config["progress"]):
        raise _not_ours("its progress is not a list of messages")
    return ResultRecord(
        key=config["key"],
        status=config["status"],
        progress=tuple(config["progress"]),
        report=config["report"],
        upload=config["upload"],
        parts=_bytes(content),
        refusal=config["refusal"],
    )


def _arrays(parts: Mapping[str, bytes]) -> ArrayRecord:
    return ArrayRecord(
        {name: Array("uint8", (len(data),), _SAFETENSORS, data) for name, data in parts.items()}
    )


def _bytes(content: RecordDict) -> dict[str, bytes]:
    arrays = content.array_records[PARTS]
    if any(array.stype != _SAFETENSORS for array in arrays.values()):
        raise _not_ours("a part is not a safetensors file")
    return {name: array.data for name, array in arrays.items()}


def _config(content: RecordDict, name: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    if set(content.config_records) != {name} or set(content) != {name, PARTS}:
        raise _not_ours(f"it holds {ascii(sorted(content))[:80]}, expected '{name}' and '{PARTS}'")
    if PARTS not in content.array_records:
        raise _not_ours(f"'{PARTS}' are no arrays")
    config = dict(content.config_records[name])
    found = {key: type(value) for key, value in config.items()}
    if found != kinds:
        raise _not_ours(f"'{name}' has the keys {ascii(sorted(config))[:200]}, or other types")
    return config


def _not_ours(why: str) -> WireError:
    return WireError(
        f"a Flower message is not one of this engine: {why}. "
        f"Run the same release of wardround at both ends."
    )
