"""What each part of the page shows, as plain values that a template only has to lay out."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wardround.deploy.number_text import NONE, number
from wardround.deploy.report_page import charts
from wardround.deploy.report_page.pictures import Pictures
from wardround.shared.messages import Phase
from wardround.shared.report import Report
from wardround.shared.report_surface import SurfaceCell

_MEANINGS = (
    ("average", "Average", "Mean Dice over all sites after the last visit: how good the model is."),
    (
        "bwt",
        "Backward transfer",
        "How far a site's score moved from its own visit to the end. Below 0 it was forgotten.",
    ),
    (
        "forgetting",
        "Forgetting",
        "How far each site ended below the best it had reached. 0 or less means nothing was lost.",
    ),
    (
        "memorizability",
        "Memorizability",
        "Mean Dice at the end over the sites already left: what is still known.",
    ),
    (
        "unseen",
        "Unseen sites",
        "Mean Dice wherever a site had not been visited yet, every cell counting alike.",
    ),
    (
        "generalizability",
        "Generalizability",
        "The same on sites still ahead, every visit counting alike.",
    ),
    (
        "fwt",
        "Forward transfer",
        "How much better than the starting model a site was served before its own visit.",
    ),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One headline figure."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One cell of the heat map; `mix` in percent from the low to the high colour."""

    text: str
    mix: int
    kind: str
    spoken: str


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled row of cells."""

    label: str
    cells: tuple[Any, ...]
    mean: str = ""


@dataclass(frozen=True, slots=True)
class SurfaceText:
    """Surface distances of one cell, as text."""

    hd95: str
    asd: str
    undefined: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One site's small chart."""

    site: str
    visit: str
    chart: charts.LineChart
    own: charts.Mark | None
    last: charts.Mark | None
    every: int
    spoken: str


def figures(report: Report) -> tuple[Figure, ...]:
    """Return the headline figures, each with its meaning in a sentence."""
    signed = ("bwt", "fwt")
    return tuple(
        Figure(name, number(getattr(report.summary, key), signed=key in signed), meaning)
        for key, name, meaning in _MEANINGS
    )


def mix(dice: float) -> int:
    """Return how far a Dice is towards the high colour, in percent; squared to part the top."""
    return round(100 * dice * dice)


def heat(report: Report) -> tuple[Row, ...]:
    """Return the rows of the heat map."""
    return tuple(
        Row(
            _row_label(report, visit),
            tuple(_heat_cell(report, visit, j) for j in range(len(report.sites))),
            number(report.curves.average[visit]),
        )
        for visit in range(len(report.matrix))
    )


def _heat_cell(report: Report, visit: int, column: int) -> HeatCell:
    value = report.matrix[visit][column]
    site = report.sites[column]
    if visit == 0:
        kind, place = "start", "starting model"
    elif column + 1 == visit:
        kind, place = "own", "the site just visited"
    elif column + 1 > visit:
        kind, place = "unseen", "not yet visited"
    else:
        kind, place = "seen", "visited before"
    if value is None:
        return HeatCell(NONE, 0, kind, f"{site} after visit {visit}: not scored, {place}")
    spoken = f"{site} after visit {visit}: {value:.3f}, {place}"
    return HeatCell(f"{value:.3f}", mix(value), kind, spoken)


def _row_label(report: Report, visit: int) -> str:
    return f"{visit} {report.sites[visit - 1]}" if visit else "0 starting model"


def means(report: Report) -> charts.LineChart:
    """Return the chart of the three means over the visits."""
    frame = charts.Frame(
        width=960, height=330, left=48, right=22, top=14, bottom=46, num_visits=len(report.sites)
    )
    return charts.chart(
        frame,
        [
            charts.line("sites visited so far", "seen", report.curves.seen, frame),
            charts.line("sites not yet visited", "ahead", report.curves.generalizability, frame),
            charts.line("all sites", "average", report.curves.average, frame),
        ],
    )


def panels(report: Report) -> tuple[Panel, ...]:
    """Return one small chart per site."""
    frame = charts.Frame(
        width=300, height=172, left=32, right=42, top=10, bottom=26, num_visits=len(report.sites)
    )
    columns = list(zip(*report.matrix, strict=True))
    ghosts = [
        charts.line(site, "ghost", c, frame) for site, c in zip(report.sites, columns, strict=True)
    ]
    return tuple(_panel(report, j, columns[j], ghosts, frame) for j in range(len(columns)))


def _panel(
    report: Report,
    j: int,
    column: tuple[float | None, ...],
    ghosts: list[charts.Line],
    frame: charts.Frame,
) -> Panel:
    visit = j + 1
    whole = charts.line(report.sites[j], "all", column, frame)
    before = [value if i <= visit else None for i, value in enumerate(column)]
    after = [value if i >= visit else None for i, value in enumerate(column)]
    lines = [
        *(ghost for k, ghost in enumerate(ghosts) if k != j),
        charts.line(report.sites[j], "before", before, frame),
        charts.line(report.sites[j], "after", after, frame),
    ]
    values = ", ".join(f"visit {i} {number(value)}" for i, value in enumerate(column))
    told = f"visit {visit}" if visit <= report.num_planned else "no visit"
    return Panel(
        site=report.sites[j],
        visit=told,
        chart=charts.chart(frame, lines, y_step=0.5),
        own=next((mark for mark in whole.marks if mark.visit == visit), None),
        last=whole.marks[-1] if whole.marks else None,
        every=1 + len(report.sites) // 10,
        spoken=f"Dice on {report.sites[j]}, its own visit: {told}: {values}",
    )


def surface(report: Report) -> tuple[Row, ...]:
    """Return the rows of the surface-distance table."""
    cells = {(cell.visit, cell.site): cell for cell in report.surface}
    return tuple(
        Row(
            _row_label(report, visit),
            tuple(_surface_text(cells.get((visit, site))) for site in report.sites),
        )
        for visit in range(len(report.matrix))
    )


def _surface_text(cell: SurfaceCell | None) -> SurfaceText:
    if cell is None:
        return SurfaceText(NONE, NONE, "")
    return SurfaceText(
        number(cell.hd95_mm, digits=1),
        number(cell.asd_mm, digits=2),
        "" if cell.num_undefined == 0 else _count(cell.num_undefined),
    )


def folds(report: Report) -> tuple[Row, ...]:
    """Return the rows of the table of folds, in percent; none where nothing is registered."""
    cells = {(cell.visit, cell.site): cell.folds for cell in report.surface}
    return _rows_of(report, cells, lambda share: f"{100 * share:.2f} %")


def target_errors(report: Report) -> tuple[Row, ...]:
    """Return the rows of the table of target registration errors; none without key points."""
    cells = {(cell.visit, cell.site): cell.tre_mm for cell in report.surface}
    return _rows_of(report, cells, lambda error_mm: number(error_mm, digits=2))


def _rows_of(
    report: Report, cells: Mapping[tuple[int, str], float | None], text: Callable[[float], str]
) -> tuple[Row, ...]:
    """Return a row a visit with what each site's cell says; none where no cell says anything."""
    if all(value is None for value in cells.values()):
        return ()
    told = {place: text(value) for place, value in cells.items() if value is not None}
    return tuple(
        Row(
            _row_label(report, visit),
            tuple(told.get((visit, site), NONE) for site in report.sites),
        )
        for visit in range(len(report.matrix))
    )


def _count(count: int | None) -> str:
    return "suppressed" if count is None else str(count)


def classes(report: Report) -> list[dict[str, str]]:
    """Return one row per site and class for the last checkpoint."""
    last = len(report.matrix) - 1
    return [
        {
            "site": cell.site,
            "name": score.name,
            "dice": number(score.dice),
            "hd95": number(score.hd95_mm, digits=1),
            "asd": number(score.asd_mm, digits=2),
            "undefined": _count(score.num_undefined),
        }
        for cell in report.surface
        if cell.visit == last
        for score in cell.classes
    ]


def galleries(pictures: Pictures) -> list[dict[str, Any]]:
    """Return the replay galleries with their pictures as data addresses."""
    return [
        {
            "site_id": gallery.site_id,
            "generated": [_data_address(png) for png in gallery.generated],
            "real": [_data_address(png) for png in gallery.real],
        }
        for gallery in pictures.galleries
    ]


def examples(pictures: Pictures) -> list[dict[str, str]]:
    """Return the example segmentations with their pictures as data addresses."""
    return [
        {
            "site_id": example.site_id,
            "caption": example.caption,
            "image": _data_address(example.image),
            "label": _data_address(example.label),
            "prediction": _data_address(example.prediction),
        }
        for example in pictures.examples
    ]


def _data_address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def phases(report: Report) -> list[str]:
    """Return the phases that any visit spent time in, in the order of a visit."""
    used = {phase for row in report.timing.visits for phase in row.phases}
    return [phase.value for phase in Phase if phase.value in used]


def timings(report: Report) -> list[dict[str, Any]]:
    """Return one row per visit: seconds and bar widths of each phase."""
    longest = max((row.seconds for row in report.timing.visits), default=0.0)
    names = phases(report)
    rows = []
    for row in report.timing.visits:
        seconds = [row.phases.get(name, 0.0) for name in names]
        widths = charts.shares(seconds, longest)
        parts = [
            {"phase": name, "width": width, "text": f"{value:.1f}"}
            for name, width, value in zip(names, widths, seconds, strict=True)
        ]
        total = f"{row.seconds:.1f}"
        rows.append({"visit": row.visit, "site": row.site, "parts": parts, "total": total})
    return rows


def duration(seconds: float) -> str:
    """Return a span of time in words, such as "4 min 12 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def traffic(report: Report) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the bytes of each visit and of all of them, as text."""
    rows: list[dict[str, Any]] = [
        {
            "visit": row.visit,
            "site": row.site,
            "to_site": size(row.to_site),
            "from_site": size(row.from_site),
        }
        for row in report.bytes
    ]
    total = {
        "to_site": size(sum(row.to_site for row in report.bytes)),
        "from_site": size(sum(row.from_site for row in report.bytes)),
    }
    return rows, total


def size(num_bytes: int) -> str:
    """Return a number of bytes with a binary unit, such as "1.4 MiB"."""
    amount = float(num_bytes)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{num_bytes} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def plan_sections(report: Report) -> list[dict[str, Any]]:
    """Return the plan as named lists of keys and values; settings outside a table come first."""
    plain = [(key, _value(v)) for key, v in report.plan.items() if not isinstance(v, dict)]
    tables = [
        {"name": key, "entries": [(name, _value(value)) for name, value in table.items()]}
        for key, table in report.plan.items()
        if isinstance(table, dict)
    ]
    return [{"name": "study", "entries": plain}, *tables]


def _value(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)
