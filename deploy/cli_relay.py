"""`wardround study`, `coordinator` and `site`: one study over several machines."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from wardround.deploy.cli_identity import site
from wardround.deploy.cli_options import find_study, sound_credentials
from wardround.shared import plan as plans

study_app = typer.Typer(
    no_args_is_help=True,
    help="Make the folder of a study that a coordinator serves.",
    rich_markup_mode="markdown",
)
coordinator_app = typer.Typer(
    no_args_is_help=True,
    help="Serve a study to its sites.",
    rich_markup_mode="markdown",
)


@study_app.callback()
@coordinator_app.callback()
def _group() -> None:
    """Keep the command's own word where a group has but one."""


@study_app.command()
def create(
    study: Annotated[str, typer.Argument(metavar="STUDY.toml", help="The plan.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; must hold none yet.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As for `simulate`.", show_default=False),
    ] = None,
) -> None:
    """Begin a study: its journal, and the untrained checkpoint that the first site starts from.

    STUDY.toml is the plan that every site approves. Needs what a site needs (torch), since the
    starting checkpoint is made here; the folder can then be carried to a coordinator without it.

    Try:

    `wardround study create study.toml --out out/study`
    """
    from wardround.deploy.in_process import open_study
    from wardround.deploy.own_site import expect_no_borrowing
    from wardround.site_client.learning.genesis import make_genesis

    plan = plans.load(find_study(study), tuple(overrides or ()))
    expect_no_borrowing(plan)
    genesis = make_genesis(plan)
    with open_study(out, plan, genesis.manifest, genesis.parts) as relay:
        print(f"{out}: study {relay.state.study_id}, plan {plan.digest()}")
    print(f"next: wardround coordinator serve {out} --credentials DIR --listen HOST:PORT")


@coordinator_app.command()
def serve(
    study_dir: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the study.")],
    credentials: Annotated[
        Path, typer.Option(help="Folder with the coordinator's ca.crt, own.crt and own.key.")
    ],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
    ] = "0.0.0.0:7443",
    authority: Annotated[
        Path | None,
        typer.Option(
            help="The authority's folder, or a copy with its register: revoked are refused.",
            show_default=False,
        ),
    ] = None,
    linger: Annotated[
        float,
        typer.Option(min=0, help="Seconds to wait, after the end, for sites not told of it yet."),
    ] = 300.0,
) -> None:
    """Serve a study until it is complete and its sites know it.

    DIR is the folder that `wardround study create` made. Sites dial in with mutual TLS; each is
    known by its certificate. Ended or killed at any moment, the same command goes on where the
    study stood.

    Try:

    `wardround coordinator serve out/study --credentials credentials --listen 0.0.0.0:7443`
    """
    from wardround.server import coordinator
    from wardround.server.authority import Authority

    _log_to_standard_error()
    state = coordinator.serve(
        study_dir,
        sound_credentials(credentials),
        listen,
        revoked=frozenset if authority is None else Authority(authority).revoked_serials,
        on_listening=lambda port: print(f"listening on port {port}", flush=True),
        linger_s=linger,
    )
    print(f"study {state.study_id} is complete; last checkpoint {state.checkpoint.digest}")


@site.command()
def start(
    study: Annotated[str, typer.Argument(metavar="STUDY.toml", help="The plan approved here.")],
    name: Annotated[str, typer.Option("--site", help="This site's name in the plan.")],
    data: Annotated[Path, typer.Option(help="Folder with this site's cases.")],
    workspace: Annotated[
        Path, typer.Option(help="Folder for the audit file and for what was finished.")
    ],
    credentials: Annotated[
        Path, typer.Option(help="Folder with this site's ca.crt, own.crt and own.key.")
    ],
    coordinator: Annotated[str, typer.Option(metavar="HOST:PORT", help="The coordinator to dial.")],
) -> None:
    """Carry out the coordinator's orders on this site's data until the study is complete.

    STUDY.toml is the plan that was approved here; one that differs from the study's is refused.
    Opens connections and accepts none. Waits for the coordinator while it is away, and goes on
    where it was cut when it is started again.

    Try:

    `wardround site start study.toml --site utrecht --data data --workspace work
    --credentials credentials --coordinator coordinator.example:7443`
    """
    from wardround.deploy.own_site import approved_plan, open_site
    from wardround.site_client.connection import Connection
    from wardround.site_client.dial import work

    plan = approved_plan(find_study(study), name)
    own = sound_credentials(credentials)
    _log_to_standard_error()
    gateway = open_site(plan, name, data, workspace)
    with Connection(coordinator, own) as connection:
        work(connection, own, gateway, site_id=name, plan=plan, manifest=gateway.manifest)
    print(f"study {plan.study_id} is complete")


def _log_to_standard_error() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
