"""The plot of a comparison: average Dice and BWT of each method, every study as a dot.

The same table gives the same SVG: its identifiers follow from a fixed salt, and it has no date.
"""

import io
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wardround.deploy.comparison.table import Row, Table

_PANELS = (
    ("average", "average Dice after the last visit"),
    ("bwt", "backward transfer (negative: forgotten)"),
)
# Okabe and Ito's blue and vermilion, which people with any colour vision can tell apart.
_LEAVES, _KEEPS = "#0072B2", "#D55E00"


def drawn(table: Table, kind: Literal["svg", "png"]) -> bytes:
    """Return the plot as an SVG or PNG file.

    Means are diamonds with a bar of one standard deviation either way; the lines of methods that
    keep real cases have the other colour and a star.
    """
    figure = Figure(figsize=(10, 1.6 + 0.34 * len(table.rows)), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True, squeeze=False)[0]
    for axes, (name, title) in zip(panels, _PANELS, strict=True):
        for place, row in enumerate(table.rows):
            _line(axes, place, row, name)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    panels[1].axvline(0, color="black", linewidth=0.8)
    panels[0].set_yticks(range(len(table.rows)), [_label(row) for row in table.rows])
    panels[0].invert_yaxis()
    figure.suptitle(
        f"{table.study}: {len(table.seeds)} seed(s), {len(table.orders)} site order(s); "
        f"* keeps real cases of other sites",
        fontsize=10,
    )
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "wardround", "svg.fonttype": "none"}):
        figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {})
    return file.getvalue()


def _line(axes: Axes, place: int, row: Row, name: str) -> None:
    colour = _KEEPS if row.keeps_real_cases else _LEAVES
    values = [value for run in row.runs if (value := run.figures[name]) is not None]
    axes.plot(values, [place] * len(values), ".", color=colour, alpha=0.4)
    cell = row.figures[name]
    if cell.mean is not None:
        axes.errorbar(
            [cell.mean], [place], xerr=cell.spread, fmt="D", color=colour, markersize=5, capsize=3
        )


def _label(row: Row) -> str:
    return row.method + (" *" if row.keeps_real_cases else "")
