"""A study over the real relay: both sides' trails are sound, agree, and name each tampered line.

The coordinator is a process of its own and is killed and started again on the way; the sites are
threads with the arithmetic of tiny_site.py, each with its egress guard and its trail.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from study_network import network
from wardround.deploy import cli
from wardround.server.journal import read_events
from wardround.server.study_folder import JOURNAL
from wardround.shared import trail as trails
from wardround.shared.errors import TrailError


def verify(*paths: Path) -> tuple[str, BaseException | None]:
    ran = CliRunner().invoke(cli.app, ["audit", "verify", *map(str, paths)])
    return ran.output, ran.exception


@pytest.fixture
def ended(tiny_plan, tmp_path: Path, authority) -> Path:
    """The folder of a study that has ended, with a workspace for each of its sites."""
    with network(tmp_path, authority, tiny_plan) as net:
        net.start("ada")
        net.wait_until(lambda state: bool(state.evaluations))
        net.restart()
        net.start("ben", "cai")
        assert net.end().is_complete
    return tmp_path


def flipped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4].replace(b"0", b"1", 1), *lines[5:]]


def dropped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], *lines[5:]]


def swapped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[5], lines[4], *lines[6:]]


def cut(lines: list[bytes]) -> list[bytes]:
    return lines[:4]


@pytest.mark.slow
def test_both_sides_tell_the_same_and_whatever_is_done_to_a_trail_its_line_is_named(
    ended: Path,
) -> None:
    sides = [ended / "study", *(ended / site for site in ("ada", "ben", "cai"))]
    printed, error = verify(*sides)
    assert error is None, printed
    assert printed.count(": sound.") == 4
    # Each site's one visit and four scores: the order brought an anchor, the report took one.
    assert f"{3 * 5 * 2} anchor(s)" in printed
    hub = trails.read(ended / "study" / "audit").lines
    assert len(hub) == 1 + len(read_events(ended / "study" / JOURNAL))

    changes: list[Callable[[list[bytes]], list[bytes]]] = [flipped, dropped, swapped, cut]
    for side in sides[:2]:
        lines = side / "audit" / "trail.jsonl"
        whole = lines.read_bytes()
        for change in changes:
            lines.write_bytes(b"".join(change(whole.splitlines(keepends=True))))
            printed, error = verify(side)
            assert isinstance(error, TrailError)
            assert f"{lines}, line 5 " in printed, change
        lines.write_bytes(whole)


@pytest.mark.slow
def test_a_trail_that_was_replaced_by_an_older_copy_is_named_by_the_other_side(ended: Path) -> None:
    own = ended / "ada" / "audit"
    older = ended / "older"
    shutil.copytree(own, older)
    for name in ("trail.jsonl", "trail.head"):
        (older / name).unlink()
    first = trails.Trail(older, holder="wardround://site/ada")
    first.head()  # the same key, so sound by itself
    shutil.rmtree(own)
    older.rename(own)
    assert verify(ended / "ada")[1] is None
    printed, error = verify(ended / "ada", ended / "study")
    assert isinstance(error, TrailError)
    assert f"{own / 'trail.jsonl'}, line 2 is missing, and was there: line " in printed
