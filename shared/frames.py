"""Messages that carry a chunk, framed as protobuf frames them, without the copies it makes.

protobuf copies a chunk into the message and out of it again at either end, which takes as long as
hashing it. The bytes on the wire are the same. What is not framed exactly as here, as a message
with a field that this release does not know, is read by protobuf.
"""

from wardround.shared.checkpoint import Chunk
from wardround.wire.v1 import relay_pb2 as wire

_BYTES = 2  # protobuf's wire type of a field that says its length
_FETCHED = bytes([wire.FetchResponse.CHUNK_FIELD_NUMBER << 3 | _BYTES])
_DELIVERED = bytes([wire.DeliverRequest.CHUNK_FIELD_NUMBER << 3 | _BYTES])


def write_fetched(chunk: Chunk) -> bytes:
    """Return `FetchResponse(chunk=chunk)`, encoded."""
    return _framed(_FETCHED, chunk)


def read_fetched(frame: bytes) -> Chunk:
    """Return the chunk of an encoded `FetchResponse`.

    Raises:
        google.protobuf.message.DecodeError: It is none.
    """
    chunk = _chunk_in(frame, _FETCHED)
    return wire.FetchResponse.FromString(frame).chunk if chunk is None else chunk


def write_delivered(content: wire.DeliverHeader | Chunk) -> bytes:
    """Return the `DeliverRequest` that holds a header or a chunk, encoded."""
    if isinstance(content, wire.DeliverHeader):
        return wire.DeliverRequest(header=content).SerializeToString()
    return _framed(_DELIVERED, content)


def read_delivered(frame: bytes) -> wire.DeliverHeader | Chunk:
    """Return the header or the chunk of an encoded `DeliverRequest`; an empty chunk for neither.

    Raises:
        google.protobuf.message.DecodeError: It is none.
    """
    chunk = _chunk_in(frame, _DELIVERED)
    if chunk is not None:
        return chunk
    message = wire.DeliverRequest.FromString(frame)
    return message.header if message.HasField("header") else message.chunk


def _framed(tag: bytes, chunk: Chunk) -> bytes:
    return b"".join((tag, _varint(len(chunk)), chunk))


def _chunk_in(frame: bytes, tag: bytes) -> memoryview | None:
    """Return what lies behind tag and length; None where the frame is not these three alone."""
    for start in range(2, min(6, len(frame) + 1)):
        if frame[:start] == tag + _varint(len(frame) - start):
            return memoryview(frame)[start:]
    return None


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
