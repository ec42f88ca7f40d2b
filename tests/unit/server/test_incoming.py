import errno
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from wardround.server.incoming import Incoming
from wardround.server.store import ArtefactStore
from wardround.shared.checkpoint import part_ref
from wardround.shared.errors import CheckpointError, ConnectionLost, WireError
from wardround.shared.messages import PartRef, TensorSpec
from wardround.shared.tensor_check import TensorCheck

DATA = save({"w": np.arange(1260, dtype=np.float32)})
PART = part_ref("segmenter", DATA)
SPEC = TensorSpec(name="w", shape=(1260,), dtype="F32")


def receive(store: ArtefactStore, part: PartRef, offset: int) -> Incoming:
    return store.receive(part, offset, check=TensorCheck(part, (SPEC,)))


def partial(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "partial").glob("*"))


def test_a_part_goes_on_in_another_process_where_it_was_cut(tmp_path: Path) -> None:
    first = receive(ArtefactStore(tmp_path), PART, 0)
    first.write(DATA[:1000])
    first.write(DATA[1000:3000])
    first.close()

    store = ArtefactStore(tmp_path)
    store.sweep()
    assert store.arrived(PART) == 3000
    second = receive(store, PART, 3000)
    second.write(DATA[3000:])
    store.adopt(second)
    second.close()
    assert store.has(PART)
    assert store.path(PART.digest).read_bytes() == DATA
    assert partial(tmp_path) == []


def test_what_is_not_yet_on_the_disk_has_arrived_and_is_gone_on_from(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    first = receive(store, PART, 0)
    first.write(DATA[:1000])
    assert store.arrived(PART) == 1000
    second = receive(store, PART, 1000)
    with pytest.raises(ConnectionLost):
        first.write(DATA[1000:])
    second.write(DATA[1000:])
    store.adopt(second)
    second.close()
    assert store.path(PART.digest).read_bytes() == DATA


def test_what_lies_behind_the_offset_is_sent_again(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    first = receive(store, PART, 0)
    first.write(DATA[:1000] + b"spoilt")
    first.close()
    second = receive(store, PART, 1000)
    second.write(DATA[1000:])
    store.adopt(second)
    second.close()
    assert store.has(PART)


def test_an_offset_beyond_what_arrived_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="from byte 1, and 0 bytes are here"):
        receive(ArtefactStore(tmp_path), PART, 1)


def test_an_end_that_comes_too_soon_keeps_what_arrived(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    incoming = receive(store, PART, 0)
    incoming.write(DATA[:7])
    with pytest.raises(ConnectionLost, match="7 of 5112 bytes"):
        store.adopt(incoming)
    incoming.close()
    assert store.arrived(PART) == 7
    assert not store.has(PART)


@pytest.mark.parametrize("data", [DATA[:-1] + b"x", DATA + b"x"], ids=["digest", "size"])
def test_other_bytes_than_announced_leave_nothing(tmp_path: Path, data: bytes) -> None:
    store = ArtefactStore(tmp_path)
    incoming = receive(store, PART, 0)

    def take_in() -> None:
        incoming.write(data)
        store.adopt(incoming)

    with pytest.raises(CheckpointError):
        take_in()
    incoming.close()
    assert partial(tmp_path) == []
    assert not store.has(PART)


@pytest.mark.parametrize("offset", [0, 1000])
def test_a_part_with_other_tensors_leaves_nothing(tmp_path: Path, offset: int) -> None:
    """Those that arrived before a cut are looked at too."""
    store = ArtefactStore(tmp_path)
    other = save({"x": np.arange(1260, dtype=np.float32)})
    part = part_ref("segmenter", other)
    first = receive(store, part, 0)
    first.write(other[:offset])
    first.close()
    incoming = receive(store, part, offset)
    incoming.write(other[offset:])
    with pytest.raises(CheckpointError, match="missing 'w'"):
        store.adopt(incoming)
    incoming.close()
    assert partial(tmp_path) == []
    assert not store.has(part)


def test_the_later_sender_of_a_part_cuts_the_earlier_one_off(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    first = receive(store, PART, 0)
    first.write(DATA[:100])
    second = receive(store, PART, 100)
    with pytest.raises(ConnectionLost, match="another connection"):
        first.write(DATA[100:])
    second.write(DATA[100:])
    store.adopt(second)
    second.close()
    assert store.has(PART)


def test_partial_files_of_other_uploads_are_dropped(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    other = part_ref("segmenter", b"other")
    for part in (PART, other):
        incoming = receive(store, part, 0)
        incoming.write(b"o")
        incoming.close()
    store.keep_partial([PART])
    assert partial(tmp_path) == [PART.digest]


def test_nothing_is_written_behind_bytes_that_were_lost(tmp_path: Path, monkeypatch) -> None:
    store = ArtefactStore(tmp_path)
    incoming = receive(store, PART, 0)
    incoming.write(DATA[:1000])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(CheckpointError, match="No space left"):
            incoming.write(DATA[1000:2000])
    with pytest.raises(CheckpointError, match="No space left"):
        incoming.write(DATA[2000:])
    incoming.close()
    assert store.arrived(PART) == 1000
    second = receive(store, PART, 1000)
    second.write(DATA[1000:])
    store.adopt(second)
    second.close()
    assert store.path(PART.digest).read_bytes() == DATA


@pytest.mark.parametrize("name", ["fdatasync", "fsync"])
def test_a_disk_that_cannot_keep_what_it_has_is_told(tmp_path: Path, monkeypatch, name) -> None:
    store = ArtefactStore(tmp_path)
    incoming = receive(store, PART, 0)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def take_in() -> None:
        incoming.write(DATA)
        store.adopt(incoming)

    with monkeypatch.context() as patched:
        patched.setattr(os, name, broken)
        with pytest.raises(CheckpointError, match="Input/output error"):
            take_in()
    incoming.close()
    assert not store.has(PART)


def test_a_write_that_the_system_takes_in_pieces_is_whole(tmp_path: Path, monkeypatch) -> None:
    store = ArtefactStore(tmp_path)
    incoming = receive(store, PART, 0)
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:999], at))
    incoming.write(DATA)
    store.adopt(incoming)
    incoming.close()
    assert store.path(PART.digest).read_bytes() == DATA
