"""The table of a comparison: means, spreads, marks; and how its studies are run."""

import json
from pathlib import Path

import pytest

from wardround.deploy import comparison
from wardround.shared import plan as plans
from wardround.shared import report
from wardround.shared.errors import UsageError
from wardround.shared.messages import ClassScore, EvaluationReport, Phase, VisitReport


def study(method: str = "smd", seed: int = 0) -> plans.StudyPlan:
    content = {
        "study_id": "two",
        "seed": seed,
        "sites": ["north", "south"],
        "task": {"classes": ["gland"]},
        "method": {"name": method},
    }
    return plans.parse(content, origin="test")


def request(tmp_path: Path, methods: tuple[str, ...], **more: int) -> comparison.Request:
    return comparison.Request(
        study=tmp_path / "study.toml",
        plan=study(),
        methods=methods,
        num_seeds=more.get("seeds", 2),
        num_orders=more.get("orders", 1),
        overrides=("augmentation.intensity=true",),
        data=None,
        out=tmp_path / "out",
        jobs=more.get("jobs", 1),
    )


def result(method: str, first: float, last: float, seconds: float = 60.0) -> report.Report:
    matrix = [[0.0, 0.0], [first, 0.0], [last, last]]
    sites = ("north", "south")
    evaluations = [
        EvaluationReport(
            visit=i,
            site_id=site,
            checkpoint_digest="0" * 64,
            num_cases=5,
            classes=(
                ClassScore(
                    class_name="gland",
                    dice=matrix[i][j],
                    hd95_mm=None,
                    asd_mm=None,
                    num_undefined=5,
                ),
            ),
            data_digest="d" * 64,
        )
        for i in range(3)
        for j, site in enumerate(sites)
    ]
    visit = VisitReport(
        visit=1, site_id="north", num_train=9, metrics={}, phase_seconds={Phase.SEGMENTER: seconds}
    )
    return report.build(
        report.Facts(
            plan=study(method),
            status="complete",
            engine="in-process",
            sites=sites,
            num_rows=3,
            evaluations=evaluations,
            visits=[visit],
            checkpoints={},
            traffic={},
            versions={},
        )
    )


def test_a_row_holds_mean_and_standard_deviation_over_the_studies(tmp_path: Path) -> None:
    found = [
        ("smd", result("smd", 0.8, 0.7)),
        ("smd", result("smd", 0.8, 0.9)),
        ("joint", result("joint", 1.0, 1.0)),
        ("joint", result("joint", 1.0, 1.0)),
    ]
    smd, joint = comparison.tabulate(request(tmp_path, ("smd", "joint")), found).rows
    assert smd.studies == 2
    assert smd.figures["average"].mean == pytest.approx(0.8)
    assert smd.figures["average"].spread == pytest.approx(0.02**0.5)
    assert smd.figures["bwt"].mean == pytest.approx(0.0)
    assert smd.minutes.mean == pytest.approx(1.0)
    assert smd.relative_to_joint == pytest.approx(0.8)
    assert joint.keeps_real_cases
    assert not smd.keeps_real_cases


def test_a_single_study_has_no_spread_and_without_joint_nothing_is_relative(tmp_path: Path) -> None:
    found = [("smd", result("smd", 0.8, 0.7))]
    (row,) = comparison.tabulate(request(tmp_path, ("smd",), seeds=1), found).rows
    assert row.figures["average"].spread is None
    assert row.relative_to_joint is None


def test_the_written_tables_mark_methods_that_keep_real_cases(tmp_path: Path) -> None:
    found = [(m, result(m, 0.8, 0.7)) for m in ("smd", "exemplar-replay")]
    table = comparison.tabulate(request(tmp_path, ("smd", "exemplar-replay")), found)
    lines = comparison.to_markdown(table).splitlines()
    assert any(line.startswith("| exemplar-replay * |") for line in lines)
    assert any(line.startswith("| smd |") for line in lines)
    assert "augmentation.intensity=true" in lines[0]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert json.loads(comparison.to_json(table))["rows"][0]["method"] == "smd"
    assert comparison.rich_table(table).row_count == 2


@pytest.mark.parametrize("methods", [(), ("smd", "magic")])
def test_an_unknown_method_is_refused_before_anything_runs(
    tmp_path: Path, methods: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match="exemplar-replay"):
        comparison.compare(request(tmp_path, methods), lambda text: None)
    assert not (tmp_path / "out").exists()


def test_orders_are_the_plan_s_first_then_others_and_never_more_than_there_are(
    tmp_path: Path,
) -> None:
    table = comparison.tabulate(request(tmp_path, ("smd",), orders=5), [])
    assert table.orders == (("north", "south"), ("south", "north"))
