"""One study on one machine: find the data, check everything, run, write the report.

Nothing is written before the plan and every site's data have been found sound. What is written lies
in one folder: `journal`, `checkpoints/`, `sites/SITE/` (a site's own workspace), `plan.toml` (the
plan as it ran), `report.json`, `report.html`, `replay/SITE/*.png`.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Literal

from wardround.deploy import (
    borrowing,
    drawing,
    flower,
    loopback,
    mock_folders,
    own_site,
    plan_text,
    report_page,
    site_folders,
)
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.deploy.progress import Watcher
from wardround.server import loop
from wardround.server.events import IN_PROCESS
from wardround.server.journal import read_events
from wardround.server.order import Order
from wardround.server.relay import Relay
from wardround.server.state import StudyState, fold
from wardround.server.store import ArtefactStore
from wardround.server.study_folder import CHECKPOINTS, JOURNAL
from wardround.shared import plan as plans
from wardround.shared import report as reports
from wardround.shared.errors import DataError, JournalError, UsageError
from wardround.shared.link import SiteGateway
from wardround.shared.messages import Metric, Progress
from wardround.shared.plan import StudyPlan
from wardround.shared.report import Report
from wardround.shared.study_api import Standing
from wardround.shared.trail import AUDIT
from wardround.site_client.data.cases import SiteData
from wardround.site_client.learning.genesis import make_genesis
from wardround.site_client.plan_data import load_for_plan
from wardround.site_client.privacy import approval
from wardround.site_client.site import Site

PLAN = "plan.toml"
REPORT = "report.json"
PAGE = "report.html"
_MARKS = (
    JOURNAL,
    CHECKPOINTS,
    AUDIT,
    "sites",
    loopback.LOGS,
    PLAN,
    REPORT,
    PAGE,
    "replay",
    "examples",
    "data",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How one simulation is run.

    Attributes:
        out: The study's folder.
        places: Where its data may lie.
        resume: Go on with the study that is there.
        fresh: Remove the study that is there first.
        memo: Folder of finished trainings that several studies share, if any.
        mock_dir: Folder in which several studies share their mock sites; `out`/data if None.
        has_pictures: Whether to draw the replay gallery and the examples.
        engine: How messages move.
    """

    out: Path
    places: site_folders.Places
    resume: bool = False
    fresh: bool = False
    memo: Path | None = None
    mock_dir: Path | None = None
    has_pictures: bool = True
    engine: Literal["in-process", "grpc", "flower"] = "in-process"


def simulate(plan: StudyPlan, options: Options, watcher: Watcher) -> Report:
    """Run a study to its end and write its report; see the module docstring.

    Raises:
        UsageError: The folder holds something else, or a study and neither resume nor fresh is set.
        PlanError: The method hands real cases on, and the engine is not in-process.
        DataError: Data are missing or at fault; nothing was written.
        WardroundError: Whatever stopped the study; it can be resumed.
    """
    _check_folder(options)
    plan = site_folders.without_mock(plan, options.places)
    if options.engine != IN_PROCESS:
        borrowing.expect_no_borrowing(plan)
    if options.resume and _is_finished(plan, options.out):
        watcher.note("this study is finished: no data are read, its report is written anew")
        return rebuild(options.out)
    was_there = options.out.exists()
    try:
        folders = _folders(plan, options, watcher)
        sites = load_sites(plan, folders)
    except BaseException:
        # Mock sites are the one thing that is written before everything is known to be sound.
        if not was_there:
            shutil.rmtree(options.out, ignore_errors=True)
        raise
    _clear(options)
    is_new = not (options.out / JOURNAL).exists()
    started = time.monotonic()
    if options.engine == loopback.ENGINE:
        state = _run_in_processes(plan, options, folders, watcher)
    else:
        state = _run_here(plan, options, sites, watcher)
    watcher.note("writing the report")
    (options.out / PLAN).write_text(
        plan_text.write(_with_folders(plan, folders), heading=_PLAN_HEADING), encoding="utf-8"
    )
    pictures = report_page.NO_PICTURES
    if options.has_pictures:
        store = ArtefactStore(options.out / CHECKPOINTS)
        pictures = drawing.draw(plan, state, store, sites)
        report_page.write_pictures(pictures, options.out)
    # What an earlier, interrupted run took is not known.
    seconds = time.monotonic() - started if is_new else None
    report = report_of(plan, state, wall_seconds=seconds)
    write_report(report, pictures, options.out)
    return report


def rebuild(study_dir: Path) -> Report:
    """Write `report.json` and `report.html` of a study anew from its journal.

    Raises:
        JournalError: The folder holds no study, its journal is faulty, or no row is full yet.
    """
    state = fold(read_events(study_dir / JOURNAL))
    if state is None:
        raise JournalError(
            f"journal '{study_dir / JOURNAL}' is empty. Run the study first: wardround simulate."
        )
    plan = plans.parse(json.loads(state.plan), origin=str(study_dir / JOURNAL))
    is_mock = False
    if (study_dir / PLAN).is_file():
        is_mock = plans.load(study_dir / PLAN).simulation.mock is not None
    wall = None
    if (study_dir / REPORT).is_file():
        wall = reports.read(study_dir / REPORT).timing.wall
    report = report_of(plan, state, wall_seconds=wall)
    pictures = report_page.read_pictures(study_dir, plan.sites, sites_are_mock=is_mock)
    write_report(report, pictures, study_dir)
    return report


def write_report(report: Report, pictures: report_page.Pictures, study_dir: Path) -> None:
    """Write `report.html`, then `report.json`, each in one piece."""
    report_page.write_page(report, pictures, study_dir / PAGE)
    draft = study_dir / f"{REPORT}.part"
    draft.write_text(reports.to_json(report), encoding="utf-8")
    draft.replace(study_dir / REPORT)


def report_of(plan: StudyPlan, state: StudyState, *, wall_seconds: float | None) -> Report:
    """Return the report of a study from its state."""
    return reports.build(
        reports.Facts(
            plan=plan,
            status=_STATUS.get(state.standing, "interrupted"),
            engine=state.engine,
            sites=state.sites,
            num_rows=state.num_rows,
            skipped=state.skipped,
            withdrawn=state.withdrawn,
            evaluations=tuple(state.evaluations.values()),
            visits=state.visit_reports,
            checkpoints={visit: ref.digest for visit, ref in enumerate(state.checkpoints)},
            traffic=_traffic(state),
            versions=_versions(),
            wall_seconds=wall_seconds,
        )
    )


def load_sites(plan: StudyPlan, folders: Mapping[str, Path]) -> dict[str, SiteData]:
    """Return the data of every site, all of them checked.

    Raises:
        DataError: The faults of all sites together.
    """
    sites: dict[str, SiteData] = {}
    messages = []
    for site_id in plan.sites:
        try:
            sites[site_id] = load_for_plan(plan, site_id, folders[site_id])
        except DataError as error:
            messages.append(str(error))
    if messages:
        raise DataError("\n".join(messages))
    return sites


class _Narrator:
    """An engine that tells the watcher of each visit that is committed."""

    def __init__(self, engine: loop.Engine, relay: Relay, watcher: Watcher) -> None:
        self._engine = engine
        self._relay = relay
        self._watcher = watcher

    def carry_out(self, order: Order) -> None:
        self._engine.carry_out(order)
        if order.kind == "visit":
            report = self._relay.state.visit_reports[order.visit - 1]
            self._watcher.visit_done(
                order.visit, order.site_id, report.metrics.get(Metric.DICE_AFTER)
            )


def _open(
    plan: StudyPlan, options: Options, on_progress: Callable[[Progress], None] | None = None
) -> AbstractContextManager[Relay]:
    genesis = make_genesis(plan)
    return open_study(
        options.out,
        plan,
        genesis.manifest,
        genesis.parts,
        resume=options.resume,
        engine=options.engine,
        on_progress=on_progress,
    )


def _run_here(
    plan: StudyPlan, options: Options, sites: Mapping[str, SiteData], watcher: Watcher
) -> StudyState:
    with _open(plan, options, watcher.progress) as relay:
        _approve(plan, options)
        gateways = {
            site_id: Site(
                plan,
                data,
                relay.state.manifest,
                workspace=options.out / "sites" / site_id,
                borrowed=borrowing.borrowed(plan, site_id, sites),
                memo=options.memo,
            )
            for site_id, data in sites.items()
        }
        with _engine(options.engine, gateways, relay) as engine:
            return loop.run(relay, _Narrator(engine, relay, watcher))


def _approve(plan: StudyPlan, options: Options) -> None:
    """Note at every site that whoever runs the simulation approves its plan."""
    for site_id in plan.sites:
        workspace = options.out / "sites" / site_id
        approval.approve_in_simulation(own_site.trail_of(site_id, workspace), plan)


def _engine(
    name: str, gateways: Mapping[str, SiteGateway], relay: Relay
) -> AbstractContextManager[loop.Engine]:
    if name == flower.ENGINE:
        flower.expect_installed("flower-simulation", "flwr", "ray")
        from wardround.deploy.flower.simulation import simulated_engine

        return simulated_engine(gateways, relay)
    return nullcontext(InProcessEngine(gateways, relay))


def _run_in_processes(
    plan: StudyPlan, options: Options, folders: Mapping[str, Path], watcher: Watcher
) -> StudyState:
    with _open(plan, options):
        _approve(plan, options)  # it is there; the coordinator's process takes it from here
    return loopback.run(plan, folders, options.out, watcher, memo=options.memo)


def _check_folder(options: Options) -> None:
    out = options.out
    if options.resume and options.fresh:
        raise UsageError("--resume goes on with a study and --fresh removes it. Give one of them.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"'{out}' is a file. Name a folder with --out.")
    held = sorted(path.name for path in out.iterdir()) if out.exists() else []
    foreign = [name for name in held if name not in _MARKS]
    if held and JOURNAL not in held and foreign:
        raise UsageError(
            f"'{out}' holds other files ({', '.join(foreign[:5])}) and no study. "
            f"Name an empty or new folder with --out."
        )
    if JOURNAL in held and not (options.resume or options.fresh):
        raise UsageError(
            f"'{out}' holds a study already. Add --resume to go on with it (a finished one is "
            f"shown again), --fresh to remove it and start over, or name another folder with --out."
        )


def _is_finished(plan: StudyPlan, out: Path) -> bool:
    """Return whether this very study has ended in `out`, report and all."""
    if not ((out / JOURNAL).is_file() and (out / REPORT).is_file()):
        return False
    state = fold(read_events(out / JOURNAL))
    return state is not None and state.is_complete and state.plan_digest == plan.digest()


def _clear(options: Options) -> None:
    if not options.fresh:
        return
    for name in _MARKS:
        path = options.out / name
        if path.is_dir():
            if name != "data":  # mock sites are the same bytes each time
                shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _folders(plan: StudyPlan, options: Options, watcher: Watcher) -> dict[str, Path]:
    if plan.simulation.mock is None:
        return site_folders.find(plan, options.places)
    return mock_folders.make(plan, options.mock_dir or options.out / "data", watcher.note)


def _with_folders(plan: StudyPlan, folders: Mapping[str, Path]) -> StudyPlan:
    """Return the plan with absolute data folders, so that the copy runs from anywhere."""
    if plan.simulation.mock is not None:
        return plan
    found = {site: str(folder.resolve()) for site, folder in folders.items()}
    simulation = plan.simulation.model_copy(update={"data_root": None, "data": found})
    return plan.model_copy(update={"simulation": simulation})


_PLAN_HEADING = "The plan of this study as it ran, every default filled in.\n\n"


def _traffic(state: StudyState) -> dict[int, tuple[int, int]]:
    """Return the checkpoint bytes to and from the site of each visit; messages are negligible."""
    traffic = {}
    for visit in range(1, state.num_visits + 1):
        parent, child = (
            {part.digest: part.size_bytes for part in state.checkpoints[number].parts}
            for number in (visit - 1, visit)
        )
        traffic[visit] = (
            sum(parent.values()),
            sum(size for digest, size in child.items() if digest not in parent),
        )
    return traffic


_STATUS: Mapping[Standing, Literal["complete", "stopped"]] = {
    Standing.COMPLETE: "complete",
    Standing.STOPPED: "stopped",
}


def _versions() -> dict[str, str]:
    packages = ("wardround", "torch", "monai", "numpy", "scipy")
    return {"python": python_version(), **{name: version(name) for name in packages}}
