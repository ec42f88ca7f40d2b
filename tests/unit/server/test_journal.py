import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from wardround.server import journal as journals
from wardround.server.journal import Journal, read_events
from wardround.shared.errors import JournalError

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def written(world, tmp_path):
    """A journal with all events of a study, closed."""
    path = tmp_path / "journal"
    with Journal(path, clock=lambda: NOON) as journal:
        for event in world.events():
            journal.append(event)
    return path


def test_what_was_appended_is_read_back_in_order(world, written):
    assert list(read_events(written)) == world.events()
    with Journal(written) as journal:
        assert list(journal.events) == world.events()


def test_every_line_has_number_time_and_the_check_of_the_line_before(written):
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["at"] for line in lines} == {"2030-01-01T12:00:00.000+00:00"}
    assert [line["previous"] for line in lines] == [
        "0" * 64,
        *(line["check"] for line in lines[:-1]),
    ]


def test_a_torn_last_line_is_dropped_wherever_it_was_cut(world, written):
    data = written.read_bytes()
    start = data.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(start + 1, len(data)):
        written.write_bytes(data[:end])
        assert list(read_events(written)) == world.events()[:-1]
    with Journal(written) as journal:
        assert written.read_bytes() == data[:start]
        journal.append(world.events()[-1])
    assert list(read_events(written)) == world.events()


def test_a_last_line_with_a_wrong_check_is_dropped(world, written):
    data = bytearray(written.read_bytes())
    data[-5] ^= 1
    written.write_bytes(bytes(data))
    with Journal(written) as journal:
        assert list(journal.events) == world.events()[:-1]


def test_a_journal_of_one_torn_line_is_empty(written):
    written.write_bytes(written.read_bytes()[:100])
    with Journal(written) as journal:
        assert journal.events == ()
    assert written.read_bytes() == b""


def test_a_change_in_any_earlier_line_is_an_error_naming_the_line(written):
    lines = written.read_bytes().splitlines(keepends=True)
    for number in range(len(lines) - 1):
        line = bytearray(lines[number])
        line[len(line) // 2] ^= 1
        written.write_bytes(b"".join([*lines[:number], bytes(line), *lines[number + 1 :]]))
        with pytest.raises(JournalError, match=f"line {number + 1}:"):
            Journal(written)
        assert written.stat().st_size == sum(len(line) for line in lines)


def test_a_line_taken_out_is_an_error(written):
    lines = written.read_bytes().splitlines(keepends=True)
    for number in range(len(lines) - 1):
        written.write_bytes(b"".join([*lines[:number], *lines[number + 1 :]]))
        with pytest.raises(JournalError, match=f"line {number + 1}: it does not follow"):
            Journal(written)


def test_a_whole_last_line_of_a_later_release_is_an_error_and_stays(written):
    data = written.read_bytes()
    last = json.loads(data.splitlines()[-1])
    rest = {
        "seq": last["seq"] + 1,
        "at": last["at"],
        "previous": last["check"],
        "event": {"event": "VisitSkipped", "version": 1},
    }
    line = journals._spelled({**rest, "check": journals._check_of(rest)}) + b"\n"
    written.write_bytes(data + line)
    with pytest.raises(JournalError, match="VisitSkipped"):
        Journal(written)
    assert written.read_bytes() == data + line


def test_two_coordinators_cannot_open_one_journal(written):
    with Journal(written), pytest.raises(JournalError, match="in use"):
        Journal(written)
    Journal(written).close()


def test_another_process_cannot_open_the_journal_either(written):
    program = "import sys, pathlib; from wardround.server.journal import Journal;"
    program += "Journal(pathlib.Path(sys.argv[1]))"
    with Journal(written):
        ended = subprocess.run(
            [sys.executable, "-c", program, str(written)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode != 0
    assert "in use" in ended.stderr


def test_a_write_that_fails_leaves_the_journal_as_it_was(world, written, monkeypatch):
    data = written.read_bytes()
    with Journal(written) as journal:
        write = os.write
        monkeypatch.setattr(os, "write", _half_then_full(write))
        with pytest.raises(JournalError, match="No space left"):
            journal.append(world.events()[-1])
        monkeypatch.undo()
        assert written.read_bytes() == data
        with pytest.raises(JournalError, match="closed"):
            journal.append(world.events()[-1])


def _half_then_full(write):
    calls = []

    def writes(file, data):
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[: len(data) // 2])

    return writes


def test_a_journal_in_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path / "nowhere" / "journal")
    with pytest.raises(JournalError, match="cannot be read"):
        read_events(tmp_path / "nowhere" / "journal")
