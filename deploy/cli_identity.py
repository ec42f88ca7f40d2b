"""`wardround site enroll` and `wardround doctor`: get a certificate, and see whether it will do.

Files are carried by hand; nothing here opens a connection.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wardround.deploy import cli_options
from wardround.deploy.cli_options import Format, read_given
from wardround.shared.errors import IdentityError, NotPermitted, UsageError
from wardround.shared.identity import (
    CA_FILE,
    CERTIFICATE_FILE,
    Role,
    fingerprint,
    identity_of,
    uri_of,
)

if TYPE_CHECKING:
    from wardround.shared.credential_check import Finding

site = typer.Typer(
    no_args_is_help=True,
    help="What a site does on its own machine.",
    rich_markup_mode="markdown",
)


@site.command()
def enroll(
    folder: Annotated[Path, typer.Argument(help="Folder of this holder's credentials.")],
    name: Annotated[
        str | None,
        typer.Option(help="Who is invited; left out to renew.", show_default=False),
    ] = None,
    role: Annotated[Role, typer.Option(help="As what.")] = Role.SITE,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Second step: the certificate that came back.", show_default=False),
    ] = None,
    authority: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            help="Second step: the authority's ca.crt; not needed to renew.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Get a certificate, in two steps. A coordinator, an evaluator and an operator do the same.

    First, with --name: makes own.key, which never leaves FOLDER, and own.csr, which goes to the
    authority together with the token. Second, with --certificate: checks what came back against
    key, name, role and authority, and puts it into place.

    To renew, do the same without --name: the key stays. For another key use another folder.

    Try:

    `wardround site enroll credentials --name utrecht`

    `wardround site enroll credentials --certificate utrecht.crt --ca ca.crt`
    """
    if certificate is None:
        if authority is not None:
            raise UsageError("--ca goes with --certificate. Give both, or neither.")
        _ask(folder, role, name)
        return
    if name is not None:
        raise UsageError(
            "--name goes with the first step, --certificate with the second. Give one of them."
        )
    from wardround.shared import enrolment

    identity = enrolment.install(
        folder,
        read_given(certificate, "certificate"),
        now=cli_options.clock(),
        authority=read_given(authority, "certificate") if authority else None,
    )
    print(
        f"{folder / CERTIFICATE_FILE}: {uri_of(identity.role, identity.name)}, valid until "
        f"{identity.not_after:%Y-%m-%d}"
    )
    print(f"trusts {folder / CA_FILE}, SHA-256 {fingerprint((folder / CA_FILE).read_bytes())}")
    print("compare that with what the authority says its own is")


def doctor(
    folder: Annotated[Path, typer.Argument(help="Folder of credentials.")],
    workspace: Annotated[
        Path | None,
        typer.Option(
            help="A site's folder, as for `site start`: look too what this machine can reach.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Format, typer.Option("--format", help="For people or programs.")
    ] = Format.TEXT,
) -> None:
    """Say what is wrong with credentials, or soon will be, and how to mend it.

    FOLDER holds ca.crt, own.crt and own.key. Looks at signature, key, times, names and the mode of
    the key file. Ends with status 10 if connections would fail or are not safe, 0 if not; that a
    certificate ends within 14 days is a warning.

    On a site's machine, with --workspace, looks besides what can be reached but the coordinator, as
    `site start` does, under the policy in WORKSPACE/site.toml. Ends with status 13 if the site
    would not start.

    Try:

    `wardround doctor credentials`

    `wardround doctor credentials --workspace work`
    """
    from wardround.shared.credential_check import check_folder

    found = check_folder(folder, now=cli_options.clock())
    within_reach = [] if workspace is None else _within_reach(workspace)
    found += within_reach
    if output is Format.JSON:
        print(json.dumps([_finding_values(finding) for finding in found], indent=2))
    else:
        for finding in found:
            print(finding.line())
    errors = sum(finding.is_error for finding in found if finding not in within_reach)
    if errors:
        raise IdentityError(
            f"'{folder}' has {errors} fault(s). Mend what is listed and check again."
        )
    if any(finding.is_error for finding in within_reach):
        raise NotPermitted(
            f"this machine can reach more than the coordinator, so a site of '{workspace}' would "
            f"not start. Mend what is listed and check again."
        )
    if output is Format.TEXT:
        identity = identity_of((folder / CERTIFICATE_FILE).read_bytes())
        print(
            f"{folder}: sound. {uri_of(identity.role, identity.name)}, valid until "
            f"{identity.not_after:%Y-%m-%d}"
        )


def _ask(folder: Path, role: Role, name: str | None) -> None:
    from wardround.shared import enrolment

    own = folder / CERTIFICATE_FILE
    is_renewal = name is None
    if name is None:
        if not own.exists():
            raise UsageError(
                f"'{folder}' holds no certificate to renew, expected --name NAME. "
                f"Give the name that was invited, such as --name utrecht."
            )
        identity = identity_of(own.read_bytes())
        role, name = identity.role, identity.name
    path = enrolment.make_request(folder, role, name)
    print(f"{path}: the request of {uri_of(role, name)}; the key stays in {folder}")
    if is_renewal:
        print(f"next: send it with {own} to the authority, which does")
        print(f"  wardround ca renew FOLDER own.csr --certificate own.crt --out {name}.crt")
    else:
        print("next: send it with the token to the authority, which does")
        print(f"  wardround ca approve FOLDER own.csr --token TOKEN --out {name}.crt")
    given = "" if (folder / CA_FILE).exists() else " --ca ca.crt"
    print(f"then here: wardround site enroll {folder} --certificate {name}.crt{given}")


def _within_reach(workspace: Path) -> "list[Finding]":
    """Return what a site's machine can reach and should not; a warning where its staff accept it.

    Nothing is written: the trail tells of starts alone.
    """
    from wardround.deploy import network_probe
    from wardround.shared.credential_check import Finding
    from wardround.site_client.privacy import policy as policies

    file = workspace / policies.POLICY_FILE
    policy = policies.load(file)
    return [
        Finding(
            file=file,
            field="network",
            expected="nothing within reach but the coordinator",
            got=one,
            remedy=network_probe.REMEDY,
            is_error=policy.network == "coordinator-only",
        )
        for one in network_probe.reached(policy)
    ]


def _finding_values(finding: "Finding") -> dict[str, Any]:
    return {
        "file": str(finding.file),
        "field": finding.field,
        "expected": finding.expected,
        "got": finding.got,
        "remedy": finding.remedy,
        "is_error": finding.is_error,
    }
