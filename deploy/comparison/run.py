"""Run the studies of a comparison and write its table.

Every study is a child process with a folder of its own, so that one that fails or is stopped harms
no other, and what is there already is resumed. They share the mock sites and the memo of finished
trainings: a denoiser that two methods would train alike is trained once. Two studies that come to
the same training at the same time both do it, so with `jobs` above 1 the seeds run side by side.
"""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from wardround.deploy.comparison import plot, text
from wardround.deploy.comparison.request import Request, Study, check, studies_of
from wardround.deploy.comparison.table import Table, tabulate
from wardround.deploy.number_text import number
from wardround.shared import plan as plans
from wardround.shared import report as reports
from wardround.shared.errors import WardroundError

_TAIL_CHARACTERS = 2000


def compare(request: Request, note: Callable[[str], None]) -> Table:
    """Run every study that is not finished, write the table and its plots, return the table.

    Raises:
        UsageError: A method is not known, none is named, or the reference is not among them.
        WardroundError: A study failed; its message names it. The others' results stay.
    """
    check(request)
    studies = studies_of(request)
    note(f"{len(studies)} studies, {request.jobs} at a time, in {request.out}")
    with ThreadPoolExecutor(max_workers=request.jobs) as pool:
        futures = [pool.submit(_run, request, study, note) for study in studies]
        try:
            failures = [why for future in futures if (why := future.result()) is not None]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
        raise WardroundError(
            f"{len(failures)} of {len(studies)} studies failed:\n" + "\n".join(failures)
        )
    table = tabulate(
        request, [(study, reports.read(study.folder / "report.json")) for study in studies]
    )
    (request.out / "table.json").write_text(text.to_json(table), encoding="utf-8")
    (request.out / "table.md").write_text(text.to_markdown(table), encoding="utf-8")
    (request.out / "table.svg").write_bytes(plot.drawn(table, "svg"))
    (request.out / "table.png").write_bytes(plot.drawn(table, "png"))
    return table


def _run(request: Request, study: Study, note: Callable[[str], None]) -> str | None:
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


def _is_finished(request: Request, study: Study) -> bool:
    path = study.folder / "report.json"
    if not path.is_file():
        return False
    found = reports.read(path)
    plan = plans.load(request.study, _overrides(request, study))
    return found.status == "complete" and found.plan_digest == plan.digest()


def _overrides(request: Request, study: Study) -> tuple[str, ...]:
    order = "[" + ", ".join(f'"{site}"' for site in study.order) + "]"
    return (
        *request.overrides,
        f'method.name="{study.method}"',
        f"seed={study.seed}",
        f"sites={order}",
    )


def _words(request: Request, study: Study) -> list[str]:
    words = [sys.executable, "-m", "wardround.deploy.cli", "simulate", str(request.study)]
    words += ["--out", str(study.folder), "--resume", "--quiet"]
    words += ["--memo", str(request.out / "memo"), "--mock-dir", str(request.out / "data")]
    if request.data is not None:
        words += ["--data", str(request.data)]
    return [*words, *(word for text in _overrides(request, study) for word in ("--set", text))]
