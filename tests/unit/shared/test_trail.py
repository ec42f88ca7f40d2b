"""An audit trail names its first bad line, whatever was done to it."""

import pickle
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.shared import trail as trails
from wardround.shared.errors import TrailError
from wardround.shared.trail import HEAD_FILE, KEY_FILE, LINES_FILE, Trail
from wardround.shared.trail_lines import LineKind

HOLDER = "wardround://site/ada"
NUM_LINES = 6


def _clock():
    return datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


@pytest.fixture
def trail(folder):
    return Trail(folder, holder=HOLDER, clock=_clock)


@pytest.fixture
def written(trail, folder):
    """A folder whose trail has six lines, the opening one included."""
    for visit in range(1, NUM_LINES):
        trail.append(LineKind.RELEASED, {"visit": visit, "what": "Progress", "size_bytes": 10})
    return folder


def _change(folder, change):
    path = folder / LINES_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(change(lines)))


def _first_bad(folder):
    fault = trails.read(folder).fault
    return None if fault is None else fault.line


def test_lines_are_read_as_they_were_written(trail, folder):
    facts = {"visit": 1, "what": "part prompt.ada", "rate": 0.1, "none": None, "of": ["a", 1]}
    head = trail.append(LineKind.RELEASED, facts)
    opened, released = trails.read(folder).lines
    assert (opened.seq, opened.kind, opened.facts["holder"]) == (1, "opened", HOLDER)
    assert (released.seq, released.kind, released.facts) == (2, "released", facts)
    assert released.at == "2026-11-26T12:00:00.000+00:00"
    assert (head.seq, head.digest) == (2, released.digest)
    assert trail.head() == head
    assert trail.lines() == (opened, released)


def test_the_key_is_its_owners_alone(trail, folder):
    trail.head()
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("number", range(1, NUM_LINES + 1))
def test_a_dropped_line_is_named(written, number):
    _change(written, lambda lines: lines[: number - 1] + lines[number:])
    assert _first_bad(written) == number


@pytest.mark.parametrize("number", range(1, NUM_LINES))
def test_two_swapped_lines_are_named(written, number):
    def swap(lines):
        lines[number - 1], lines[number] = lines[number], lines[number - 1]
        return lines

    _change(written, swap)
    assert _first_bad(written) == number


@pytest.mark.parametrize("number", range(1, NUM_LINES + 1))
def test_the_first_line_that_was_cut_off_is_named(written, number):
    _change(written, lambda lines: lines[: number - 1])
    assert _first_bad(written) == number


@pytest.mark.parametrize("number", range(1, NUM_LINES + 1))
def test_a_line_that_was_added_is_named(written, number):
    _change(written, lambda lines: [*lines[:number], lines[number - 1], *lines[number:]])
    assert _first_bad(written) == number + 1  # after the last it is no torn write, for it is whole


@settings(max_examples=150)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_named(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("trail") / "audit"
    trail = Trail(folder, holder=HOLDER)
    for visit in range(3):
        trail.append(LineKind.RELEASED, {"visit": visit})
    path = folder / LINES_FILE
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    number = content[:place].count(b"\n") + 1
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert _first_bad(folder) == number
    with pytest.raises(TrailError, match=f"line {number} "):
        Trail(folder, holder=HOLDER).append(LineKind.RELEASED, {})


@given(cut=st.integers(1, 10_000))
def test_a_trail_cut_at_any_byte_is_named(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("trail") / "audit"
    trail = Trail(folder, holder=HOLDER)
    for visit in range(2):
        trail.append(LineKind.RELEASED, {"visit": visit})
    content = (folder / LINES_FILE).read_bytes()
    left = content[: len(content) - 1 - cut % len(content)]
    (folder / LINES_FILE).write_bytes(left)
    assert _first_bad(folder) == left.count(b"\n") + 1


def test_a_head_that_was_changed_or_removed_is_noticed(written):
    head = (written / HEAD_FILE).read_bytes()
    (written / HEAD_FILE).write_bytes(head.replace(b"0006 ", b"0005 "))
    assert _first_bad(written) == NUM_LINES
    (written / HEAD_FILE).unlink()
    assert _first_bad(written) == NUM_LINES


def test_a_line_that_somebody_else_signed_is_named(written, tmp_path):
    other = Trail(tmp_path / "other", holder=HOLDER, clock=_clock)
    for visit in range(1, NUM_LINES):
        other.append(LineKind.RELEASED, {"visit": visit, "what": "Progress", "size_bytes": 10})
    theirs = (tmp_path / "other" / LINES_FILE).read_bytes().splitlines(keepends=True)
    _change(written, lambda lines: [*lines[:3], theirs[3], *lines[4:]])
    assert _first_bad(written) == 4


def test_a_write_that_was_cut_short_is_dropped(written):
    path = written / LINES_FILE
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-100:-1])
    assert _first_bad(written) is None
    Trail(written, holder=HOLDER).append(LineKind.RELEASED, {"visit": 9})
    lines = trails.read(written).lines
    assert [line.seq for line in lines] == [*range(1, NUM_LINES + 2)]
    assert lines[-1].facts == {"visit": 9}


def test_a_head_that_a_power_cut_left_behind_is_still_true(written, trail):
    head = (written / HEAD_FILE).read_bytes()
    trail.append(LineKind.RELEASED, {"visit": 9})
    (written / HEAD_FILE).write_bytes(head)
    assert _first_bad(written) is None
    assert trail.append(LineKind.RELEASED, {"visit": 10}).seq == NUM_LINES + 2
    assert _first_bad(written) is None


def test_a_trail_that_stopped_at_its_first_line_goes_on(trail, folder):
    trail.head()
    (folder / HEAD_FILE).unlink()
    assert Trail(folder, holder=HOLDER).append(LineKind.RELEASED, {}).seq == 2


def test_several_processes_may_write_one_trail(folder):
    def write(visit):
        own = Trail(folder, holder=HOLDER)
        for _ in range(10):
            own.append(LineKind.RELEASED, {"visit": visit})

    threads = [threading.Thread(target=write, args=(visit,)) for visit in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reading = trails.read(folder)
    assert reading.fault is None
    assert sorted(line.facts["visit"] for line in reading.lines[1:]) == sorted([0, 1, 2] * 10)


def test_a_trail_can_be_sent_to_another_process(trail):
    trail.append(LineKind.RELEASED, {})
    again = pickle.loads(pickle.dumps(Trail(trail.folder, holder=HOLDER)))  # noqa: S301
    assert again.append(LineKind.RELEASED, {}).seq == 3


def test_a_trail_of_another_holder_or_key_is_not_gone_on_with(written, tmp_path):
    with pytest.raises(TrailError, match="site/ada"):
        Trail(written, holder="wardround://site/ben").append(LineKind.RELEASED, {})
    Trail(tmp_path / "other", holder=HOLDER).head()
    (tmp_path / "other" / KEY_FILE).replace(written / KEY_FILE)
    with pytest.raises(TrailError, match="another key"):
        Trail(written, holder=HOLDER).append(LineKind.RELEASED, {})
    (written / KEY_FILE).unlink()
    with pytest.raises(TrailError, match="Restore the key"):
        Trail(written, holder=HOLDER).append(LineKind.RELEASED, {})


def test_what_json_cannot_hold_is_no_fact(trail, folder):
    before = trail.head()
    with pytest.raises(TrailError, match="JSON"):
        trail.append(LineKind.RELEASED, {"rate": float("nan")})
    assert trails.read(folder).head == before


def test_a_line_that_cannot_be_written_leaves_the_trail_as_it_was(trail, folder, monkeypatch):
    before = trail.append(LineKind.RELEASED, {})

    def fail(file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", fail)
        with pytest.raises(TrailError, match="No space left"):
            trail.append(LineKind.RELEASED, {})
    assert trails.read(folder).head == before
    assert trail.append(LineKind.RELEASED, {}).seq == before.seq + 1
