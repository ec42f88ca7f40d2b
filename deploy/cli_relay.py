"""`wardround coordinator` and `site start`: one study over several machines."""

import contextlib
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from wardround.deploy.cli_identity import site
from wardround.deploy.cli_options import find_study, sound_credentials
from wardround.deploy.own_site import (
    approved_plan,
    expect_permitted,
    run_site,
    tell_over,
    telling_refusals,
)
from wardround.shared.identity import read_credentials

CONTACT = "contact"  # a file in a site's workspace: its time is that of the last answer

coordinator_app = typer.Typer(
    no_args_is_help=True,
    help="Serve a study to its sites.",
    rich_markup_mode="markdown",
)


@coordinator_app.callback()
def _group() -> None:
    """Keep the command's own word where a group has but one."""


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
    """Serve a study until it is complete, or an operator stops it, and its sites know it.

    DIR is the folder that `wardround study create` made. Sites dial in with mutual TLS; each is
    known by its certificate. Ended or killed at any moment, the same command goes on where the
    study stood.

    Try:

    `wardround coordinator serve out/study --credentials credentials --listen 0.0.0.0:7443`
    """
    from wardround.server import coordinator
    from wardround.server.revocations import Revocations

    _log_to_standard_error()
    state = coordinator.serve(
        study_dir,
        sound_credentials(credentials),
        listen,
        revoked=frozenset if authority is None else Revocations(authority),
        on_listening=lambda port: print(f"listening on port {port}", flush=True),
        linger_s=linger,
    )
    print(f"study {state.study_id} is {state.standing.value}; checkpoint {state.checkpoint.digest}")


@coordinator_app.command()
def health(
    credentials: Annotated[
        Path, typer.Option(help="Folder of credentials, such as the coordinator's own.")
    ],
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="A host that its certificate names.")
    ] = "localhost:7443",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 5.0,
) -> None:
    """Ask a coordinator whether it serves, as a container's health check does.

    Ends with status 0 if it does, 11 if it does not answer. Uses the standard gRPC health service.

    Try:

    `wardround coordinator health --credentials credentials --address localhost:7443`
    """
    from wardround.server.health import check

    check(address, read_credentials(credentials), timeout_s=timeout)
    print(f"the coordinator at {address} serves")


@site.command()
def start(
    study: Annotated[str, typer.Argument(metavar="STUDY.toml", help="The plan approved here.")],
    name: Annotated[str, typer.Option("--site", help="This site's name in the plan.")],
    data: Annotated[Path, typer.Option(help="Folder with this site's cases.")],
    workspace: Annotated[
        Path, typer.Option(help="Folder for the audit trail and for what was finished.")
    ],
    credentials: Annotated[
        Path, typer.Option(help="Folder with this site's ca.crt, own.crt and own.key.")
    ],
    coordinator: Annotated[str, typer.Option(metavar="HOST:PORT", help="The coordinator to dial.")],
) -> None:
    """Carry out the coordinator's orders on this site's data until the study is complete.

    STUDY.toml is the plan that was approved here (`wardround plan approve`); without approval, and
    where this machine can reach more than the coordinator and WORKSPACE/site.toml does not accept
    that, nothing starts (status 13); the coordinator is told in one word why. A plan that differs
    from the study's is refused.
    Opens connections and accepts none. Waits for the coordinator while it is away, and goes on
    where it was cut when it is started again. The time of WORKSPACE/contact is that of the
    coordinator's last answer, at most half a minute ago while all is well.

    Try:

    `wardround site start study.toml --site utrecht --data data --workspace work
    --credentials credentials --coordinator coordinator.example:7443`
    """
    plan = approved_plan(find_study(study), name)
    own = sound_credentials(credentials)
    _log_to_standard_error()
    with telling_refusals(plan, name, workspace, partial(tell_over, own, coordinator)):
        expect_permitted(plan, name, workspace)
        run_site(
            plan,
            name,
            data=data,
            workspace=workspace,
            credentials=own,
            coordinator=coordinator,
            on_answer=partial(_touch, workspace / CONTACT),
        )
    print(f"study {plan.study_id} has ended")


def _touch(file: Path) -> None:
    # A disk that is full stops the work itself, with a message that says so.
    with contextlib.suppress(OSError):
        file.touch()


def _log_to_standard_error() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
