"""`wardround audit verify` names the first bad line of each trail, and ends with status 12."""

import json

import pytest
from typer.testing import CliRunner

from wardround.deploy import cli
from wardround.shared.errors import TrailError, UsageError
from wardround.shared.trail import Trail
from wardround.shared.trail_lines import LineKind

HUB, ADA = "wardround://coordinator/coordinator", "wardround://site/ada"


@pytest.fixture
def hub(tmp_path):
    return Trail(tmp_path / "study" / "audit", holder=HUB)


@pytest.fixture
def ada(tmp_path):
    return Trail(tmp_path / "study" / "sites" / "ada" / "audit", holder=ADA)


@pytest.fixture
def both(hub, ada):
    """The trails of a visit, each with an anchor of the other: lines 2, 3 and 2 to 4."""
    created = {"event": "StudyCreated", "study": "tiny", "plan": "p", "journal": 1, "check": "c"}
    head = hub.append(LineKind.JOURNALLED, created)
    order = {"study": "tiny", "plan": "p", "anchor": [head.seq, head.digest]}
    ada.append(LineKind.ORDERED, order)
    head = ada.append(LineKind.RELEASED, {"what": "part segmenter", "digest": "s"})
    ada.append(LineKind.RELEASED, {"what": "VisitReport", "digest": "r"})
    hub.append(
        LineKind.JOURNALLED,
        {"event": "VisitCommitted", "site_id": "ada", "report": "r", "visit": 1}
        | {"anchor": [head.seq, head.digest], "journal": 2, "check": "d"},
    )
    return hub.folder.parent


def verify(*words):
    ran = CliRunner().invoke(cli.app, ["audit", "verify", *map(str, words)])
    return ran.output, ran.exception


def test_sound_trails_are_said_to_be(both):
    printed, error = verify(both)
    assert error is None
    assert printed.count(": sound.") == 2
    assert "2 anchor(s)" in printed


def test_a_bad_line_is_named(both, ada):
    path = ada.folder / "trail.jsonl"
    path.write_bytes(path.read_bytes().replace(b"part segmenter", b"part segmentor"))
    printed, error = verify(both)
    assert isinstance(error, TrailError)
    assert "sites/ada/audit/trail.jsonl, line 3 was changed" in printed
    assert printed.count(": sound.") == 1


def rewritten(trail, num_lines):
    """Cut a trail off as its own holder could, with a head that its own key signs."""
    path = trail.folder / "trail.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)[:num_lines]
    path.write_bytes(b"".join(lines))
    (trail.folder / "trail.head").unlink()
    if num_lines > 1:
        path.write_bytes(lines[0])
        again = Trail(trail.folder, holder=trail.holder)
        for line in lines[1:]:
            content = json.loads(line)
            again.append(LineKind(content["kind"]), content["facts"])


@pytest.mark.parametrize("left", [1, 2, 3])
def test_what_a_site_cut_off_itself_is_named_by_the_coordinators_trail(both, ada, left):
    rewritten(ada, left)
    printed, error = verify(ada.folder)
    assert error is None  # by itself it is sound
    printed, error = verify(ada.folder, both)
    assert isinstance(error, TrailError)
    assert "sites/ada/audit/trail.jsonl, line 3 is " in printed
    assert "line 3 of" in printed


def test_what_a_coordinator_cut_off_itself_is_named_by_the_sites_trail(both, hub, ada):
    rewritten(hub, 1)
    printed, error = verify(hub.folder, ada.folder)
    assert error is None  # without a study of its own no anchor is of this trail
    hub.append(
        LineKind.JOURNALLED,
        {"event": "StudyCreated", "study": "tiny", "plan": "p", "journal": 1, "check": "other"},
    )
    printed, error = verify(hub.folder, ada.folder)
    assert isinstance(error, TrailError)
    assert "study/audit/trail.jsonl, line 2 is another one" in printed


def test_what_is_found_is_there_for_programs(both, ada):
    printed, error = verify(both, "--format", "json")
    assert error is None
    told = json.loads(printed)
    assert (told["anchors"], told["disagreements"]) == (2, [])
    hub, site = told["trails"]
    assert (hub["holder"], hub["lines"], hub["fault"]) == (HUB, 3, None)
    assert (site["holder"], site["lines"], site["head"]) == (ADA, 4, ada.head().digest)


def test_a_folder_without_a_trail_is_wrong_usage(tmp_path):
    _, error = verify(tmp_path)
    assert isinstance(error, UsageError)
