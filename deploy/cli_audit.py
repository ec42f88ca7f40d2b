"""`wardround audit`: check audit trails off-line, and write down what left a site."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from wardround.deploy.cli_options import Format
from wardround.shared import trail as trails
from wardround.shared import trail_anchors
from wardround.shared.errors import TrailError, UsageError
from wardround.shared.trail import AUDIT, LINES_FILE
from wardround.shared.trail_lines import Reading

app = typer.Typer(
    no_args_is_help=True,
    help="Check audit trails off-line, and write down what left a site.",
    rich_markup_mode="markdown",
)


@app.command()
def verify(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="A site's workspace, a study's folder, or a trail's own folder."
        ),
    ],
    output: Annotated[
        Format, typer.Option("--format", help="For people or programs.")
    ] = Format.TEXT,
) -> None:
    """Check audit trails: every line there, in order, as it was signed. Opens no connection.

    Names the first bad line of each trail, and ends with status 12 if there is one. Given both a
    site's trail and the coordinator's, it holds what each was told of the other against what that
    one now says, which finds a trail that its own holder rewrote.

    The key that a trail is signed with is printed: compare it with what the holder says it is.

    Try:

    `wardround audit verify work`

    `wardround audit verify work coordinator/study`
    """
    folders = [folder for path in paths for folder in trail_folders(path)]
    readings = {folder: trails.read(folder) for folder in dict.fromkeys(folders)}
    found = [_described(folder, reading) for folder, reading in readings.items()]
    sound = {folder: reading for folder, reading in readings.items() if reading.fault is None}
    compared = trail_anchors.compare([reading.lines for reading in sound.values()])
    places = list(sound)
    disagreements = [
        f"{places[one.trail] / LINES_FILE}, line {one.line} {one.why}: line {one.told_by} of "
        f"{places[one.told_in] / LINES_FILE} says so"
        for one in compared.disagreements
    ]
    if output is Format.JSON:
        told = {
            "trails": found,
            "anchors": compared.num_anchors,
            "disagreements": disagreements,
        }
        print(json.dumps(told, indent=2))
    else:
        for line in (*map(_line, found), *disagreements):
            print(line)
        print(f"{compared.num_anchors} anchor(s) of one trail in another were compared")
    num_faults = len(readings) - len(sound) + len(disagreements)
    if num_faults:
        raise TrailError(
            f"{num_faults} fault(s) in {len(readings)} trail(s). Find out who changed what is "
            f"named above, and restore it from a copy."
        )


def trail_folders(path: Path) -> list[Path]:
    """Return the folders of the trails that a path means.

    Of a simulation's folder these are the coordinator's and every site's.

    Raises:
        UsageError: There is none.
    """
    if path.name == LINES_FILE:
        return [path.parent]
    if (path / LINES_FILE).is_file():
        return [path]
    inside = [path / AUDIT, *sorted(path.glob(f"sites/*/{AUDIT}"))]
    found = [folder for folder in inside if (folder / LINES_FILE).is_file()]
    if not found:
        raise UsageError(
            f"'{path}' holds no audit trail ({AUDIT}/{LINES_FILE}). Name a site's workspace, a "
            f"study's folder, or the folder of a trail."
        )
    return found


def _described(folder: Path, reading: Reading) -> dict[str, Any]:
    opened = reading.lines[0].facts if reading.lines else {}
    return {
        "trail": str(folder / LINES_FILE),
        "holder": opened.get("holder"),
        "key": opened.get("public_key"),
        "lines": len(reading.lines),
        "head": reading.head.digest,
        "fault": None
        if reading.fault is None
        else {"line": reading.fault.line, "why": reading.fault.why},
    }


def _line(found: dict[str, Any]) -> str:
    if found["fault"] is not None:
        return f"{found['trail']}, line {found['fault']['line']} {found['fault']['why']}"
    return (
        f"{found['trail']}: sound. {found['holder']}, {found['lines']} line(s), "
        f"signed with key {found['key']}"
    )
