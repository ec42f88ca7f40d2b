"""`wardround ca`: the authority of a study network invites holders, makes and revokes certificates.

Files are carried by hand; nothing here opens a connection.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.deploy import cli_options
from wardround.deploy.cli_options import Format, read_given
from wardround.shared.errors import UsageError
from wardround.shared.identity import CA_FILE, Role, fingerprint, identity_of, uri_of

if TYPE_CHECKING:
    from wardround.server.authority import Authority
    from wardround.server.register import Issued

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "The authority of a study network: invite holders, make their certificates, revoke them."
        "\n\nIts folder belongs on a machine that takes no calls; ca.crt alone is given away."
    ),
    rich_markup_mode="markdown",
)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of `ca list`: a certificate, or an invitation that is still open."""

    name: str
    role: Role
    state: str
    until: datetime
    serial: str
    hosts: tuple[str, ...]


AuthorityFolder = Annotated[Path, typer.Argument(help="Folder of the authority.")]
RequestFile = Annotated[
    Path, typer.Argument(metavar="REQUEST", help="The holder's own.csr.", show_default=False)
]
Out = Annotated[Path, typer.Option(help="The certificate to write; must not exist.")]
Days = Annotated[int, typer.Option(help="Days the certificate is valid, 1 to 397.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make the authority in.")],
    name: Annotated[str, typer.Option(help="Name of the study network: a-z, 0-9, '-'.")],
) -> None:
    """Make the authority of a study network: its key, its certificate, an empty register.

    FOLDER gets ca.crt, which everybody may have, ca.key, which nobody else may, and register.jsonl:
    who was invited, what was issued and revoked. Keep a copy of the folder in a safe place.

    The authority is valid for ten years.

    Try:

    `wardround ca init ca --name prostate`
    """
    from wardround.server import authority

    authority.init(folder, name, now=cli_options.clock())
    print(f"{folder / CA_FILE}: give it to every holder")
    print(f"SHA-256 {fingerprint((folder / CA_FILE).read_bytes())}")
    print("read that out to them: they can compare it with what they got")
    print(f"next: wardround ca invite {folder} NAME --role site")


@app.command()
def invite(
    folder: AuthorityFolder,
    name: Annotated[str, typer.Argument(help="Who; a site by its name in the plan.")],
    role: Annotated[
        Role,
        typer.Option(
            help="coordinator: runs studies; site: trains; evaluator: scores only; operator: "
            "uses the study API."
        ),
    ] = Role.SITE,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="DNS name or IP address under which sites reach the coordinator; repeat for more.",
            show_default=False,
        ),
    ] = None,
    days: Annotated[int, typer.Option(help="Days the token is good, 1 to 90.")] = 7,
) -> None:
    """Make a token that is good for one certificate, for one holder.

    Tell the token to the holder over a way on which you know each other's voice or face. It is
    printed once; the authority keeps its digest alone. A later invitation of the same holder makes
    an earlier token void.

    Try:

    `wardround ca invite ca utrecht`

    `wardround ca invite ca hub --role coordinator --host relay.example.org --host 10.0.0.7`
    """
    authority, now = _authority(folder), cli_options.clock()
    token = authority.invite(name, role, now=now, hosts=tuple(host or ()), days=days)
    print(f"token {token}")
    print(f"for {uri_of(role, name)}, good for {days} day(s), once; tell it to the holder alone")
    print(f"there: wardround site enroll FOLDER --name {name} --role {role.value}")
    print(f"then here: wardround ca approve {folder} own.csr --token TOKEN --out {name}.crt")
    _say_what_stays_valid(authority, role, name, now)


@app.command()
def approve(
    folder: AuthorityFolder,
    request: RequestFile,
    token: Annotated[str, typer.Option(help="The token that came with the request.")],
    out: Out,
    days: Days = 90,
) -> None:
    """Make the certificate that an invitation is good for.

    REQUEST is the own.csr that the holder sent, with the token. Name and role in it must be those
    of the invitation; everything else that it asks for is ignored.

    The same request with the same token gives the same certificate again.

    Try:

    `wardround ca approve ca own.csr --token TOKEN --out utrecht.crt`
    """
    _check_new(out)
    content = read_given(request, "request")
    certificate = _authority(folder).approve(
        content, token.strip(), now=cli_options.clock(), days=days
    )
    _hand_out(out, certificate, there=f"--certificate {out.name} --ca ca.crt")


@app.command()
def renew(
    folder: AuthorityFolder,
    request: RequestFile,
    certificate: Annotated[
        Path, typer.Option(help="The holder's certificate so far, its own.crt.")
    ],
    out: Out,
    days: Days = 90,
) -> None:
    """Make a certificate that goes on from one that is still valid; no token is needed.

    REQUEST is the own.csr that the holder made (`wardround site enroll FOLDER`), signed with the
    same key as before: that proves who asks. After a certificate has expired, or for another key,
    invite the holder again.

    Try:

    `wardround ca renew ca own.csr --certificate own.crt --out utrecht.crt`
    """
    _check_new(out)
    content, old = read_given(request, "request"), read_given(certificate, "certificate")
    renewed = _authority(folder).renew(content, old, now=cli_options.clock(), days=days)
    _hand_out(out, renewed, there=f"--certificate {out.name}")


@app.command()
def revoke(
    folder: AuthorityFolder,
    which: Annotated[
        str, typer.Argument(metavar="NAME|SERIAL", help="A holder's name, or a serial number.")
    ],
) -> None:
    """Revoke certificates, so that coordinators do not accept them any more.

    A NAME stands for all its certificates in every role, and withdraws its invitations. A SERIAL
    stands for all certificates of the same key, the renewed ones included.

    Try:

    `wardround ca revoke ca utrecht`
    """
    for one in _authority(folder).revoke(which, now=cli_options.clock()):
        print(f"revoked {_serial(one)}  {uri_of(one.role, one.name)}")
    print("invitations of that name, if there were any, are withdrawn")


@app.command("list")
def list_certificates(
    folder: AuthorityFolder,
    output: Annotated[
        Format, typer.Option("--format", help="For people or programs.")
    ] = Format.TEXT,
) -> None:
    """List every certificate that was made, with its expiry, and the invitations still open.

    A certificate is valid, ending (within 14 days), expired or revoked; an invitation is invited.

    Try:

    `wardround ca list ca`

    `wardround ca list ca --format json`
    """
    authority, now = _authority(folder), cli_options.clock()
    revoked = authority.revoked_serials()
    certificates = [
        _Row(one.name, one.role, _state(one, revoked, now), one.not_after, _serial(one), one.hosts)
        for one in authority.issued()
    ]
    invitations = [
        _Row(one.name, one.role, "invited", one.expires, "", one.hosts)
        for one in authority.open_invitations(now=now)
    ]
    rows = [*certificates, *invitations]
    if output is Format.JSON:
        print(json.dumps([_content(row) for row in rows], indent=2))
    else:
        for row in rows:
            print(_line(row))


def _say_what_stays_valid(authority: "Authority", role: Role, name: str, now: datetime) -> None:
    revoked = authority.revoked_serials()
    for one in authority.issued():
        is_valid = one.serial not in revoked and now <= one.not_after
        if is_valid and (one.role, one.name) == (role, name):
            print(
                f"note: certificate {_serial(one)} of this holder stays valid until "
                f"{one.not_after:%Y-%m-%d}; to end it, wardround ca revoke takes that number"
            )


def _hand_out(out: Path, certificate: bytes, *, there: str) -> None:
    from wardround.shared.files import write_once

    identity = identity_of(certificate)
    try:
        write_once(out, certificate)
    except OSError as error:
        raise UsageError(
            f"'{out}' cannot be written: {error.strerror}. Give the command again with another "
            f"--out."
        ) from error
    print(
        f"{out}: {uri_of(identity.role, identity.name)}, valid until {identity.not_after:%Y-%m-%d}"
    )
    print(f"next: send it back; there: wardround site enroll FOLDER {there}")


def _authority(folder: Path) -> "Authority":
    from wardround.server.authority import Authority

    return Authority(folder)


def _check_new(out: Path) -> None:
    if out.exists():
        raise UsageError(f"'{out}' exists already. Name another file with --out.")


def _serial(one: "Issued") -> str:
    from wardround.server.register import serial_text

    return serial_text(one.serial)


def _state(one: "Issued", revoked: frozenset[int], now: datetime) -> str:
    from wardround.shared.credential_check import EXPIRES_SOON

    if one.serial in revoked:
        return "revoked"
    left = one.not_after - now
    if left < timedelta(0):
        return "expired"
    return "ending" if left < EXPIRES_SOON else "valid"


def _line(row: _Row) -> str:
    end = f"{row.until:%Y-%m-%d}"
    return f"{row.name:<33}{row.role:<13}{row.state:<9}{end}  {row.serial}".rstrip()


def _content(row: _Row) -> dict[str, object]:
    return {**asdict(row), "until": row.until.isoformat()}
