"""The authority of a study network: it invites holders, makes their certificates and revokes them.

A folder holds `ca.crt`, which everybody gets, `ca.key`, which never leaves it, and the register.
Nothing of a request is believed but its public key: who the certificate speaks for comes from the
invitation, and is compared with the request.
"""

import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from wardround.server import enrolment_rules as rules
from wardround.server.certificates import authority_certificate, check_hosts, holder_certificate
from wardround.server.register import (
    Invited,
    Issued,
    Record,
    Register,
    Revoked,
    Withdrawn,
    opened,
    read_records,
    serial_text,
)
from wardround.shared.enrolment import (
    Request,
    check_name,
    key_digest,
    new_key,
    read_key,
    read_request,
)
from wardround.shared.errors import IdentityError, UsageError
from wardround.shared.files import PRIVATE, write_once
from wardround.shared.identity import CA_FILE, PARSE_ERRORS, Role, uri_of

AUTHORITY_KEY_FILE = "ca.key"
REGISTER_FILE = "register.jsonl"
CERTIFICATE_DAYS = 90
INVITATION_DAYS = 7
TOKEN_BYTES = 16  # beyond guessing, and short enough to be read out
MAX_CERTIFICATE_DAYS = 397
MAX_INVITATION_DAYS = 90


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority in a folder that `init` made.

    Each operation holds the register for itself while it lasts, and its outcome is on the disk when
    it returns. `now` is the time, with time zone.
    """

    folder: Path

    def invite(
        self,
        name: str,
        role: Role,
        *,
        now: datetime,
        hosts: Sequence[str] = (),
        days: int = INVITATION_DAYS,
    ) -> str:
        """Return a token that is good for one certificate; an earlier one of the holder is void.

        Args:
            name: Who is invited; a-z, 0-9 and "-", at most 32, beginning with a letter.
            role: As what.
            now: The time, with time zone.
            hosts: DNS names and IP addresses; of a coordinator at least one, of others none.
            days: How long the token is good, 1 to 90.

        Raises:
            UsageError: An argument is out of its range.
            IdentityError: The authority cannot be read or the register not be written.
        """
        check_name(name)
        check_hosts(hosts)
        _check_days("invitation", days, MAX_INVITATION_DAYS)
        if bool(hosts) != (role is Role.COORDINATOR):
            expected = "at least one" if role is Role.COORDINATOR else "none: others only dial out"
            raise UsageError(
                f"{uri_of(role, name)} was given {len(hosts)} hosts, expected {expected}. Give "
                f"hosts to the coordinator alone."
            )
        token = secrets.token_hex(TOKEN_BYTES)
        with self._register() as register:
            for invitation in rules.open_invitations(register.records, now):
                if (invitation.role, invitation.name) == (role, name):
                    register.append(Withdrawn(at=now, token_sha256=invitation.token_sha256))
            register.append(
                Invited(
                    at=now,
                    name=name,
                    role=role,
                    hosts=tuple(hosts),
                    token_sha256=rules.token_digest(token),
                    expires=now + timedelta(days=days),
                )
            )
        return token

    def approve(
        self, request: bytes, token: str, *, now: datetime, days: int = CERTIFICATE_DAYS
    ) -> bytes:
        """Return the certificate that an invitation is good for, PEM.

        The same request with the same token gives the same certificate again, so that one that was
        lost on its way can be fetched; any other use of a used token is refused.

        Args:
            request: What the holder's `make_request` made, PEM.
            token: What `invite` returned.
            now: The time, with time zone.
            days: How long the certificate is valid, 1 to 397; it does not outlive the authority.

        Raises:
            UsageError: `days` is out of its range.
            IdentityError: The request is not sound, the token is unknown, used, void, expired or of
                another holder, the key is revoked or of another holder, or the authority expired.
        """
        _check_days("certificate", days, MAX_CERTIFICATE_DAYS)
        asked = read_request(request)
        with self._register() as register:
            invitation = rules.invitation_of(token, asked, register.records)
            if again := rules.made_before(invitation, asked, register.records, now):
                return again
            rules.check_usable(invitation, register.records, now)
            rules.check_key(asked, register.records)
            return self._issue(
                register,
                asked,
                hosts=invitation.hosts,
                token_sha256=invitation.token_sha256,
                now=now,
                days=days,
            )

    def renew(
        self, request: bytes, certificate: bytes, *, now: datetime, days: int = CERTIFICATE_DAYS
    ) -> bytes:
        """Return a certificate that goes on from one that is still valid, PEM.

        The request must be signed with the key of the old certificate: without a token, that is the
        proof that it comes from its holder. Who wants another key is invited again.

        Args:
            request: What the holder's `make_request` made, PEM.
            certificate: The holder's certificate so far, PEM; it stays valid until it expires.
            now: The time, with time zone.
            days: How long the certificate is valid, 1 to 397; it does not outlive the authority.

        Raises:
            UsageError: `days` is out of its range.
            IdentityError: The request is not sound, the certificate is not of this authority,
                expired, revoked or of another holder or key, or the authority expired.
        """
        _check_days("certificate", days, MAX_CERTIFICATE_DAYS)
        asked = read_request(request)
        with self._register() as register:
            old = rules.issued_as(certificate, register.records)
            rules.check_renewal(old, asked, register.records, now)
            return self._issue(
                register, asked, hosts=old.hosts, token_sha256=None, now=now, days=days
            )

    def revoke(self, which: str, *, now: datetime) -> tuple[Issued, ...]:
        """Revoke certificates; return those that were not revoked before.

        Args:
            which: A name: all its certificates in every role, and its open invitations. Or a serial
                number, 40 hexadecimal digits: all certificates of the same key, for it is the key
                that is not trusted any more.
            now: The time, with time zone.

        Raises:
            IdentityError: There is nothing of the kind left to revoke.
        """
        with self._register() as register:
            revoked = rules.revoked_serials(register.records)
            certificates = [
                one for one in rules.issued(register.records) if one.serial not in revoked
            ]
            keys = {one.key_sha256 for one in certificates if serial_text(one.serial) == which}
            chosen = [one for one in certificates if one.name == which or one.key_sha256 in keys]
            open_ones = [
                one for one in rules.open_invitations(register.records, now) if one.name == which
            ]
            if not chosen and not open_ones:
                raise IdentityError(
                    f"'{which:.100}' is neither a name nor a serial number with a certificate or "
                    f"invitation left to revoke. See wardround ca list {self.folder}."
                )
            for certificate in chosen:
                register.append(Revoked(at=now, serial=certificate.serial))
            for invitation in open_ones:
                register.append(Withdrawn(at=now, token_sha256=invitation.token_sha256))
        return tuple(chosen)

    def issued(self) -> tuple[Issued, ...]:
        """Return every certificate that was ever made, oldest first."""
        return rules.issued(self._records())

    def revoked_serials(self) -> frozenset[int]:
        """Return the serial numbers of all revoked certificates, the expired ones included.

        Reads the register alone, also while another process appends to it: a coordinator needs no
        more than a copy of that file.
        """
        return rules.revoked_serials(self._records())

    def open_invitations(self, *, now: datetime) -> tuple[Invited, ...]:
        """Return the invitations whose token is still good, oldest first."""
        return rules.open_invitations(self._records(), now)

    def _records(self) -> tuple[Record, ...]:
        return read_records(self.folder / REGISTER_FILE)

    def _issue(
        self,
        register: Register,
        asked: Request,
        *,
        hosts: Sequence[str],
        token_sha256: str | None,
        now: datetime,
        days: int,
    ) -> bytes:
        authority, key = self._signer(now)
        certificate = holder_certificate(
            asked.public_key,
            role=asked.role,
            name=asked.name,
            hosts=hosts,
            authority=authority,
            authority_key=key,
            now=now,
            days=days,
        )
        pem = certificate.public_bytes(Encoding.PEM)
        # In the register before anybody has it: there is no certificate that cannot be revoked.
        register.append(
            Issued(
                at=now,
                serial=certificate.serial_number,
                name=asked.name,
                role=asked.role,
                hosts=tuple(hosts),
                not_after=certificate.not_valid_after_utc,
                key_sha256=key_digest(asked.public_key),
                token_sha256=token_sha256,
                certificate=pem.decode("ascii"),
            )
        )
        return pem

    def _signer(self, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        path = self.folder / CA_FILE
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, *PARSE_ERRORS) as error:
            raise IdentityError(
                f"the authority's certificate '{path}' cannot be read: {error!s:.200}. "
                f"Restore the folder from a copy."
            ) from error
        key = read_key(self.folder / AUTHORITY_KEY_FILE)
        if certificate.public_key() != key.public_key():
            raise IdentityError(
                f"'{self.folder / AUTHORITY_KEY_FILE}' is not the key of '{path}'. "
                f"Restore both from the same copy."
            )
        if now > certificate.not_valid_after_utc:
            raise IdentityError(
                f"the authority '{path}' expired {certificate.not_valid_after_utc:%Y-%m-%d}. "
                f"Make another one (wardround ca init) and enrol everybody again."
            )
        return certificate, key

    def _register(self) -> AbstractContextManager[Register]:
        return opened(self.folder / REGISTER_FILE)


def init(folder: Path, name: str, *, now: datetime) -> Authority:
    """Make the authority of a study network: key, certificate (ten years) and empty register.

    Args:
        folder: Made when it does not exist, for its owner alone.
        name: Of the network; a-z, 0-9 and "-", at most 32, beginning with a letter.
        now: The time, with time zone.

    Raises:
        UsageError: `name` is spelled otherwise.
        IdentityError: The folder holds an authority, or cannot be written.
    """
    check_name(name)
    key, pem = new_key(ec.SECP384R1())
    certificate = authority_certificate(name, key, now=now).public_bytes(Encoding.PEM)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The key comes first: where there is one, no other may take its place.
        write_once(folder / AUTHORITY_KEY_FILE, pem, mode=PRIVATE)
        write_once(folder / REGISTER_FILE, b"", mode=PRIVATE)
        write_once(folder / CA_FILE, certificate)
    except FileExistsError as error:
        raise IdentityError(
            f"'{error.filename}' exists already, expected a folder without an authority. Go on "
            f"with the one that is there, or name another folder."
        ) from error
    except OSError as error:
        raise IdentityError(
            f"an authority cannot be made in '{folder}': {error.strerror}. "
            f"Name a folder that can be written."
        ) from error
    return Authority(folder)


def _check_days(what: str, days: int, largest: int) -> None:
    if not 1 <= days <= largest:
        raise UsageError(
            f"{what} for {days} days, expected 1 to {largest}. Give a number in that range."
        )
