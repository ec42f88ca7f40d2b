"""`wardround data`: make mock sites, divide a folder into sites, check data, describe them."""

import json
import re
from collections.abc import Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from wardround.deploy.cli_options import Format, find_study
from wardround.shared.errors import DataError
from wardround.shared.message_rules import SITE_ID

if TYPE_CHECKING:
    from wardround.site_client.data.check import SiteCheck

app = typer.Typer(
    no_args_is_help=True,
    help="Make mock sites, divide a folder into sites, check data before a study, describe them.",
    rich_markup_mode="markdown",
)


@app.command()
def make(
    out: Annotated[Path, typer.Option(help="Folder that gets one folder per site.")],
    cases: Annotated[int, typer.Option(min=3, help="Cases per site.")] = 24,
    heldout: Annotated[
        int | None,
        typer.Option(min=1, help="How many of them are held out.", show_default="a quarter"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same files.")] = 0,
) -> None:
    """Write six mock prostate-MRI sites: NIfTI volumes in the nnU-Net v2 layout.

    They are made up. They differ as hospitals do: contrast, field of view, resolution, orientation,
    artefacts, anatomy and how contours are drawn.

    Try:

    `wardround data make --out data/mock --cases 24`
    """
    from wardround.site_client.data.mock import write_mock_sites

    folders = write_mock_sites(out, cases, seed, num_heldout=heldout)
    for site, folder in folders.items():
        print(f"{site:<8} {cases} cases  {folder}")


@app.command()
def divide(
    folder: Annotated[Path, typer.Argument(help="Folder of cases, in any layout that is read.")],
    into: Annotated[str, typer.Option(metavar="SITE,SITE,...", help="Sites, in order.")],
    out: Annotated[Path, typer.Option(help="Folder that gets one folder per site.")],
    group: Annotated[
        str,
        typer.Option(
            metavar="REGEX",
            help="Finds what stays together (a patient) in a case's name: its first bracket.",
        ),
    ] = ".+",
) -> None:
    """Divide one folder of cases into several sites, patient by patient.

    Groups are dealt to the sites in turn. Files are copied into the plain layout; where a split.csv
    says what is trained on, each site gets one that says the same of its cases.

    Try:

    `wardround data divide acdc --into heart-a,heart-b,heart-c --group 'acdc_([0-9]+)' --out sites`
    """
    from wardround.site_client.data.dividing import divide_folder

    shares = divide_folder(folder, _site_names(into), _pattern(group), out)
    for site, share in shares.items():
        print(f"{site:<12} {share.num_cases} cases of {share.num_groups} groups  {share.folder}")


@app.command()
def check(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of sites, or folders that hold sites.")
    ],
    plan: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY.toml",
            help="Check against this plan: channels, classes, dimensions.",
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Highest label value, where there is no plan.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Format, typer.Option("--format", help="For people or programs.")
    ] = Format.TEXT,
) -> None:
    """Say what is wrong with data sets and how to mend it, before any training.

    FOLDERS are sites, or folders that hold sites.

    Reads every file. Ends with status 4 if anything is at fault, 0 if a study could use all of it.

    Layouts: nnU-Net v2 (dataset.json, imagesTr, labelsTr), Medical Segmentation Decathlon, and
    plain images/ + labels/ with matching names. A split.csv (columns case, split) says which cases
    are trained on and which are held out.

    Try:

    `wardround data check data/mock`

    `wardround data check data/utrecht data/leiden --plan study.toml`
    """
    from wardround.shared import plan as plans
    from wardround.site_client.data.check import check_folder, expected_of

    study = plans.load(find_study(plan)) if plan else None
    expected = expected_of(study.task if study else None, classes)
    data = study.data if study else None
    checks = [found for folder in folders for found in check_folder(folder, expected, data)]
    if output is Format.JSON:
        print(json.dumps([_content(found) for found in checks], indent=2))
    else:
        for found in checks:
            _print(found)
        # A hospital that checks its own folder alone need not have the others.
        if study and any(found.folder not in folders for found in checks):
            _say_who_was_not_seen(study.sites, {found.site_id for found in checks})
    faulty = [found.site_id for found in checks if not found.is_sound]
    if faulty:
        raise DataError(
            f"{len(faulty)} of {len(checks)} sites have faults: {', '.join(faulty)}. "
            f"Mend what is listed and check again."
        )


@app.command()
def fingerprint(
    folder: Annotated[Path, typer.Argument(help="Folder of one site, or of several.")],
    output: Annotated[
        Format, typer.Option("--format", help="For people or programs.")
    ] = Format.TEXT,
) -> None:
    """Describe each site in numbers: shapes, spacing, intensities, how much each label fills.

    FOLDER is one site, or a folder that holds sites.

    The numbers stay on this machine. Compare them between sites before a study.

    Try:

    `wardround data fingerprint data/mock`
    """
    from wardround.site_client.data.check import check_folder, expected_of

    checks = check_folder(folder, expected_of(None))
    described = {found.site_id: found.fingerprint for found in checks if found.fingerprint}
    if not described:
        faults = [fault.line(found.folder) for found in checks for fault in found.faults]
        raise DataError(
            f"'{folder}' holds no case that can be read:\n  " + "\n  ".join(faults[:20])
        )
    content = {site: asdict(numbers) for site, numbers in described.items()}
    if output is Format.JSON:
        print(json.dumps(content, indent=2))
        return
    console = Console()
    for site, numbers in content.items():
        console.print(f"[bold]{site}[/]")
        for name, value in numbers.items():
            console.print(f"  {name.replace('_', ' '):<24}{_words(value)}", highlight=False)


def _site_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    wrong = [name for name in names if not SITE_ID.fullmatch(name)]
    if wrong or len(set(names)) != len(names):
        raise DataError(
            f"--into is '{text}', expected different names like {SITE_ID.pattern}, with commas."
        )
    return names


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise DataError(f"--group '{text}' is no regular expression: {error}.") from error


def _content(found: "SiteCheck") -> dict[str, Any]:
    return {
        "site": found.site_id,
        "folder": str(found.folder),
        "layout": found.layout,
        "is_sound": found.is_sound,
        "faults": [fault.line(found.folder) for fault in found.faults],
        "warnings": list(found.warnings),
        "fingerprint": asdict(found.fingerprint) if found.fingerprint else None,
    }


def _print(found: "SiteCheck") -> None:
    console = Console(soft_wrap=True, highlight=False)
    numbers = found.fingerprint
    cases = f"{numbers.num_train} to train on, {numbers.num_heldout} held out" if numbers else ""
    verdict = "[green]sound[/]" if found.is_sound else f"[red]{_counted(len(found.faults))}[/]"
    console.print(f"[bold]{found.site_id}[/] {verdict}  {found.layout}  {cases}")
    for fault in found.faults:
        console.print(f"  fault: {fault.line(found.folder)}", markup=False)
    for warning in found.warnings:
        console.print(f"  note: {warning}", markup=False)


def _say_who_was_not_seen(sites: Sequence[str], seen: Set[str]) -> None:
    unseen = [site for site in sites if site not in seen]
    if unseen:
        print(
            f"note: the plan also names {', '.join(unseen)}, of which there is no folder here. "
            f"A simulation needs the data of every site: add them, or take the names out of sites."
        )


def _counted(num_faults: int) -> str:
    return f"{num_faults} fault{'' if num_faults == 1 else 's'}"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
