"""The table of a comparison as JSON, as Markdown and for a terminal."""

import json
from dataclasses import asdict

from rich import box
from rich.console import Group
from rich.table import Table as RichTable

from wardround.deploy.comparison.paired import Paired
from wardround.deploy.comparison.table import FIGURES, Cell, Row, Table
from wardround.deploy.number_text import MINUS, NONE, number

MIN_WIDTH = 128
_SIGNED = ("bwt", "fwt")
_TESTED = ("average", "bwt", "unseen")  # in print; table.json has every figure
_HEADINGS = {"average": "average", "bwt": "BWT", "fwt": "FWT"}

_LEGEND = (
    "Mean +- standard deviation over the studies of a method. * keeps real cases of other sites: "
    "breaks the privacy rule, simulation only."
)
_ORDERS_LEGEND = (
    "Standard deviation between site orders, of means over the seeds; in brackets least and most."
)


def to_json(table: Table) -> str:
    """Return the table as indented JSON with a final line break."""
    return json.dumps(asdict(table), indent=2, allow_nan=False) + "\n"


def to_markdown(table: Table) -> str:
    """Return the tables as Markdown, with what was run above and a legend below each."""
    lines = [
        f"Study `{table.study}`, seeds {', '.join(map(str, table.seeds))}, "
        f"{len(table.orders)} site order(s)"
        + (f", with `{'`, `'.join(table.overrides)}`" if table.overrides else ""),
    ]
    for heading, rows, legend in _tables(table):
        lines += ["", "| " + " | ".join(heading) + " |"]
        lines += ["|" + "---|" + "---:|" * (len(heading) - 1)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines += ["", legend]
    return "\n".join(lines).replace(MINUS, "-").replace(NONE, "-") + "\n"


def to_terminal(table: Table) -> Group:
    """Return the tables for a terminal at least `MIN_WIDTH` wide."""
    title = (
        f"{table.study}: seeds {', '.join(map(str, table.seeds))}, "
        f"{len(table.orders)} site order(s)"
    )
    drawn: list[RichTable] = []
    for heading, rows, legend in _tables(table):
        one = RichTable(
            title=None if drawn else title,
            caption=legend,
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE,
        )
        for place, word in enumerate(heading):
            one.add_column(word, justify="right" if place else "left", no_wrap=True)
        for row in rows:
            one.add_row(*(text.replace(" +- ", "\n+-") for text in row))
        drawn.append(one)
    return Group(*drawn)


def _tables(table: Table) -> list[tuple[list[str], list[list[str]], str]]:
    """Return heading, rows and legend of each table that there is something for."""
    found = [(_headings(), [_texts(row) for row in table.rows], _LEGEND)]
    if len(table.orders) > 1:
        heading = ["site orders", *map(_heading, _TESTED)]
        rows = [[row.method, *(_order_text(row, name) for name in _TESTED)] for row in table.rows]
        found.append((heading, rows, _ORDERS_LEGEND))
    tested = [row for row in table.rows if row.against]
    if tested:
        heading = [f"less {table.against}", "pairs", *map(_heading, _TESTED)]
        rows = [_paired_texts(row) for row in tested]
        found.append((heading, rows, _paired_legend(table)))
    return found


def _headings() -> list[str]:
    return ["method", "average", "of joint", "BWT", "FWT", *FIGURES[3:], "minutes", "studies"]


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name)


def _texts(row: Row) -> list[str]:
    relative = NONE if row.relative_to_joint is None else f"{100 * row.relative_to_joint:.1f} %"
    average, *others = (_text(row.figures[name], signed=name in _SIGNED) for name in FIGURES)
    minutes = NONE if row.minutes.mean is None else f"{row.minutes.mean:.1f}"
    name = row.method + (" *" if row.keeps_real_cases else "")
    return [name, average, relative, *others, minutes, str(len(row.runs))]


def _text(cell: Cell, *, signed: bool) -> str:
    mean = number(cell.mean, signed=signed)
    return mean if cell.spread is None else f"{mean} +- {cell.spread:.3f}"


def _order_text(row: Row, name: str) -> str:
    cell, signed = row.over_orders[name], name in _SIGNED
    if cell.spread is None:
        return NONE
    low, high = (number(value, signed=signed) for value in (cell.least, cell.most))
    return f"{cell.spread:.3f} ({low} to {high})"


def _paired_texts(row: Row) -> list[str]:
    most = max(row.against[name].pairs for name in _TESTED)
    return [row.method, str(most), *(_paired_text(row.against[name]) for name in _TESTED)]


def _paired_text(found: Paired) -> str:
    text = number(found.mean, signed=True)
    if found.low is not None:
        text += f" [{number(found.low, signed=True)}, {number(found.high, signed=True)}]"
    return text if found.p is None else f"{text} p {found.p:.2g}"


def _paired_legend(table: Table) -> str:
    return (
        f"Mean difference from {table.against} over studies with the same seed and order "
        f"[95 % interval by Student's t]; p of Wilcoxon's signed-rank test, two-sided and exact, "
        f"from three pairs on. Pairs that share a seed or an order are not independent."
    )
