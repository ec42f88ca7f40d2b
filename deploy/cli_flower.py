"""`wardround flower`: take part in a study over a Flower federation."""

from pathlib import Path
from typing import Annotated

import typer

from wardround.deploy.cli_options import find_study, read_given, sound_credentials
from wardround.deploy.flower import expect_installed

flower_app = typer.Typer(
    no_args_is_help=True,
    help="Take part in a study over a Flower federation.",
    rich_markup_mode="markdown",
)


@flower_app.callback()
def _group() -> None:
    expect_installed("flower", "flwr")


@flower_app.command()
def bundle(
    folder: Annotated[
        bool, typer.Option("--folder", help="Print the folder instead, for `flwr run`.")
    ] = False,
    simulation: Annotated[
        bool,
        typer.Option("--simulation", help="The one for Flower's simulation runtime instead."),
    ] = False,
) -> None:
    """Print the digest of this release's app bundle, for a site's list.

    The bundle holds names and no code: each end runs the release that is installed there.

    Try:

    `wardround flower bundle`

    `flwr run "$(wardround flower bundle --folder)" superlink --run-config 'study="DIR"'`
    """
    from wardround.deploy.flower import bundle as bundles

    chosen = bundles.SIMULATION if simulation else bundles.FOLDER
    print(chosen if folder else bundles.digest(chosen))


@flower_app.command()
def key(
    certificate: Annotated[Path, typer.Argument(help="The own.crt of a site.")],
) -> None:
    """Print the key of a site's certificate in the form that `flwr supernode register` takes.

    Try:

    `wardround flower key utrecht.crt > utrecht.pub`

    `flwr supernode register utrecht.pub superlink --name utrecht`
    """
    from wardround.deploy.flower.keys import public_key

    name, text = public_key(read_given(certificate, "certificate"))
    print(f"{text} {name}")


@flower_app.command()
def site(
    study: Annotated[str, typer.Argument(metavar="STUDY.toml", help="The plan approved here.")],
    name: Annotated[str, typer.Option("--site", help="This site's name in the plan.")],
    data: Annotated[Path, typer.Option(help="Folder with this site's cases.")],
    workspace: Annotated[
        Path, typer.Option(help="Folder for the audit trail and for what was finished.")
    ],
    credentials: Annotated[
        Path, typer.Option(help="Folder with this site's ca.crt, own.crt and own.key.")
    ],
    superlink: Annotated[str, typer.Option(metavar="HOST:PORT", help="The SuperLink to dial.")],
    port: Annotated[
        int, typer.Option(help="Port that the SuperNode uses on this machine alone.")
    ] = 9094,
    allowed: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="DIGEST",
            help="A bundle that may run here; repeat for more. This release's own if left out.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Become this site's SuperNode, guarded: it runs the installed package and nothing else.

    STUDY.toml is the plan that was approved here; an order for another one is refused. The key of
    CREDENTIALS must be registered at the SuperLink under this site's name.

    Try:

    `wardround flower site study.toml --site utrecht --data data --workspace work
    --credentials credentials --superlink coordinator.example:443`
    """
    from wardround.deploy.flower import bundle as bundles
    from wardround.deploy.flower import supernode
    from wardround.deploy.own_site import approved_plan, expect_permitted

    path = find_study(study)
    plan = approved_plan(path, name)
    sound_credentials(credentials)
    expect_permitted(plan, name, workspace)
    settings = {
        "site": name,
        "plan": str(path.resolve()),
        "data": str(data.resolve()),
        "workspace": str(workspace.resolve()),
    }
    digests = allowed or [bundles.digest()]
    supernode.start(settings, credentials.resolve(), superlink, port=port, allowed=digests)
