"""A study's results as text: the matrix as a table and the figures in a line each."""

from rich.table import Table
from rich.text import Text

from wardround.deploy.number_text import number
from wardround.shared.report import Report

_LABELS = (
    ("average", "average"),
    ("bwt", "backward transfer (BWT)"),
    ("forgetting", "forgetting"),
    ("memorizability", "memorizability"),
    ("unseen", "unseen sites"),
    ("generalizability", "generalizability"),
    ("fwt", "forward transfer (FWT)"),
)


def results_table(report: Report) -> Table:
    """Return the results matrix: the diagonal bold, cells of unseen sites dim."""
    table = Table()
    table.add_column("after")
    for site in report.sites:
        table.add_column(site, justify="right")
    table.add_column("mean", justify="right")
    for visit, row in enumerate(report.matrix):
        label = f"{visit} {report.sites[visit - 1]}" if visit else "0 starting model"
        cells = [
            Text(number(value), style=_style(visit, column)) for column, value in enumerate(row, 1)
        ]
        table.add_row(label, *cells, number(report.curves.average[visit]))
    return table


def title(report: Report) -> str:
    """Return the line that stands above the matrix."""
    return f"{report.study}, {report.method}, seed {report.seed}: Dice after each visit"


def _style(visit: int, column: int) -> str:
    if visit == column:
        return "bold"
    return "dim" if column > visit else ""


def summary_lines(report: Report) -> list[str]:
    """Return one line per figure, and what the reader must know of the study."""
    lines = [
        f"{label:<26}{number(getattr(report.summary, key), signed=key in ('bwt', 'fwt')):>8}"
        for key, label in _LABELS
    ]
    if report.status != "complete":
        made = len(report.matrix) - 1
        lines.append(f"{report.status}: {made} of {report.num_planned} visits are in these figures")
    for out in report.left_out:
        by = f"operator {out.by}" if out.by else "the plan, for it was absent"
        lines.append(f"{out.how}: {out.site}, by {by}")
    lines.append(f"formal DP: {report.privacy.formal_dp}")
    if report.privacy.keeps_real_cases:
        lines.append(f"note: {report.privacy.note}")
    return lines
