"""`wardround study`: make a study for a coordinator, and look after it from afar."""

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from wardround.deploy import study_text
from wardround.deploy.borrowing import expect_no_borrowing
from wardround.deploy.cli_options import Engine, Format, find_study, sound_credentials
from wardround.deploy.study_client import StudyClient
from wardround.deploy.study_in_folder import StudyInFolder
from wardround.shared import plan as plans
from wardround.shared.errors import UsageError
from wardround.shared.study_api import (
    Add,
    Change,
    Pause,
    Remedy,
    Reorder,
    Resume,
    Skip,
    Start,
    Stop,
    StudyStatus,
    Withdraw,
)

_OpenedStudy = AbstractContextManager[StudyClient] | AbstractContextManager[StudyInFolder]

app = typer.Typer(
    no_args_is_help=True,
    help="Make a study for a coordinator, and look after it from afar as an operator.",
    rich_markup_mode="markdown",
)

StudyId = Annotated[str, typer.Argument(metavar="STUDY", help="The study's identifier.")]
SiteName = Annotated[str, typer.Argument(metavar="SITE", help="The site's name.")]
Coordinator = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The coordinator that serves it.", show_default=False),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The study's folder instead, where nobody serves it: between two runs over Flower.",
        show_default=False,
    ),
]
CredentialsDir = Annotated[
    Path, typer.Option("--credentials", help="Folder with an operator's ca.crt, own.crt, own.key.")
]
Output = Annotated[Format, typer.Option("--format", help="For people or programs.")]


@app.command()
def create(
    study: Annotated[str, typer.Argument(metavar="STUDY.toml", help="The plan.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; must hold none yet.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As for `simulate`.", show_default=False),
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="How its messages will move: grpc or flower.")
    ] = Engine.GRPC,
    hold: Annotated[
        bool, typer.Option("--hold", help="Do nothing before `wardround study start`.")
    ] = False,
) -> None:
    """Begin a study: its journal, and the untrained checkpoint that the first site starts from.

    STUDY.toml is the plan that every site approves. Needs what a site needs (torch), since the
    starting checkpoint is made here; the folder can then be carried to a coordinator without it.

    Try:

    `wardround study create study.toml --out out/study`
    """
    from wardround.deploy.in_process import open_study
    from wardround.site_client.learning.genesis import make_genesis

    if engine is Engine.IN_PROCESS:
        raise UsageError(
            "a study that is made here is carried out by other processes, so its engine is grpc or "
            "flower, got in-process. Use wardround simulate for a study in one process."
        )
    plan = plans.load(find_study(study), tuple(overrides or ()))
    expect_no_borrowing(plan)
    genesis = make_genesis(plan)
    with open_study(
        out, plan, genesis.manifest, genesis.parts, engine=engine.value, is_on_hold=hold
    ) as relay:
        print(f"{out}: study {relay.state.study_id}, plan {plan.digest()}")
    if engine is Engine.GRPC:
        print(f"next: wardround coordinator serve {out} --credentials DIR --listen HOST:PORT")
        return
    if hold:
        print(f"then: wardround study start {plan.study_id} --folder {out} --credentials DIR")
    print(
        'next: flwr run "$(wardround flower bundle --folder)" SUPERLINK --stream '
        f"--run-config 'study=\"{out.resolve()}\"'"
    )


@app.command()
def status(
    study: StudyId,
    credentials: CredentialsDir,
    coordinator: Coordinator = None,
    folder: Folder = None,
    output: Output = Format.TEXT,
) -> None:
    """Say where a study stands: its sites, and what is waited for.

    Try:

    `wardround study status heart --coordinator host:7443 --credentials operator`
    """
    with _study(study, credentials, coordinator, folder) as client:
        _show(client.status()[0], output)


@app.command()
def watch(
    study: StudyId,
    coordinator: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The coordinator that serves it.")
    ],
    credentials: CredentialsDir,
    output: Annotated[
        Format, typer.Option("--format", help="json: events and status, one JSON object a line.")
    ] = Format.TEXT,
    after: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of the last event known already; those to come alone where left out.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Follow a study until it ends: bars on a terminal, else a line per phase.

    Waits for a coordinator that is away, and goes on where it was.

    Try:

    `wardround study watch heart --coordinator host:7443 --credentials operator`
    """
    from wardround.deploy.progress import watching
    from wardround.deploy.study_watch import follow

    with StudyClient(coordinator, sound_credentials(credentials), study) as client:
        now, plan = client.status()
        news = client.watch(now.num_events if after is None else after)
        if output is Format.JSON:
            for one in news:
                print(json.dumps(study_text.plain(one)), flush=True)
            return
        content = plans.parse(json.loads(plan), origin=f"coordinator {coordinator}")
        with watching("auto", content, sys.stderr) as watcher:
            last = follow(news, watcher)
        _show(last or now, output)


@app.command()
def start(
    study: StudyId,
    credentials: CredentialsDir,
    coordinator: Coordinator = None,
    folder: Folder = None,
    output: Output = Format.TEXT,
) -> None:
    """Let a study begin that was created on hold.

    Try:

    `wardround study start heart --coordinator host:7443 --credentials operator`
    """
    _change(Start(), _study(study, credentials, coordinator, folder), output)


@app.command()
def pause(
    study: StudyId,
    credentials: CredentialsDir,
    coordinator: Coordinator = None,
    folder: Folder = None,
    output: Output = Format.TEXT,
) -> None:
    """Begin nothing further; a visit under way is finished.

    Try:

    `wardround study pause heart --coordinator host:7443 --credentials operator`
    """
    _change(Pause(), _study(study, credentials, coordinator, folder), output)


@app.command()
def resume(
    study: StudyId,
    credentials: CredentialsDir,
    coordinator: Coordinator = None,
    folder: Folder = None,
    output: Output = Format.TEXT,
) -> None:
    """Go on after a pause.

    Try:

    `wardround study resume heart --coordinator host:7443 --credentials operator`
    """
    _change(Resume(), _study(study, credentials, coordinator, folder), output)


@app.command()
def stop(
    study: StudyId,
    credentials: CredentialsDir,
    coordinator: Coordinator = None,
    folder: Folder = None,
    output: Output = Format.TEXT,
) -> None:
    """End a study for good; what was committed stays, what is under way is dropped.

    Try:

    `wardround study stop heart --coordinator host:7443 --credentials operator`
    """
    _change(Stop(), _study(study, credentials, coordinator, folder), output)


@app.command()
def skip(
    study: StudyId,
    site: SiteName,
    credentials: CredentialsDir,
    coordinator: Coordinator = None,
    folder: Folder = None,
    output: Output = Format.TEXT,
) -> None:
    """Make no visit at a site; it scores checkpoints while it is there.

    A visit under way there is dropped. The site is marked as skipped in the status and the report.

    Try:

    `wardround study skip heart lyon --coordinator host:7443 --credentials operator`
    """
    _change(Skip(site), _study(study, credentials, coordinator, folder), output)


@app.command()
def withdraw(
    study: StudyId,
    site: SiteName,
    credentials: CredentialsDir,
    remedy: Annotated[
        Remedy | None,
        typer.Option(
            help="What becomes of the checkpoints that descend from its visit. continue: the study "
            "goes on from the one before it, and the visits made since are made again; mark: they "
            "are kept and marked. Needed where the site was visited.",
            show_default=False,
        ),
    ] = None,
    coordinator: Coordinator = None,
    folder: Folder = None,
    output: Output = Format.TEXT,
) -> None:
    """Ask a site for nothing any more, and drop its prompt, labeller and decoder everywhere.

    Says which parts were dropped and which checkpoints descend from the site's visit. May also be
    asked for when the study is complete. Copies that were made of the study's folder, and reports
    that were written before, are not reached.

    Try:

    `wardround study withdraw heart lyon --remedy continue --coordinator host:7443 --credentials
    operator`
    """
    _change(Withdraw(site, remedy), _study(study, credentials, coordinator, folder), output)


@app.command()
def add(
    study: StudyId,
    site: SiteName,
    credentials: CredentialsDir,
    coordinator: Coordinator = None,
    folder: Folder = None,
    output: Output = Format.TEXT,
) -> None:
    """Put a site at the end of the sequence: a late one, or one that was skipped or withdrawn.

    A site that the plan does not name needs a plan with `late_sites = true`, which every site,
    this one too, has approved.

    Try:

    `wardround study add heart porto --coordinator host:7443 --credentials operator`
    """
    _change(Add(site), _study(study, credentials, coordinator, folder), output)


@app.command()
def reorder(
    study: StudyId,
    sites: Annotated[
        list[str],
        typer.Argument(metavar="SITE...", help="Every site whose visit is still to begin, once."),
    ],
    credentials: CredentialsDir,
    coordinator: Coordinator = None,
    folder: Folder = None,
    output: Output = Format.TEXT,
) -> None:
    """Make the visits still to come in another order.

    Try:

    `wardround study reorder heart porto lyon --coordinator host:7443 --credentials operator`
    """
    _change(Reorder(tuple(sites)), _study(study, credentials, coordinator, folder), output)


def _change(change: Change, study: _OpenedStudy, output: Format) -> None:
    with study as opened:
        _show(opened.change(change), output)


def _study(
    study_id: str, credentials: Path, coordinator: str | None, folder: Path | None
) -> _OpenedStudy:
    """Return a study at its coordinator, or in its folder.

    Raises:
        IdentityError: The credentials cannot be used, or not for this.
        UsageError: Neither place was named, or both.
    """
    own = sound_credentials(credentials)
    if coordinator is not None and folder is None:
        return StudyClient(coordinator, own, study_id)
    if folder is not None and coordinator is None:
        return nullcontext(StudyInFolder(folder, own, study_id))  # held during a change alone
    raise UsageError(
        "a study is at its coordinator or, where nobody serves it, in its folder. "
        "Give one of --coordinator HOST:PORT and --folder DIR."
    )


def _show(status: StudyStatus, output: Format) -> None:
    if output is Format.JSON:
        print(json.dumps(study_text.plain(status), indent=2))
        return
    console = Console()
    console.print(study_text.title(status), highlight=False, markup=False)
    console.print(study_text.status_table(status))
    withdrawn = (study_text.withdrawal_text(one) for one in status.withdrawals)
    waiting = (study_text.waiting_text(status), study_text.silence_text(status))
    for line in (*withdrawn, *waiting):
        if line:
            console.print(line, highlight=False, markup=False)
