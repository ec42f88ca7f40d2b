"""The command line: `wardround COMMAND`, one function per command, texts complete in `--help`."""

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from rich.console import Console

from wardround.deploy import (
    cli_audit,
    cli_authority,
    cli_data,
    cli_flower,
    cli_identity,
    cli_plan,
    cli_relay,
    cli_study,
)
from wardround.deploy.cli_options import Engine, Format, find_study
from wardround.deploy.results_text import results_table, summary_lines, title
from wardround.shared import report as reports
from wardround.shared.errors import UsageError, WardroundError

if TYPE_CHECKING:
    from wardround.deploy.simulate import Options

INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help=(
        "Continual segmentation across hospital sites: the model travels, the images never do.\n\n"
        "First steps:\n\n"
        "`wardround simulate` runs six made-up sites and writes out/simulate/report.html\n\n"
        "`wardround plan new DATA --out study.toml` writes a plan for your own data\n\n"
        "`wardround simulate study.toml --out out/my-study` runs it\n\n"
        "Exit status: 0 done, 2 wrong usage, 3 plan, 4 data, 5 checkpoint, 6 refused to leave a "
        "site, 7 message, 8 journal, 9 training, 10 identity, 11 connection lost, "
        "12 audit trail, 13 not permitted by the site, 130 interrupted."
    ),
)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_plan.app, name="plan")
app.add_typer(cli_study.app, name="study")
app.add_typer(cli_relay.coordinator_app, name="coordinator")
app.add_typer(cli_identity.site, name="site")
app.add_typer(cli_flower.flower_app, name="flower")
app.add_typer(cli_authority.app, name="ca")
app.add_typer(cli_audit.app, name="audit")
app.command()(cli_identity.doctor)


@app.command()
def simulate(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY.toml]",
            help="Study plan, or the name of a packaged one (`plan list`); the demo if left out.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("out/simulate"),
    engine: Annotated[
        Engine, typer.Option(help="How messages move between coordinator and sites.")
    ] = Engine.IN_PROCESS,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with one folder per site; wins over the plan, $WARDROUND_DATA and "
            "../shared/data.",
            show_default=False,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one key of the plan; repeat for more. --set method.name=finetune",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study in --out, or show it again.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove the study in --out first.")
    ] = False,
    output: Annotated[
        Format,
        typer.Option("--format", help="json: report on standard output, progress as JSON lines."),
    ] = Format.TEXT,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    memo: Annotated[Path | None, typer.Option(hidden=True)] = None,
    mock_dir: Annotated[Path | None, typer.Option(hidden=True)] = None,
    pictures: Annotated[bool, typer.Option(hidden=True)] = True,
) -> None:
    """Take one model through all sites of a study on this machine, and write the report.

    STUDY.toml is a study plan or the name of a packaged one (`wardround plan list`). Without it
    the demo runs on mock sites.

    Writes OUT/report.json, OUT/report.html and OUT/replay/SITE/*.png, and prints the results
    matrix: Dice on every site after every visit.

    Try:

    `wardround simulate`

    `wardround simulate study.toml --out out/first --set seed=1`

    `wardround simulate study.toml --out out/first --resume`
    """
    from wardround.deploy import simulate as simulation
    from wardround.deploy import site_folders
    from wardround.deploy.progress import Mode, watching
    from wardround.shared import plan as plans

    path = find_study(study)
    plan = plans.load(path, tuple(overrides or ()))
    options = simulation.Options(
        out=out,
        places=site_folders.Places(
            study_dir=path.resolve().parent,
            data=data,
            variable=os.environ.get(site_folders.VARIABLE),
            working_dir=Path.cwd(),
        ),
        resume=resume,
        fresh=fresh,
        memo=memo,
        mock_dir=mock_dir,
        has_pictures=pictures,
        engine=engine.value,
    )
    mode: Mode = "quiet" if quiet else "json" if output is Format.JSON else "auto"
    started = time.monotonic()
    try:
        with watching(mode, plan, sys.stderr) as watcher:
            report = simulation.simulate(plan, options, watcher)
    except KeyboardInterrupt:
        _say_how_to_go_on(options)
        raise typer.Exit(INTERRUPTED) from None
    _show(report, out, output, time.monotonic() - started)


def _say_how_to_go_on(options: "Options") -> None:
    from wardround.server.study_folder import JOURNAL

    if (options.out / JOURNAL).exists():
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--fresh")]
        again = " ".join(["wardround", *words, "--resume"])
        print(
            f"\nstopped; nothing that was finished is lost. Go on with:\n  {again}", file=sys.stderr
        )
    else:
        print("\nstopped before anything was begun.", file=sys.stderr)


def _show(report: reports.Report, out: Path, output: Format, seconds: float) -> None:
    if output is Format.JSON:
        print(reports.to_json(report), end="")
        return
    console = Console()
    console.print(title(report), highlight=False, markup=False)
    console.print(results_table(report))
    for line in summary_lines(report):
        console.print(line, highlight=False)
    console.print(f"\n{out / 'report.html'}  ({seconds:.0f} s)", highlight=False)


@app.command()
def report(
    study_dir: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Folder of a study.", show_default=False),
    ] = None,
    output: Annotated[
        Format, typer.Option("--format", help="For people or programs.")
    ] = Format.TEXT,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of report.json instead.")
    ] = False,
) -> None:
    """Write report.json and report.html of a study anew from its journal, and print the results.

    DIR is the folder of a study, such as out/simulate.

    Works while a study runs and after it was stopped: every full row of the matrix is shown.

    Try:

    `wardround report out/simulate`

    `wardround report --schema > report.schema.json`
    """
    if schema:
        print(json.dumps(reports.json_schema(), indent=2))
        return
    if study_dir is None:
        raise UsageError("'wardround report' needs the folder of a study. Try: out/simulate.")
    from wardround.deploy import simulate as simulation

    started = time.monotonic()
    _show(simulation.rebuild(study_dir), study_dir, output, time.monotonic() - started)


@app.command()
def compare(
    study: Annotated[str, typer.Argument(metavar="STUDY.toml", help="Study plan to vary.")],
    out: Annotated[Path, typer.Option(help="Folder of the comparison.")],
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas.")
    ] = "finetune,exemplar-replay,smd,joint",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds: the plan's, then the next ones.")] = 1,
    orders: Annotated[
        int, typer.Option(min=1, help="Site orders: the plan's, its reverse, then drawn ones.")
    ] = 1,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD", help="Pair each method with this one and test.", show_default=False
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change one key for every study.", show_default=False
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="As for `simulate`.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Studies at a time.")] = 1,
    output: Annotated[
        Format, typer.Option("--format", help="For people or programs.")
    ] = Format.TEXT,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Run several methods on the same study and write the table: means, spread, paired tests.

    STUDY.toml is the plan to vary, or the name of a packaged one, such as benchmark.

    Each study has its own folder OUT/METHOD/seed-N (with several orders OUT/METHOD/seed-N/order-N)
    and is resumed if it is there, so the same command goes on after an interruption. Writes
    OUT/table.json, OUT/table.md and, as a plot, OUT/table.svg and OUT/table.png.

    Methods: finetune (no memory), exemplar-replay (keeps real cases), diffusion-replay (generated
    replay alone), smd (generated replay with gradient alignment), joint (all data at once), and
    those that the README lists.

    Try:

    `wardround compare benchmark --methods finetune,smd,joint --seeds 3 --out out/table`

    `wardround compare study.toml --methods smd,ewc --orders 5 --against smd --out out/orders`
    """
    from wardround.deploy.comparison import run, text
    from wardround.deploy.comparison.request import Request
    from wardround.shared import plan as plans

    path = find_study(study)
    request = Request(
        study=path.resolve(),
        plan=plans.load(path, tuple(overrides or ())),
        methods=tuple(dict.fromkeys(word.strip() for word in methods.split(",") if word.strip())),
        against=against,
        num_seeds=seeds,
        num_orders=orders,
        overrides=tuple(overrides or ()),
        data=data.resolve() if data else None,
        out=out,
        jobs=jobs,
    )
    try:
        table = run.compare(request, _silence if quiet else _note)
    except KeyboardInterrupt:
        print("\nstopped; give the same command again to go on.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if output is Format.JSON:
        print(text.to_json(table), end="")
    else:
        # Narrower, its columns would be cut to nothing.
        width = max(Console().width, text.MIN_WIDTH)
        Console(width=width).print(text.to_terminal(table))


def _silence(_text: str) -> None:
    """Say nothing."""


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run the command and end the process with its exit status."""
    # Threads that wait by spinning stall each other as soon as another process wants the core:
    # with two threads beside one busy process a training step took 25 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    command = typer.main.get_command(app)
    try:
        status = command.main(prog_name="wardround", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except WardroundError as error:
        _complain(error)
        status = error.exit_status
    except BrokenPipeError:
        # Whoever read the output has gone; a traceback would help nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except ModuleNotFoundError as error:
        missing = UsageError(
            f"the module '{error.name}' is not installed; what runs inside a site needs more than "
            f"a coordinator. Install it: pip install 'wardround[site]'."
        )
        _complain(missing)
        status = missing.exit_status
    sys.exit(status if isinstance(status, int) else 0)


def _complain(error: WardroundError) -> None:
    words = sys.argv[1:]
    if "--format=json" in words or ("--format", "json") in itertools.pairwise(words):
        content = {
            "error": type(error).__name__,
            "message": str(error),
            "exit_status": error.exit_status,
        }
        print(json.dumps(content), file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
