import errno
import hashlib
import os
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from wardround.server.store import ArtefactStore
from wardround.shared.checkpoint import CHUNK_BYTES, chunks_of, part_ref, verified
from wardround.shared.errors import CheckpointError
from wardround.shared.messages import PartRef, TensorSpec
from wardround.shared.tensor_check import TensorCheck

DATA = save({"w": np.zeros(CHUNK_BYTES // 2 - 20, np.float32)})  # two chunks
PART = part_ref("segmenter", DATA)
SPEC = TensorSpec(name="w", shape=(CHUNK_BYTES // 2 - 20,), dtype="F32")


def _check():
    return TensorCheck(PART, (SPEC,))


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def store(tmp_path):
    return ArtefactStore(tmp_path)


def test_a_part_lies_under_its_digest_and_is_read_back_in_chunks(store, tmp_path):
    assert not store.has(PART)
    store.put(PART, chunks_of(DATA), check=_check())
    digest = hashlib.sha256(DATA).hexdigest()
    assert _files(tmp_path) == [tmp_path / "sha256" / digest[:2] / digest[2:]]
    assert store.has(PART)
    chunks = list(store.read(PART))
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES]
    assert b"".join(chunks) == DATA


def test_a_part_that_is_here_is_not_read_again(store):
    store.put(PART, chunks_of(DATA), check=_check())

    def never():
        raise AssertionError
        yield b""

    store.put(PART, never(), check=_check())


@pytest.mark.parametrize(
    "arrived",
    [b"", DATA[:-1], DATA + b"x", DATA[:-1] + b"x"],
    ids=["none", "less", "more", "other"],
)
def test_bytes_that_are_not_the_announced_ones_leave_nothing(store, tmp_path, arrived):
    with pytest.raises(CheckpointError, match="Send the part again"):
        store.put(PART, chunks_of(arrived), check=_check())
    assert _files(tmp_path) == []


def test_more_bytes_than_announced_are_not_even_written(store):
    taken = []

    def endless():
        while True:
            taken.append(CHUNK_BYTES)
            yield bytes(CHUNK_BYTES)

    with pytest.raises(CheckpointError, match="more than"):
        store.put(PART, endless(), check=_check())
    assert len(taken) == 3


def test_a_file_with_other_tensors_never_gets_its_name(store, tmp_path):
    check = TensorCheck(PART, (replace(SPEC, dtype="F16"),))
    with pytest.raises(CheckpointError, match="'w' is F32"):
        store.put(PART, chunks_of(DATA), check=check)
    assert _files(tmp_path) == []


def test_an_upload_that_breaks_off_leaves_nothing(store, tmp_path):
    def breaks():
        yield DATA[:10]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        store.put(PART, breaks(), check=_check())
    assert _files(tmp_path) == []


def test_a_full_disk_is_said_and_leaves_nothing(store, tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        store.put(PART, chunks_of(DATA), check=_check())
    assert _files(tmp_path) == []


def test_a_file_damaged_on_the_disk_is_found_by_who_reads_it_and_mended_when_put(store):
    store.put(PART, chunks_of(DATA), check=_check())
    store.path(PART.digest).write_bytes(b"x" + DATA[1:])
    with pytest.raises(CheckpointError, match="arrived with digest"):
        list(verified(PART, store.read(PART)))
    store.put(PART, chunks_of(DATA), check=_check())
    assert b"".join(store.read(PART)) == DATA


def test_a_file_of_another_size_is_not_the_part(store):
    store.put(PART, chunks_of(DATA), check=_check())
    other = PartRef(name="segmenter", digest=PART.digest, size_bytes=PART.size_bytes + 1)
    assert not store.has(other)


def test_a_part_that_is_gone_is_said(store):
    with pytest.raises(CheckpointError, match="cannot be read"):
        list(store.read(PART))


def test_a_sweep_removes_what_a_killed_process_left_and_nothing_else(store, tmp_path):
    store.put(PART, chunks_of(DATA), check=_check())
    left = store.path(PART.digest).parent / ".incoming-x"
    left.write_bytes(b"half")
    store.sweep()
    assert _files(tmp_path) == [store.path(PART.digest)]
