"""The table of a comparison: means, spreads, marks; and how its studies are run."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from wardround.deploy.comparison import plot, run, text
from wardround.deploy.comparison.paired import paired, signed_rank
from wardround.deploy.comparison.request import Request, Study
from wardround.deploy.comparison.table import Table, tabulate
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


def request(
    tmp_path: Path, methods: tuple[str, ...], *, against: str | None = None, **more: int
) -> Request:
    return Request(
        study=tmp_path / "study.toml",
        plan=study(),
        methods=methods,
        against=against,
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


def found(method: str, *scores: tuple[float, float], order: int = 1) -> list:
    """Return one finished study a seed: (Dice at its own visit, at the end) of the first site."""
    sites = ("north", "south") if order == 1 else ("south", "north")
    return [
        (
            Study(method=method, seed=seed, order=sites, folder=Path("unused")),
            result(method, first, last),
        )
        for seed, (first, last) in enumerate(scores)
    ]


def two_orders(tmp_path: Path) -> Table:
    """Return a table of two methods, two seeds and two orders, `smd` the reference."""
    return tabulate(
        request(tmp_path, ("smd", "ewc"), against="smd", orders=2),
        [
            *found("smd", (0.8, 0.8), (0.8, 0.9)),
            *found("smd", (0.8, 0.6), (0.8, 0.7), order=2),
            *found("ewc", (0.8, 0.7), (0.8, 0.7)),
            *found("ewc", (0.8, 0.3), (0.8, 0.3), order=2),
        ],
    )


def test_a_row_holds_mean_and_standard_deviation_over_the_studies(tmp_path: Path) -> None:
    studies = [*found("smd", (0.8, 0.7), (0.8, 0.9)), *found("joint", (1.0, 1.0), (1.0, 1.0))]
    smd, joint = tabulate(request(tmp_path, ("smd", "joint")), studies).rows
    assert [run.seed for run in smd.runs] == [0, 1]
    assert smd.figures["average"].mean == pytest.approx(0.8)
    assert smd.figures["average"].spread == pytest.approx(0.02**0.5)
    assert (smd.figures["average"].least, smd.figures["average"].most) == (0.7, 0.9)
    assert smd.figures["bwt"].mean == pytest.approx(0.0)
    assert smd.minutes.mean == pytest.approx(1.0)
    assert smd.relative_to_joint == pytest.approx(0.8)
    assert joint.keeps_real_cases
    assert not smd.keeps_real_cases


def test_a_single_study_has_no_spread_and_without_joint_nothing_is_relative(tmp_path: Path) -> None:
    (row,) = tabulate(request(tmp_path, ("smd",), seeds=1), found("smd", (0.8, 0.7))).rows
    assert row.figures["average"].spread is None
    assert row.relative_to_joint is None
    assert row.over_orders["average"].spread is None
    assert row.against == {}


def test_sensitivity_to_the_order_is_the_spread_of_means_over_the_seeds(tmp_path: Path) -> None:
    """Averages of smd: 0.8 and 0.9 in the first order, 0.6 and 0.7 in the second."""
    smd = two_orders(tmp_path).rows[0].over_orders["average"]
    assert smd.mean == pytest.approx(0.75)
    assert (smd.least, smd.most) == pytest.approx((0.65, 0.85))
    assert smd.spread == pytest.approx(0.1 * 2**0.5)


def test_methods_are_paired_by_seed_and_order(tmp_path: Path) -> None:
    """Less smd, ewc has -0.1, -0.2, -0.3 and -0.4."""
    smd, ewc = two_orders(tmp_path).rows
    assert smd.against == {}
    average = ewc.against["average"]
    assert average.pairs == 4
    assert average.mean == pytest.approx(-0.25)
    # The deviation of the four is 0.1291 and Student's t of three degrees of freedom 3.1824.
    assert average.low == pytest.approx(-0.25 - 3.1824 * 0.12910 / 2, abs=1e-4)
    assert average.high == pytest.approx(-0.25 + 3.1824 * 0.12910 / 2, abs=1e-4)
    assert average.p == 2 / 2**4


def test_a_study_without_its_pair_is_in_no_difference(tmp_path: Path) -> None:
    studies = [*found("smd", (0.8, 0.8)), *found("ewc", (0.8, 0.7), (0.8, 0.1))]
    ewc = tabulate(request(tmp_path, ("smd", "ewc"), against="smd"), studies).rows[1]
    assert ewc.against["average"].pairs == 1
    assert ewc.against["average"].mean == pytest.approx(-0.1)


def test_below_three_pairs_there_is_no_p_value_and_below_two_no_interval() -> None:
    assert paired([]).mean is None
    assert (paired([0.5]).mean, paired([0.5]).low, paired([0.5]).p) == (0.5, None, None)
    two = paired([0.1, 0.3])
    # The deviation is 0.1414 and Student's t of one degree of freedom 12.706.
    assert two.low == pytest.approx(0.2 - 12.706 * 0.1, abs=1e-4)
    assert two.p is None
    assert paired([0.1, 0.3, 0.2]).p == 0.25


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        # All of one sign: two of the 2^n ways are as one-sided.
        ([1.0, 2.0, 3.0], 2 / 8),
        ([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0], 2 / 64),
        # Ranks 1 to 4, the negative one has rank 2: sums 0, 1, 2 come in 1 + 1 + 1 ways.
        ([1.0, -2.0, 3.0, 4.0], 2 * 3 / 16),
        # Equals share rank 1.5; the negative one: sums 0 and 1.5 in 1 + 2 ways of 8.
        ([1.0, -1.0, 3.0], 2 * 3 / 8),
        # Of two and one like it there is no evidence at all.
        ([1.0, -1.0], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
        # A zero is left out: as the first line.
        ([0.0, 1.0, 2.0, 3.0], 2 / 8),
        # Rounding makes no difference of equals.
        ([0.1 + 0.2, -0.3, 3.0], 2 * 3 / 8),
    ],
)
def test_the_signed_rank_test_counts_every_way_to_give_signs(
    differences: list[float], p: float
) -> None:
    assert signed_rank(differences) == pytest.approx(p)


def test_the_written_tables_mark_methods_that_keep_real_cases(tmp_path: Path) -> None:
    methods = ("smd", "exemplar-replay")
    studies = [study for name in methods for study in found(name, (0.8, 0.8), (0.8, 0.7))]
    table = tabulate(request(tmp_path, methods, against="smd"), studies)
    lines = text.to_markdown(table).splitlines()
    assert any(line.startswith("| exemplar-replay * |") for line in lines)
    assert any(line.startswith("| smd |") for line in lines)
    assert "augmentation.intensity=true" in lines[0]
    first = lines[2 : lines.index("", 2)]
    assert len({line.count("|") for line in first}) == 1
    assert json.loads(text.to_json(table))["rows"][0]["method"] == "smd"


def test_the_written_tables_say_how_the_order_and_the_method_matter(tmp_path: Path) -> None:
    lines = text.to_markdown(two_orders(tmp_path)).splitlines()
    (smd,) = (line for line in lines if line.startswith("| smd | 0.141 "))
    assert smd.startswith("| smd | 0.141 (0.650 to 0.850) | ")
    (ewc,) = (line for line in lines if line.startswith("| ewc | 4 |"))
    assert ewc.startswith("| ewc | 4 | -0.250 [-0.455, -0.045] p 0.12 | ")
    assert any("| less smd | pairs |" in line for line in lines)


def test_the_terminal_shows_the_same_tables(tmp_path: Path) -> None:
    console = Console(width=text.MIN_WIDTH, record=True, file=io.StringIO())
    console.print(text.to_terminal(two_orders(tmp_path)))
    shown = console.export_text()
    assert "less smd" in shown
    assert "site orders" in shown


def test_the_plot_names_every_method_and_is_the_same_for_the_same_table(tmp_path: Path) -> None:
    table = two_orders(tmp_path)
    svg = plot.drawn(table, "svg")
    assert {">smd<", ">ewc<"} <= set(re.findall(r">[\w-]+<", svg.decode()))
    assert plot.drawn(table, "svg") == svg
    assert plot.drawn(table, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize("methods", [(), ("smd", "magic")])
def test_an_unknown_method_is_refused_before_anything_runs(
    tmp_path: Path, methods: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match="exemplar-replay"):
        run.compare(request(tmp_path, methods), lambda text: None)
    assert not (tmp_path / "out").exists()


def test_a_reference_that_is_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--against: 'ewc'"):
        run.compare(request(tmp_path, ("smd",), against="ewc"), lambda text: None)


def test_orders_are_the_plan_s_its_reverse_then_others_and_never_more_than_there_are(
    tmp_path: Path,
) -> None:
    assert request(tmp_path, ("smd",), orders=1).orders == (("north", "south"),)
    assert request(tmp_path, ("smd",), orders=5).orders == (("north", "south"), ("south", "north"))

    more = replace(
        request(tmp_path, ("smd",), orders=6),
        plan=study().model_copy(update={"sites": ("a", "b", "c")}),
    ).orders
    assert more[:2] == (("a", "b", "c"), ("c", "b", "a"))
    assert len(set(more)) == 6
