"""A paper's table: several methods on one study, over seeds and site orders.

Every study is a child process with a folder of its own, so that one that fails or is stopped harms
no other, and what is there already is resumed. They share the mock sites and the memo of finished
trainings: a denoiser that two methods would train alike is trained once. Two studies that come to
the same training at the same time both do it, so with `jobs` above 1 the seeds run side by side.
"""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

from rich import box
from rich.table import Table as RichTable

from wardround.deploy.number_text import MINUS, NONE, number
from wardround.shared import plan as plans
from wardround.shared import report as reports
from wardround.shared import seeds
from wardround.shared.errors import UsageError, WardroundError
from wardround.shared.plan import StudyPlan
from wardround.shared.plan_method import KEEPS_REAL_CASES, Method
from wardround.shared.report import Report

FIGURES = ("average", "bwt", "fwt", "forgetting", "unseen", "memorizability")
REFERENCE = "joint"
MIN_WIDTH = 128
_TAIL_CHARACTERS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to compare.

    Attributes:
        study: The study file that the children read.
        plan: The same, loaded with `overrides`.
        methods: Their names.
        num_seeds: How many seeds, from the plan's on.
        num_orders: How many site orders, the plan's first.
        overrides: KEY=VALUE for every study.
        data: The command's `--data`.
        out: Folder of the comparison.
        jobs: Studies at a time.
    """

    study: Path
    plan: StudyPlan
    methods: tuple[str, ...]
    num_seeds: int
    num_orders: int
    overrides: tuple[str, ...]
    data: Path | None
    out: Path
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Mean and standard deviation (None for a single study) of one figure."""

    mean: float | None
    spread: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method.

    Attributes:
        method: Its name.
        studies: How many studies the means are over.
        keeps_real_cases: It breaks the privacy rule and stands there for comparison.
        figures: Name -> mean and spread over seeds and orders.
        minutes: Time inside the visits.
        relative_to_joint: Average Dice over that of `joint`, if `joint` was run.
    """

    method: str
    studies: int
    keeps_real_cases: bool
    figures: dict[str, Cell]
    minutes: Cell
    relative_to_joint: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The table of a comparison."""

    study: str
    seeds: tuple[int, ...]
    orders: tuple[tuple[str, ...], ...]
    overrides: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Study:
    method: str
    seed: int
    order: tuple[str, ...]
    folder: Path


def compare(request: Request, note: Callable[[str], None]) -> Table:
    """Run every study that is not finished, write `table.json` and `table.md`, return the table.

    Raises:
        UsageError: A method is not known or none is named.
        WardroundError: A study failed; its message names it. The others' results stay.
    """
    _check_methods(request.methods)
    studies = _studies(request)
    note(f"{len(studies)} studies, {request.jobs} at a time, in {request.out}")
    with ThreadPoolExecutor(max_workers=request.jobs) as pool:
        futures = [pool.submit(_run, request, study, note) for study in studies]
        try:
            failures = [text for future in futures if (text := future.result()) is not None]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
        raise WardroundError(
            f"{len(failures)} of {len(studies)} studies failed:\n" + "\n".join(failures)
        )
    found = [(study.method, reports.read(study.folder / "report.json")) for study in studies]
    table = tabulate(request, found)
    (request.out / "table.json").write_text(to_json(table), encoding="utf-8")
    (request.out / "table.md").write_text(to_markdown(table), encoding="utf-8")
    return table


def tabulate(request: Request, found: Sequence[tuple[str, Report]]) -> Table:
    """Return the table of finished studies, the methods in the order asked for."""
    by_method = {m: [report for name, report in found if name == m] for m in request.methods}
    joint = _cell([report.summary.average for report in by_method.get(REFERENCE, [])]).mean
    return Table(
        study=request.plan.study_id,
        seeds=_seeds(request),
        orders=_orders(request),
        overrides=request.overrides,
        rows=tuple(_row(method, of, joint) for method, of in by_method.items()),
    )


def to_json(table: Table) -> str:
    """Return the table as indented JSON with a final line break."""
    return json.dumps(asdict(table), indent=2, allow_nan=False) + "\n"


def to_markdown(table: Table) -> str:
    """Return the table as Markdown, with what was run above and the legend below it."""
    header = [*_headings(), ""]
    lines = [
        f"Study `{table.study}`, seeds {', '.join(map(str, table.seeds))}, "
        f"{len(table.orders)} site order(s)"
        + (f", with `{'`, `'.join(table.overrides)}`" if table.overrides else ""),
        "",
        "| " + " | ".join(header[:-1]) + " |",
        "|" + "---|" + "---:|" * (len(header) - 2),
        *("| " + " | ".join(_texts(row)) + " |" for row in table.rows),
        "",
        _LEGEND,
    ]
    return "\n".join(lines).replace(MINUS, "-").replace(NONE, "-") + "\n"


def rich_table(table: Table) -> RichTable:
    """Return the table for a terminal."""
    drawn = RichTable(
        title=f"{table.study}: seeds {', '.join(map(str, table.seeds))}, "
        f"{len(table.orders)} site order(s)",
        caption=_LEGEND,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
    )
    for place, heading in enumerate(_headings()):
        drawn.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(text.replace(" +- ", "\n+-") for text in _texts(row)))
    return drawn


_LEGEND = (
    "Mean +- standard deviation over the studies of a method. * keeps real cases of other sites: "
    "breaks the privacy rule, simulation only."
)


def _headings() -> list[str]:
    return ["method", "average", "of joint", "BWT", "FWT", *FIGURES[3:], "minutes", "studies"]


def _texts(row: Row) -> list[str]:
    relative = NONE if row.relative_to_joint is None else f"{100 * row.relative_to_joint:.1f} %"
    average, *others = (_text(row.figures[name], name in ("bwt", "fwt")) for name in FIGURES)
    minutes = NONE if row.minutes.mean is None else f"{row.minutes.mean:.1f}"
    name = row.method + (" *" if row.keeps_real_cases else "")
    return [name, average, relative, *others, minutes, str(row.studies)]


def _text(cell: Cell, signed: bool) -> str:
    mean = number(cell.mean, signed=signed)
    return mean if cell.spread is None else f"{mean} +- {cell.spread:.3f}"


def _row(method: str, found: Sequence[Report], joint: float | None) -> Row:
    figures = {name: _cell([getattr(r.summary, name) for r in found]) for name in FIGURES}
    average = figures["average"].mean
    return Row(
        method=method,
        studies=len(found),
        keeps_real_cases=method in KEEPS_REAL_CASES,
        figures=figures,
        minutes=_cell([report.timing.total / 60 for report in found]),
        relative_to_joint=average / joint if joint and average is not None else None,
    )


def _cell(values: Sequence[float | None]) -> Cell:
    defined = [value for value in values if value is not None]
    return Cell(
        mean=fmean(defined) if defined else None,
        spread=stdev(defined) if len(defined) > 1 else None,
    )


def _check_methods(methods: Sequence[str]) -> None:
    known = Method.model_fields["name"].annotation.__args__  # type: ignore[union-attr]
    unknown = [method for method in methods if method not in known]
    if unknown or not methods:
        raise UsageError(
            f"--methods: {', '.join(unknown) or 'nothing'} is not known. "
            f"Choose from {', '.join(known)}, separated by commas."
        )


def _seeds(request: Request) -> tuple[int, ...]:
    return tuple(request.plan.seed + n for n in range(request.num_seeds))


def _orders(request: Request) -> tuple[tuple[str, ...], ...]:
    """Return the plan's order, then others drawn without repetition as far as there are any."""
    sites = request.plan.sites
    orders = {sites: None}
    for attempt in range(50 * request.num_orders):
        if len(orders) == request.num_orders:
            break
        drawn = list(sites)
        # The standard library's shuffle is stable across its releases for one seed.
        random.Random(seeds.derive(request.plan.seed, "order", attempt)).shuffle(drawn)  # noqa: S311
        orders[tuple(drawn)] = None
    return tuple(orders)


def _studies(request: Request) -> list[_Study]:
    orders = _orders(request)
    studies = []
    for number_, order in enumerate(orders, start=1):
        for method in request.methods:
            for seed in _seeds(request):
                folder = request.out / method / f"seed-{seed}"
                if len(orders) > 1:
                    folder /= f"order-{number_}"
                studies.append(_Study(method=method, seed=seed, order=order, folder=folder))
    return studies


def _run(request: Request, study: _Study, note: Callable[[str], None]) -> str | None:
    """Run one study; return why it failed, or None."""
    name = "/".join(study.folder.relative_to(request.out).parts)
    if _is_finished(request, study):
        note(f"{name}: finished before")
        return None
    note(f"{name}: running")
    done = subprocess.run(_words(request, study), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        note(f"{name}: failed with status {done.returncode}")
        return f"{name}: {done.stderr[-_TAIL_CHARACTERS:].strip()}"
    summary = reports.read(study.folder / "report.json").summary
    note(f"{name}: average {number(summary.average)}, BWT {number(summary.bwt, signed=True)}")
    return None


def _is_finished(request: Request, study: _Study) -> bool:
    path = study.folder / "report.json"
    if not path.is_file():
        return False
    found = reports.read(path)
    plan = plans.load(request.study, _overrides(request, study))
    return found.status == "complete" and found.plan_digest == plan.digest()


def _overrides(request: Request, study: _Study) -> tuple[str, ...]:
    order = "[" + ", ".join(f'"{site}"' for site in study.order) + "]"
    return (
        *request.overrides,
        f'method.name="{study.method}"',
        f"seed={study.seed}",
        f"sites={order}",
    )


def _words(request: Request, study: _Study) -> list[str]:
    words = [sys.executable, "-m", "wardround.deploy.cli", "simulate", str(request.study)]
    words += ["--out", str(study.folder), "--resume", "--quiet"]
    words += ["--memo", str(request.out / "memo"), "--mock-dir", str(request.out / "data")]
    if request.data is not None:
        words += ["--data", str(request.data)]
    return [*words, *(word for text in _overrides(request, study) for word in ("--set", text))]
