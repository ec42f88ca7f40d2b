"""The table of a comparison: means and spread, what the site order changes, and paired tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from wardround.deploy.comparison.paired import Paired, paired
from wardround.deploy.comparison.request import Request, Study
from wardround.shared.plan_method import KEEPS_REAL_CASES
from wardround.shared.report import Report

FIGURES = ("average", "bwt", "fwt", "forgetting", "unseen", "memorizability")
REFERENCE = "joint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Mean, standard deviation (None for a single value) and range of one figure."""

    mean: float | None
    spread: float | None
    least: float | None
    most: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one study came to; `order` counts from 1 as the table's orders do."""

    seed: int
    order: int
    figures: dict[str, float | None]
    minutes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method.

    Attributes:
        method: Its name.
        keeps_real_cases: It breaks the privacy rule and stands there for comparison.
        runs: Its studies.
        figures: Name -> mean and spread over seeds and orders.
        over_orders: Name -> mean over the orders, and spread between them, of the means over seeds.
        against: Name -> this method less the reference, over the pairs of studies with one seed
            and order; empty for the reference itself and where none is asked for.
        minutes: Time inside the visits.
        relative_to_joint: Average Dice over that of `joint`, if `joint` was run.
    """

    method: str
    keeps_real_cases: bool
    runs: tuple[Run, ...]
    figures: dict[str, Cell]
    over_orders: dict[str, Cell]
    against: dict[str, Paired]
    minutes: Cell
    relative_to_joint: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The table of a comparison; `against` names the reference of the paired tests."""

    study: str
    seeds: tuple[int, ...]
    orders: tuple[tuple[str, ...], ...]
    overrides: tuple[str, ...]
    against: str | None
    rows: tuple[Row, ...]


def tabulate(request: Request, found: Sequence[tuple[Study, Report]]) -> Table:
    """Return the table of finished studies, the methods in the order asked for."""
    orders = request.orders
    runs = {
        method: tuple(
            _run(report, orders.index(study.order) + 1, study.seed)
            for study, report in found
            if study.method == method
        )
        for method in request.methods
    }
    joint = _cell([run.figures["average"] for run in runs.get(REFERENCE, ())]).mean
    reference = runs.get(request.against, ()) if request.against is not None else ()
    return Table(
        study=request.plan.study_id,
        seeds=request.seeds,
        orders=orders,
        overrides=request.overrides,
        against=request.against,
        rows=tuple(
            _row(method, of, joint, () if method == request.against else reference)
            for method, of in runs.items()
        ),
    )


def _run(report: Report, order: int, seed: int) -> Run:
    return Run(
        seed=seed,
        order=order,
        figures={name: getattr(report.summary, name) for name in FIGURES},
        minutes=report.timing.total / 60,
    )


def _row(method: str, runs: Sequence[Run], joint: float | None, reference: Sequence[Run]) -> Row:
    figures = {name: _cell([run.figures[name] for run in runs]) for name in FIGURES}
    average = figures["average"].mean
    return Row(
        method=method,
        keeps_real_cases=method in KEEPS_REAL_CASES,
        runs=tuple(runs),
        figures=figures,
        over_orders={name: _over_orders(runs, name) for name in FIGURES},
        against={name: paired(_differences(runs, reference, name)) for name in FIGURES}
        if reference
        else {},
        minutes=_cell([run.minutes for run in runs]),
        relative_to_joint=average / joint if joint and average is not None else None,
    )


def _over_orders(runs: Sequence[Run], name: str) -> Cell:
    orders = dict.fromkeys(run.order for run in runs)
    return _cell(
        [_cell([run.figures[name] for run in runs if run.order == order]).mean for order in orders]
    )


def _differences(runs: Sequence[Run], reference: Sequence[Run], name: str) -> list[float]:
    """Return the figure less the reference's, for each seed and order in which both have it."""
    ours, theirs = _by_pair(runs, name), _by_pair(reference, name)
    return [ours[pair] - theirs[pair] for pair in ours if pair in theirs]


def _by_pair(runs: Sequence[Run], name: str) -> Mapping[tuple[int, int], float]:
    values = {(run.seed, run.order): run.figures[name] for run in runs}
    return {pair: value for pair, value in values.items() if value is not None}


def _cell(values: Sequence[float | None]) -> Cell:
    defined = [value for value in values if value is not None]
    return Cell(
        mean=fmean(defined) if defined else None,
        spread=stdev(defined) if len(defined) > 1 else None,
        least=min(defined, default=None),
        most=max(defined, default=None),
    )
