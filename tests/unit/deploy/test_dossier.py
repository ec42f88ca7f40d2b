"""An egress dossier says what the trail says, escapes what is hostile, and is what it says."""

import json

import jsonschema
import pytest
from typer.testing import CliRunner

from wardround.deploy import cli, dossier
from wardround.shared import trail as trails
from wardround.shared.errors import TrailError, UsageError
from wardround.shared.trail import Trail
from wardround.shared.trail_lines import LineKind

PLAN, OTHER = "a" * 64, "b" * 64
HOSTILE = "<script>alert('x')</script>{{ 7 * 7 }}\"><img src=http://example.org/x>"


def ordered(trail: Trail, visit: int, plan: str = PLAN, what: str = "visit") -> None:
    facts = {"visit": visit, "what": what, "study": "tiny", "plan": plan}
    trail.append(LineKind.ORDERED, {**facts, "checkpoint": "c" * 64, "anchor": [7, "d" * 64]})


def released(trail: Trail, visit: int, what: str, size: int, digest: str) -> None:
    facts = {"visit": visit, "what": what, "size_bytes": size, "digest": digest * 64}
    trail.append(LineKind.RELEASED, facts)


@pytest.fixture
def work(tmp_path):
    """A site's workspace: a visit, tried twice, with all that can happen in it, and a score."""
    trail = Trail(tmp_path / "work" / "audit", holder="wardround://site/ada")
    trail.append(LineKind.APPROVED, {"plan": PLAN, "study": "tiny", "by": HOSTILE})
    trail.append(LineKind.PROBED, {"network": "open", "reached": [HOSTILE]})
    ordered(trail, 0, what="evaluation")
    released(trail, 0, "EvaluationReport", 90, "1")
    for _ in range(2):
        ordered(trail, 2)
        released(trail, 2, "Progress", 10, "2")
        released(trail, 2, "part segmenter", 4000, "3")
    trail.append(LineKind.REFUSED, {"visit": 2, "what": "part denoiser", "why": "EgressRefused"})
    charge = {"noise_multiplier": 5.9, "sampling_rate": 0.25, "steps": 400, "budget": 8.0}
    charge |= {"epsilon": 3.9996, "delta": 1e-5, "total_epsilon": 5.9, "prompt": "4" * 64}
    trail.append(LineKind.SPENT, {"visit": 2, "study": "tiny", "release": "r", **charge})
    released(trail, 2, "part prompt.ada", 64, "4")
    released(trail, 2, "VisitReport", 200, "5")
    (tmp_path / "work" / "site.toml").write_text('min_count = 5\nnetwork = "open"\n')
    return tmp_path / "work"


def gathered(work, policy=None):
    return dossier.gather(trails.read(work / "audit"), policy or {"min_count": 5})


def export(*words):
    ran = CliRunner().invoke(cli.app, ["audit", "export", *map(str, words)])
    return ran.output, ran.exception


def test_a_dossier_holds_what_left_in_its_visit_and_under_what(work):
    scores, visit = gathered(work)
    assert (scores.visit, visit.visit) == (0, 2)
    assert [one.what for one in scores.left] == ["EvaluationReport"]
    assert [(one.what, one.is_repeat) for one in visit.left] == [
        ("Progress", False),
        ("part segmenter", False),
        ("Progress", True),
        ("part segmenter", True),
        ("part prompt.ada", False),
        ("VisitReport", False),
    ]
    assert [one.why for one in visit.kept_in] == ["EgressRefused"]
    assert [(one.by, one.is_approved) for one in visit.approvals] == [(HOSTILE, True)]
    assert [(one.network, one.reached) for one in visit.probes] == [("open", (HOSTILE,))]
    assert [one.coordinator_line for one in visit.orders] == [7, 7]


def test_sums_leave_out_what_was_sent_again(work):
    total = gathered(work)[1].totals
    assert (total.parts, total.part_bytes) == (2, 4064)
    assert (total.messages, total.message_bytes) == (1, 200)
    assert (total.progress_messages, total.progress_bytes) == (1, 10)


def test_formal_dp_is_that_of_the_prompt_that_left(work):
    scores, visit = gathered(work)
    assert scores.formal_dp == "no"
    assert visit.formal_dp.startswith("yes (epsilon 4, delta 1e-05) for the prompt; no for")
    assert [(one.total_epsilon, one.budget) for one in visit.charges] == [(5.9, 8.0)]


def test_formal_dp_covers_a_segmenter_that_saw_no_case(work):
    trail = Trail(work / "audit", holder="wardround://site/ada")
    charge = {"noise_multiplier": 5.9, "sampling_rate": 0.25, "steps": 400, "budget": 8.0}
    charge |= {"epsilon": 3.9996, "delta": 1e-5, "total_epsilon": 5.9, "prompt": "4" * 64}
    facts = {"visit": 2, "study": "tiny", "release": "r", "segmenter": "drawn", **charge}
    trail.append(LineKind.SPENT, facts)
    promise = "yes (epsilon 4, delta 1e-05) for prompt, segmenter and labeller; no for scores"
    assert gathered(work)[1].formal_dp == promise


def test_lines_of_kinds_not_known_here_are_verdicts(work):
    class Later(str):
        value = "audited"

    trail = Trail(work / "audit", holder="wardround://site/ada")
    trail.append(Later("audited"), {"visit": 2, "copies": 0, "verdict": "release"})
    (verdict,) = gathered(work)[1].verdicts
    assert (verdict.kind, verdict.facts["verdict"]) == ("audited", "release")
    assert "audited" in dossier.render(gathered(work)[1])


def test_studies_of_one_workspace_are_kept_apart(work):
    trail = Trail(work / "audit", holder="wardround://site/ada")
    trail.append(LineKind.APPROVED, {"plan": OTHER, "study": "tiny", "by": "B"})
    released(trail, 2, "VisitReport", 7, "6")  # still of the order before
    ordered(trail, 2, plan=OTHER)
    released(trail, 2, "VisitReport", 8, "7")
    _, first, second = gathered(work)
    assert (first.left[-1].size_bytes, second.left[-1].size_bytes) == (7, 8)
    assert [one.by for one in second.approvals] == ["B"]


def test_no_release_of_the_trail_is_left_out(work):
    trail = Trail(work / "audit", holder="wardround://site/ada")
    trail.append(
        LineKind.RELEASED,
        {"plan": PLAN, "what": "Refusal", "size_bytes": 3, "digest": "9" * 64},
    )
    told = {one.line for each in gathered(work) for one in each.left}
    assert told == {line.seq for line in trail.lines() if line.kind == LineKind.RELEASED}
    assert gathered(work)[-1].visit is None


def test_files_are_those_of_the_schema_and_nothing_in_the_page_is_live(work, repository, tmp_path):
    printed, error = export(work, "--out", tmp_path / "out")
    assert error is None, printed
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    kinds = ("html", "json")
    assert names == [f"tiny-{PLAN[:12]}-visit-{n}.{kind}" for n in (0, 2) for kind in kinds]
    schema = json.loads((repository / "docs" / "dossier.schema.json").read_text(encoding="utf-8"))
    assert schema == dossier.json_schema(), (
        "write it anew with: wardround audit export --schema > docs/dossier.schema.json"
    )
    for path in (tmp_path / "out").glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validate(content, schema)
        assert content["policy"]["min_count"] == 5
    page = (tmp_path / "out" / f"tiny-{PLAN[:12]}-visit-2.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert" in page
    assert "{{ 7 * 7 }}" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://example.org/x", "")


def test_one_visit_can_be_asked_for(work, tmp_path):
    printed, error = export(work, "--out", tmp_path / "out", "--visit", 2)
    assert error is None
    assert printed.count(" file(s) of weights") == 1
    assert isinstance(export(work, "--out", tmp_path / "out", "--visit", 9)[1], UsageError)


def test_a_trail_with_a_bad_line_gives_no_dossier(work, tmp_path):
    path = work / "audit" / "trail.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"size_bytes":4000', b'"size_bytes":4001', 1))
    _, error = export(work, "--out", tmp_path / "out")
    assert isinstance(error, TrailError)
    assert "line 8 was changed" in str(error)
    assert not (tmp_path / "out").exists()


def test_wrong_words_are_wrong_usage(tmp_path):
    assert isinstance(export()[1], UsageError)
    assert isinstance(export(tmp_path, "--out", tmp_path / "out")[1], UsageError)
    printed, error = export("--schema")
    assert error is None
    assert json.loads(printed) == dossier.json_schema()
