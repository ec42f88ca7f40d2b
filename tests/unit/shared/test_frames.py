import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from wardround.shared.checkpoint import CHUNK_BYTES
from wardround.shared.frames import read_delivered, read_fetched, write_delivered, write_fetched
from wardround.wire.v1 import relay_pb2 as wire

SIZES = [1, 127, 128, 16383, 16384, CHUNK_BYTES, 2**21 - 1, 2**21]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_a_frame_is_what_protobuf_writes(size: int, kind) -> None:
    chunk = bytes(range(256)) * (size // 256) + b"\xff" * (size % 256)
    fetched, delivered = wire.FetchResponse(chunk=chunk), wire.DeliverRequest(chunk=chunk)
    assert write_fetched(kind(chunk)) == fetched.SerializeToString()
    assert write_delivered(kind(chunk)) == delivered.SerializeToString()
    assert read_fetched(fetched.SerializeToString()) == chunk
    assert read_delivered(delivered.SerializeToString()) == chunk


@pytest.mark.parametrize("size", SIZES)
def test_a_chunk_is_not_copied_out_of_its_frame(size: int) -> None:
    assert isinstance(read_fetched(write_fetched(bytes(size))), memoryview)
    assert isinstance(read_delivered(write_delivered(bytes(size))), memoryview)


def test_a_header_passes_whole() -> None:
    header = wire.DeliverHeader(token="t", announcement=b"\x12\x01x", part_name="p", offset=7)
    assert read_delivered(write_delivered(header)) == header


def test_an_empty_message_holds_no_bytes() -> None:
    assert read_fetched(b"") == read_delivered(b"") == b""


@given(st.binary(max_size=40))
def test_whatever_arrives_is_read_as_protobuf_reads_it(tail: bytes) -> None:
    for frame in (tail, b"\x0a" + tail, b"\x12" + tail, b"\x12\x03" + tail, b"\x0a\x80\x00" + tail):
        assert _outcome(read_fetched, frame) == _outcome(_plain_fetched, frame)
        assert _outcome(read_delivered, frame) == _outcome(_plain_delivered, frame)


def _plain_fetched(frame: bytes):
    return wire.FetchResponse.FromString(frame).chunk


def _plain_delivered(frame: bytes):
    message = wire.DeliverRequest.FromString(frame)
    return message.header if message.HasField("header") else message.chunk


def _outcome(read, frame: bytes):
    try:
        return read(frame)
    except DecodeError:
        return DecodeError
