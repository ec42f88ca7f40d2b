"""The report is built from messages, fits its published schema and is equal but for time."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from wardround.shared import plan, report
from wardround.shared.errors import JournalError
from wardround.shared.messages import ClassScore, EvaluationReport, Metric, Phase, VisitReport

SCHEMA = Path(__file__).parents[3] / "docs" / "report.schema.json"
MATRIX = [[0.0, 0.1], [0.8, 0.3], [0.6, 0.9]]


def study(method: str = "smd") -> plan.StudyPlan:
    content = {
        "study_id": "two-sites",
        "seed": 7,
        "sites": ["north", "south"],
        "task": {"classes": ["gland", "zone"], "dims": "2d"},
        "method": {"name": method},
    }
    return plan.parse(content, origin="test")


def evaluation(visit: int, site: str, dice: float) -> EvaluationReport:
    gland = ClassScore(class_name="gland", dice=dice, hd95_mm=4.0, asd_mm=1.0, num_undefined=1)
    zone = ClassScore(class_name="zone", dice=dice, hd95_mm=None, asd_mm=None, num_undefined=5)
    return EvaluationReport(
        visit=visit,
        site_id=site,
        checkpoint_digest=f"{visit:064x}",
        num_cases=None if site == "north" else 5,
        classes=(gland, zone),
        data_digest="d" * 64,
    )


def visit_report(visit: int, site: str, seconds: float = 1.5) -> VisitReport:
    return VisitReport(
        visit=visit,
        site_id=site,
        num_train=12,
        metrics={Metric.DICE_AFTER: 0.8},
        phase_seconds={Phase.SEGMENTER: seconds, Phase.DENOISER: 2.0},
    )


def facts(rows: int = 3, method: str = "smd", seconds: float = 1.5) -> report.Facts:
    sites = ("north", "south")
    return report.Facts(
        plan=study(method),
        status="complete" if rows == 3 else "interrupted",
        engine="in-process",
        sites=sites,
        num_rows=rows,
        evaluations=[
            evaluation(i, site, MATRIX[i][j]) for i in range(rows) for j, site in enumerate(sites)
        ],
        visits=[visit_report(i, sites[i - 1], seconds) for i in range(1, rows)],
        checkpoints={i: f"{i:064x}" for i in range(rows)},
        traffic={i: (1000 * i, 500 * i) for i in range(1, rows)},
        versions={"wardround": "0.1.0"},
        wall_seconds=seconds * 4,
    )


def test_the_matrix_has_a_row_per_visit_and_a_column_per_site_in_sequence_order() -> None:
    built = report.build(facts())
    assert built.matrix == ((0.0, 0.1), (0.8, 0.3), (0.6, 0.9))
    assert built.sites == ("north", "south")
    assert built.status == "complete"
    assert built.summary.average == pytest.approx(0.75)
    assert built.summary.bwt == pytest.approx(-0.2)


def test_surface_distances_are_means_over_the_classes_where_they_are_defined() -> None:
    cell = report.build(facts()).surface[0]
    assert (cell.visit, cell.site, cell.num_cases) == (0, "north", None)
    assert cell.hd95_mm == 4.0
    assert cell.asd_mm == 1.0
    assert cell.num_undefined == 6
    assert [c.hd95_mm for c in cell.classes] == [4.0, None]


def test_folds_and_registration_errors_stand_in_their_cell_and_are_null_elsewhere() -> None:
    some = facts()
    one, *others = some.evaluations
    registered = replace(one, folds=0.25, tre_mm=1.5)
    built = report.build(replace(some, evaluations=[registered, *others]))

    assert [cell.folds for cell in built.surface] == [0.25, *[None] * 5]
    assert [cell.tre_mm for cell in built.surface] == [1.5, *[None] * 5]


def test_times_and_bytes_stand_beside_the_visit_and_the_site() -> None:
    built = report.build(facts())
    assert built.timing.total == pytest.approx(7.0)
    assert built.timing.visits[1].phases == {"segmenter": 1.5, "denoiser": 2.0}
    assert [(t.visit, t.site, t.to_site, t.from_site) for t in built.bytes] == [
        (1, "north", 1000, 500),
        (2, "south", 2000, 1000),
    ]


def test_two_runs_that_differ_in_time_alone_have_equal_reports_without_timing() -> None:
    slow, fast = report.build(facts(seconds=9.0)), report.build(facts(seconds=1.0))
    assert slow != fast
    assert report.without_timing(slow) == report.without_timing(fast)
    assert report.to_json(report.without_timing(slow)) == report.to_json(
        report.without_timing(fast)
    )


def test_a_study_stopped_on_the_way_reports_the_rows_it_filled() -> None:
    partial = facts(rows=2)
    half_row = [*partial.evaluations, evaluation(2, "north", 0.6)]
    built = report.build(
        report.Facts(
            plan=partial.plan,
            status="interrupted",
            engine="in-process",
            sites=partial.sites,
            num_rows=2,
            evaluations=half_row,
            visits=partial.visits,
            checkpoints=partial.checkpoints,
            traffic=partial.traffic,
            versions={},
        )
    )
    assert built.status == "interrupted"
    assert len(built.matrix) == 2
    assert built.summary.bwt is None


def test_a_study_without_one_full_row_has_no_report() -> None:
    with pytest.raises(JournalError, match="no full row"):
        report.build(facts(rows=0))


@pytest.mark.parametrize(
    ("method", "keeps"),
    [("smd", False), ("finetune", False), ("exemplar-replay", True), ("joint", True)],
)
def test_methods_that_hand_real_cases_on_are_marked(method: str, keeps: bool) -> None:
    privacy = report.build(facts(method=method)).privacy
    assert privacy.keeps_real_cases is keeps
    assert ("breaks the rule" in privacy.note) is keeps
    assert privacy.formal_dp == "no"


def test_the_published_schema_is_current() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == report.json_schema(), (
        "write it anew with: wardround report --schema > docs/report.schema.json"
    )


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_report_satisfies_the_published_schema(rows: int) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(report.to_json(report.build(facts(rows)))), schema)


def test_the_schema_refuses_a_dice_above_one() -> None:
    content = json.loads(report.to_json(report.build(facts())))
    content["matrix"][0][0] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, report.json_schema())


def test_a_report_reads_back_as_it_was_written(tmp_path: Path) -> None:
    built = report.build(facts())
    path = tmp_path / "report.json"
    path.write_text(report.to_json(built), encoding="utf-8")
    assert report.read(path) == built


def test_a_report_of_the_first_schema_version_is_read(tmp_path: Path) -> None:
    built = report.build(facts())
    content = json.loads(report.to_json(built))
    del content["left_out"]
    path = tmp_path / "report.json"
    path.write_text(json.dumps({**content, "schema_version": 1}, indent=2), encoding="utf-8")
    assert report.read(path) == built


def test_a_site_that_was_skipped_has_a_column_with_gaps_and_no_visit() -> None:
    whole = facts()
    seen = [e for e in whole.evaluations if (e.visit, e.site_id) != (2, "south")]
    built = report.build(replace(whole, evaluations=seen, skipped={"south": None}))
    assert built.matrix == ((0.0, 0.1), (0.8, 0.3), (0.6, None))
    assert built.left_out == (report.LeftOut(site="south", how="skipped", by=None),)
    assert built.summary.average == pytest.approx(0.6)
    assert len(built.surface) == 5
    jsonschema.validate(json.loads(report.to_json(built)), report.json_schema())


def test_a_report_that_is_none_is_refused_with_the_key(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"schema_version": 3}', encoding="utf-8")
    with pytest.raises(JournalError, match="schema_version"):
        report.read(path)
    with pytest.raises(JournalError, match="cannot be read"):
        report.read(tmp_path / "absent.json")
