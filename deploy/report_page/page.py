"""Fill the page: a report and its pictures go in, HTML comes out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wardround.deploy.report_page import views
from wardround.deploy.report_page.audits import audits
from wardround.deploy.report_page.pictures import Pictures
from wardround.shared.plan_method import DRAWS_PAIRS
from wardround.shared.report import Report

RERUN = ("wardround", "simulate", "plan.toml", "--out", "again")


def render(report: Report, pictures: Pictures, command: Sequence[str] = RERUN) -> str:
    """Return the page as HTML.

    Args:
        report: What to show.
        pictures: Galleries and examples; may be empty.
        command: The words that run the study again, shown to the reader.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(_content(report, pictures, command))


def write_page(
    report: Report, pictures: Pictures, path: Path, command: Sequence[str] = RERUN
) -> None:
    """Write the page to `path` in one piece; arguments as for `render`."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(render(report, pictures, command), encoding="utf-8")
    draft.replace(path)


def _content(report: Report, pictures: Pictures, command: Sequence[str]) -> dict[str, Any]:
    traffic, traffic_total = views.traffic(report)
    return {
        "report": report,
        "figures": views.figures(report),
        "heat": views.heat(report),
        "scale": [views.mix(tenth / 10) for tenth in range(11)],
        "means": views.means(report),
        "panels": views.panels(report),
        "surface": views.surface(report),
        "folds": views.folds(report),
        "target_errors": views.target_errors(report),
        "classes": views.classes(report),
        "audits": audits(report),
        "galleries": views.galleries(pictures),
        "examples": views.examples(pictures),
        "sites_are_mock": pictures.sites_are_mock,
        "is_registration": report.plan["task"].get("kind") == "registration",
        "draws_pairs": report.method in DRAWS_PAIRS,
        "phases": views.phases(report),
        "timings": views.timings(report),
        "total_time": views.duration(report.timing.total),
        "wall": views.duration(report.timing.wall) if report.timing.wall is not None else "",
        "traffic": traffic,
        "traffic_total": traffic_total,
        "plan": views.plan_sections(report),
        "command": " ".join(command),
    }
