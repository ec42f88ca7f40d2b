"""The page stands on its own: nothing is loaded from elsewhere, everything is labelled."""

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from wardround.deploy import report_page
from wardround.deploy.report_page import Example, Gallery, Pictures, charts, views
from wardround.shared import plan, report
from wardround.shared.messages import ClassScore, EvaluationReport, Phase, VisitReport

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
SITES = ("north", "south")
MATRIX = [[0.0, 0.1], [0.8, 0.3], [0.6, 0.9]]


def built(rows: int = 3, method: str = "smd", sites: tuple[str, ...] = SITES) -> report.Report:
    study = plan.parse(
        {
            "study_id": "two-sites",
            "sites": list(sites),
            "task": {"classes": ["gland", "a_b - 2"]},
            "method": {"name": method},
        },
        origin="test",
    )
    evaluations = [
        EvaluationReport(
            visit=i,
            site_id=site,
            checkpoint_digest="0" * 64,
            num_cases=5,
            classes=tuple(
                ClassScore(
                    class_name=name, dice=MATRIX[i][j], hd95_mm=3.0, asd_mm=None, num_undefined=2
                )
                for name in study.task.classes
            ),
            data_digest="d" * 64,
        )
        for i in range(rows)
        for j, site in enumerate(sites)
    ]
    visits = [
        VisitReport(
            visit=i,
            site_id=sites[i - 1],
            num_train=9,
            metrics={},
            phase_seconds={Phase.SEGMENTER: 3.0 * i, Phase.DENOISER: 1.0},
        )
        for i in range(1, rows)
    ]
    return report.build(
        report.Facts(
            plan=study,
            status="complete" if rows == len(sites) + 1 else "interrupted",
            engine="in-process",
            sites=sites,
            num_rows=rows,
            evaluations=evaluations,
            visits=visits,
            checkpoints=dict.fromkeys(range(rows), "a" * 64),
            traffic=dict.fromkeys(range(1, rows), (2048, 3 * 2**20)),
            versions={"wardround": "0.1.0"},
            wall_seconds=75.0,
        )
    )


def mock_pictures() -> Pictures:
    gallery = Gallery(site_id="north", generated=(PNG, PNG), real=(PNG,))
    example = Example(
        site_id="north", caption="<script>alert(1)</script>", image=PNG, label=PNG, prediction=PNG
    )
    return Pictures(galleries=(gallery,), examples=(example,), sites_are_mock=True)


class Reader(HTMLParser):
    """Collects what a browser would fetch or run, and what a screen reader would miss."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.images_without_alt = 0
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.handlers += [name for name in named if name.startswith("on")]
        self.addresses += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
        ]
        if tag == "img" and not named.get("alt"):
            self.images_without_alt += 1
        if named.get("id"):
            self.ids.add(named["id"] or "")


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def test_the_page_refers_to_nothing_outside_itself_and_runs_no_script() -> None:
    html = report_page.render(built(), mock_pictures())
    reader = read(html)
    assert "script" not in reader.tags
    assert reader.handlers == []
    assert {a.split(",")[0][:5] for a in reader.addresses if not a.startswith("#")} == {"data:"}
    assert "url(" not in html
    assert "@import" not in html
    assert re.search(r"https?://", html) is None
    assert "default-src 'none'" in html


def test_links_within_the_page_lead_somewhere_and_every_image_has_a_text() -> None:
    reader = read(report_page.render(built(), mock_pictures()))
    assert {a[1:] for a in reader.addresses if a.startswith("#")} <= reader.ids
    assert reader.images_without_alt == 0


def test_text_from_outside_is_escaped() -> None:
    html = report_page.render(built(), mock_pictures())
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_every_generated_image_is_captioned_generated() -> None:
    html = report_page.render(built(), mock_pictures())
    assert html.count("<figcaption>GENERATED</figcaption>") == 2


def test_real_cases_are_refused_unless_the_sites_are_mock_sites() -> None:
    gallery = Gallery(site_id="north", generated=(PNG,), real=(PNG,))
    with pytest.raises(ValueError, match="real cases"):
        Pictures(galleries=(gallery,), sites_are_mock=False)
    with pytest.raises(ValueError, match="PNG"):
        Pictures(galleries=(Gallery(site_id="n", generated=(b"GIF89a",)),), sites_are_mock=True)


def test_a_page_on_real_data_says_that_only_generated_images_are_shown() -> None:
    pictures = Pictures(
        galleries=(Gallery(site_id="north", generated=(PNG,)),), sites_are_mock=False
    )
    assert "only generated images are shown" in report_page.render(built(), pictures)


def test_pictures_read_back_as_they_were_written(tmp_path: Path) -> None:
    pictures = mock_pictures()
    report_page.write_pictures(pictures, tmp_path)
    assert (tmp_path / "replay" / "north" / "generated-01.png").read_bytes() == PNG
    assert report_page.read_pictures(tmp_path, SITES, sites_are_mock=True) == pictures
    real = report_page.read_pictures(tmp_path, SITES, sites_are_mock=False)
    assert real.examples == ()
    assert real.galleries[0].real == ()


def test_the_diagonal_is_marked_and_unseen_cells_are_hatched() -> None:
    rows = views.heat(built())
    assert [[cell.kind for cell in row.cells] for row in rows] == [
        ["start", "start"],
        ["own", "unseen"],
        ["seen", "own"],
    ]
    assert rows[1].cells[0].text == "0.800"
    assert rows[1].cells[1].spoken == "south after visit 1: 0.300, not yet visited"


@pytest.mark.parametrize("method", ["finetune", "joint", "exemplar-replay"])
def test_methods_without_replay_render_and_say_so(method: str) -> None:
    html = report_page.render(built(method=method), report_page.NO_PICTURES)
    assert "uses no generated replay" in html
    assert ("Breaks the privacy rule" in html) is (method != "finetune")


@pytest.mark.parametrize("rows", [1, 2])
def test_an_interrupted_study_renders_and_says_so(rows: int) -> None:
    assert "Interrupted." in report_page.render(built(rows), report_page.NO_PICTURES)


def test_a_single_site_renders_with_dashes_for_what_is_not_defined() -> None:
    html = report_page.render(built(rows=2, sites=("north",)), report_page.NO_PICTURES)
    assert views.NONE in html


def test_the_page_is_written_in_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report_page.write_page(built(), report_page.NO_PICTURES, path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "\u2013"), (-0.0301, "\u22120.030"), (-0.0001, "0.000"), (0.5, "0.500")],
)
def test_numbers_have_three_digits_and_a_true_minus(value: float | None, text: str) -> None:
    assert views.number(value) == text


def test_gains_carry_a_plus_sign() -> None:
    assert views.number(0.25, signed=True) == "+0.250"


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (2048, "2.0 KiB"), (3 * 2**20, "3.0 MiB"), (2**31, "2.0 GiB")],
)
def test_bytes_have_binary_units(num_bytes: int, text: str) -> None:
    assert views.size(num_bytes) == text


def test_a_line_begins_anew_after_a_gap() -> None:
    frame = charts.Frame(width=10, height=10, left=0, right=0, top=0, bottom=0, num_visits=10)
    line = charts.line("a", "a", [None, 1.0, 0.5, None, 0.0], frame)
    assert line.path == "M1 0 L2 5 M4 10"
    assert [mark.visit for mark in line.marks] == [1, 2, 4]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.slow
def test_chromium_shows_the_page_without_a_complaint(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    report_page.write_page(built(), mock_pictures(), page)
    shot = tmp_path / "shot.png"
    words = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1000,2000",
        f"--screenshot={shot}",
        page.as_uri(),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert shot.stat().st_size > 20_000, done.stderr
    assert "CONSOLE" not in done.stderr
