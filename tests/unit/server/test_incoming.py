from pathlib import Path

import pytest

from wardround.server.store import ArtefactStore
from wardround.shared.checkpoint import part_ref
from wardround.shared.errors import CheckpointError, ConnectionLost, WireError

DATA = bytes(range(256)) * 20
PART = part_ref("segmenter", DATA)


def accept(path: Path) -> None:
    assert path.read_bytes() == DATA


def refuse(path: Path) -> None:
    raise CheckpointError("refused")


def partial(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "partial").glob("*"))


def test_a_part_goes_on_in_another_process_where_it_was_cut(tmp_path: Path) -> None:
    first = ArtefactStore(tmp_path).receive(PART, 0)
    first.write(DATA[:1000])
    first.write(DATA[1000:3000])
    first.close()

    store = ArtefactStore(tmp_path)
    store.sweep()
    assert store.arrived(PART) == 3000
    second = store.receive(PART, 3000)
    second.write(DATA[3000:])
    store.adopt(second, check=accept)
    second.close()
    assert store.has(PART)
    assert store.path(PART.digest).read_bytes() == DATA
    assert partial(tmp_path) == []


def test_what_lies_behind_the_offset_is_sent_again(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    first = store.receive(PART, 0)
    first.write(DATA[:1000] + b"spoilt")
    first.close()
    second = store.receive(PART, 1000)
    second.write(DATA[1000:])
    store.adopt(second, check=accept)
    second.close()
    assert store.has(PART)


def test_an_offset_beyond_what_arrived_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="from byte 1, and 0 bytes are here"):
        ArtefactStore(tmp_path).receive(PART, 1)


def test_an_end_that_comes_too_soon_keeps_what_arrived(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    incoming = store.receive(PART, 0)
    incoming.write(DATA[:7])
    with pytest.raises(ConnectionLost, match="7 of 5120 bytes"):
        store.adopt(incoming, check=accept)
    incoming.close()
    assert store.arrived(PART) == 7
    assert not store.has(PART)


@pytest.mark.parametrize("data", [DATA[:-1] + b"x", DATA + b"x"], ids=["digest", "size"])
def test_other_bytes_than_announced_leave_nothing(tmp_path: Path, data: bytes) -> None:
    store = ArtefactStore(tmp_path)
    incoming = store.receive(PART, 0)

    def take_in() -> None:
        incoming.write(data)
        store.adopt(incoming, check=accept)

    with pytest.raises(CheckpointError):
        take_in()
    incoming.close()
    assert partial(tmp_path) == []
    assert not store.has(PART)


def test_a_part_that_the_check_refuses_leaves_nothing(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    incoming = store.receive(PART, 0)
    incoming.write(DATA)
    with pytest.raises(CheckpointError, match="refused"):
        store.adopt(incoming, check=refuse)
    incoming.close()
    assert partial(tmp_path) == []
    assert not store.has(PART)


def test_the_later_sender_of_a_part_cuts_the_earlier_one_off(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    first = store.receive(PART, 0)
    first.write(DATA[:100])
    second = store.receive(PART, 100)
    with pytest.raises(ConnectionLost, match="another connection"):
        first.write(DATA[100:])
    second.write(DATA[100:])
    store.adopt(second, check=accept)
    second.close()
    assert store.has(PART)


def test_partial_files_of_other_uploads_are_dropped(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    other = part_ref("segmenter", b"other")
    for part in (PART, other):
        incoming = store.receive(part, 0)
        incoming.write(b"o")
        incoming.close()
    store.keep_partial([PART])
    assert partial(tmp_path) == [PART.digest]
