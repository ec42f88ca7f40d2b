"""A direct file ends as the bytes that were written, on whatever file system."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.server import direct_file
from wardround.server.direct_file import GATHERED_BYTES, Block, DirectFile

BYTES = bytes(range(251)) * 60_000  # 15 MB


def write(path: Path, chunks: list[bytes]) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        size, block = os.fstat(handle).st_size, Block()
        file = DirectFile(handle, size)
        block.begin(size)
        for chunk in chunks:
            rest = chunk
            while rest := block.add(rest):
                assert block.is_full
                file.write(block.content)
                block.begin(0)
        file.write(block.content)
    finally:
        os.close(handle)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, start = [], 0
    for size in sizes:
        chunks.append(data[start : start + size])
        start += size
    return chunks


SIZE = st.one_of(
    st.integers(0, 9000),
    st.sampled_from([4096, 2**20, GATHERED_BYTES - 1, GATHERED_BYTES, GATHERED_BYTES + 1]),
)


@settings(max_examples=40, deadline=None)
@given(
    before=st.integers(0, 9000), sizes=st.lists(SIZE, max_size=5), again=st.lists(SIZE, max_size=3)
)
def test_what_was_written_is_there(tmp_path_factory, before, sizes, again) -> None:
    path = tmp_path_factory.mktemp("file") / "part"
    path.write_bytes(BYTES[:before])
    written = BYTES[:before]
    for some in (sizes, again):
        write(path, cut(BYTES, some))
        written += b"".join(cut(BYTES, some))
    assert path.read_bytes() == written


def test_the_cache_is_passed_by_where_there_is_a_way(tmp_path: Path, monkeypatch) -> None:
    flags = []
    pwrite = os.pwrite

    def noted(handle: int, data: memoryview, offset: int) -> int:
        flags.append(direct_file.fcntl.fcntl(handle, direct_file.fcntl.F_GETFL) & os.O_DIRECT)
        return pwrite(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", noted)
    write(tmp_path / "part", [BYTES])
    if not any(flags):
        pytest.skip("the file system of the temporary folder writes through its cache alone")
    *whole, last = flags
    assert all(whole)
    assert len(whole) == len(BYTES) // GATHERED_BYTES
    assert not last


def test_a_file_system_that_refuses_in_the_act_gets_the_bytes_by_its_cache(
    tmp_path: Path, monkeypatch
) -> None:
    pwrite = os.pwrite

    def refusing(handle: int, data: memoryview, offset: int) -> int:
        if direct_file.fcntl.fcntl(handle, direct_file.fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "not aligned")
        return pwrite(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", refusing)
    write(tmp_path / "part", [BYTES])
    assert (tmp_path / "part").read_bytes() == BYTES


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "part", [b"gathered"])
