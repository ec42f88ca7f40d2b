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


@app.command()
def export(
    workspace: Annotated[
        Path | None,
        typer.Argument(help="A site's workspace, as for `site start`.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; made where it is missing.", show_default=False),
    ] = None,
    visit: Annotated[
        int | None,
        typer.Option(min=0, help="This visit alone; 0: the starting model.", show_default=False),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a dossier instead.")
    ] = False,
) -> None:
    """Write an egress dossier for each visit: everything that left a site, and under what.

    Weights and messages with their bytes and digests, refusals, verdicts of audits, the privacy
    budget, approvals, the site's policy; as HTML without any other file, and as JSON. Opens no
    connection. Checks every line of the trail first, and ends with status 12 if one is bad.

    Try:

    `wardround audit export work --out dossiers`

    `wardround audit export --schema > dossier.schema.json`
    """
    from wardround.deploy import dossier as dossiers

    if schema:
        print(json.dumps(dossiers.json_schema(), indent=2))
        return
    if workspace is None or out is None:
        raise UsageError("Name a site's workspace, and with --out the folder to write to.")
    found = [
        one
        for one in dossiers.gather(_sound(workspace), _policy_of(workspace))
        if visit is None or one.visit == visit
    ]
    if not found:
        which = "no order" if visit is None else f"nothing of visit {visit}"
        raise UsageError(f"the audit trail in '{workspace}' tells of {which}. Name another.")
    out.mkdir(parents=True, exist_ok=True)
    for one in found:
        which = "no-visit" if one.visit is None else f"visit-{one.visit}"
        name = f"{one.study or 'study'}-{one.plan_digest[:12]}-{which}"
        (out / f"{name}.json").write_text(dossiers.to_json(one), encoding="utf-8")
        (out / f"{name}.html").write_text(dossiers.render(one), encoding="utf-8")
        total = one.totals
        messages = total.messages + total.progress_messages
        said = total.message_bytes + total.progress_bytes
        print(
            f"{out / name}.html, .json: {total.parts} file(s) of weights, {total.part_bytes} "
            f"bytes; {messages} message(s), {said} bytes; formal DP: {one.formal_dp}"
        )


def _sound(workspace: Path) -> Reading:
    """Return a site's trail, every line of which is as it was signed."""
    folders = trail_folders(workspace)
    if len(folders) > 1:
        raise UsageError(
            f"'{workspace}' holds {len(folders)} audit trails. Name the workspace of one site."
        )
    reading = trails.read(folders[0])
    if reading.fault is not None:
        raise TrailError(
            f"{folders[0] / LINES_FILE}, line {reading.fault.line} {reading.fault.why}. Find out "
            f"who changed it, and restore the trail from a copy; no dossier is made of it."
        )
    return reading


def _policy_of(workspace: Path) -> dict[str, Any]:
    from wardround.site_client.privacy import policy

    return policy.load(workspace / policy.POLICY_FILE).model_dump(mode="json")


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
