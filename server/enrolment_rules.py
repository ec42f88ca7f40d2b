"""Who may have a certificate, and which count: decisions over the register's records, all pure.

A token is good for one certificate of one holder. A key belongs to one holder, and once one of its
certificates is revoked it gets no other.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from wardround.server.register import Invited, Issued, Record, Revoked, Withdrawn, serial_text
from wardround.shared.enrolment import Request, key_digest
from wardround.shared.errors import IdentityError
from wardround.shared.identity import PARSE_ERRORS, uri_of


def invitation_of(token: str, asked: Request, records: Sequence[Record]) -> Invited:
    """Return the invitation that a token belongs to.

    Raises:
        IdentityError: There is none, or it is for another holder than the request.
    """
    token_sha256 = token_digest(token)
    for record in records:
        if isinstance(record, Invited) and record.token_sha256 == token_sha256:
            if (record.role, record.name) != (asked.role, asked.name):
                raise IdentityError(
                    f"the request is for {uri_of(asked.role, asked.name)}, expected "
                    f"{uri_of(record.role, record.name)}, whom the token invites. Have the request "
                    f"made for that name and role, or invite again."
                )
            return record
    raise IdentityError(
        f"the token that came with the request of {uri_of(asked.role, asked.name)} is not one of "
        f"this authority's. Copy it whole, or invite again."
    )


def made_before(
    invitation: Invited, asked: Request, records: Sequence[Record], now: datetime
) -> bytes | None:
    """Return the certificate that the same request got before, if it is still valid."""
    for one in issued(records):
        if (
            one.token_sha256 == invitation.token_sha256
            and one.key_sha256 == key_digest(asked.public_key)
            and one.serial not in revoked_serials(records)
            and now <= one.not_after
        ):
            return one.certificate.encode("ascii")
    return None


def check_usable(invitation: Invited, records: Sequence[Record], now: datetime) -> None:
    """Check that an invitation is still good.

    Raises:
        IdentityError: It was used, withdrawn or replaced, or it expired.
    """
    if invitation.token_sha256 in _used(records):
        why = "was used already"
    elif invitation.token_sha256 in _withdrawn(records):
        why = "was withdrawn or replaced by a later one"
    elif now > invitation.expires:
        why = f"expired {invitation.expires:%Y-%m-%d %H:%M} UTC"
    else:
        return
    raise IdentityError(
        f"the token for {uri_of(invitation.role, invitation.name)} {why}, expected one that is "
        f"still good. Invite again with wardround ca invite."
    )


def check_key(asked: Request, records: Sequence[Record]) -> None:
    """Check that the key of a request may have a certificate for this holder.

    Raises:
        IdentityError: It is another holder's, or one of its certificates is revoked.
    """
    digest, revoked = key_digest(asked.public_key), revoked_serials(records)
    remedy = "Have the request made anew in an empty folder."
    for one in issued(records):
        if one.key_sha256 != digest:
            continue
        if (one.role, one.name) != (asked.role, asked.name):
            raise IdentityError(
                f"the request of {uri_of(asked.role, asked.name)} has the key of "
                f"{uri_of(one.role, one.name)}, expected a key of its own. {remedy}"
            )
        if one.serial in revoked:
            raise IdentityError(
                f"the request of {uri_of(asked.role, asked.name)} has the key of certificate "
                f"{serial_text(one.serial)}, which is revoked, expected another key. {remedy}"
            )


def issued_as(certificate: bytes, records: Sequence[Record]) -> Issued:
    """Return the record of a certificate; the whole of it counts, not its serial number alone.

    Raises:
        IdentityError: It is no certificate, or not one of this authority.
    """
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
    except PARSE_ERRORS as error:
        raise IdentityError(
            f"the certificate to renew cannot be read: {error!s:.200}. Send the file own.crt."
        ) from error
    pem = parsed.public_bytes(Encoding.PEM).decode("ascii")
    for one in issued(records):
        if one.certificate == pem:
            return one
    raise IdentityError(
        f"certificate {serial_text(parsed.serial_number)} is not in the register, expected one "
        f"that this authority made. Send the file own.crt, or ask for an invitation."
    )


def check_renewal(old: Issued, asked: Request, records: Sequence[Record], now: datetime) -> None:
    """Check that a request may go on from a certificate.

    Raises:
        IdentityError: The certificate is revoked or expired, or of another holder or key.
    """
    what = f"certificate {serial_text(old.serial)} of {uri_of(old.role, old.name)}"
    remedy = "Invite the holder again with wardround ca invite."
    if old.serial in revoked_serials(records):
        raise IdentityError(f"{what} is revoked, expected one that is not. {remedy}")
    if now > old.not_after:
        raise IdentityError(
            f"{what} expired {old.not_after:%Y-%m-%d}, expected one that is valid on "
            f"{now:%Y-%m-%d}. {remedy}"
        )
    if (asked.role, asked.name) != (old.role, old.name):
        raise IdentityError(
            f"the request is for {uri_of(asked.role, asked.name)}, expected "
            f"{uri_of(old.role, old.name)} as in the certificate. {remedy}"
        )
    if key_digest(asked.public_key) != old.key_sha256:
        raise IdentityError(
            f"the request has another key than {what}, expected the same: it proves who asks. "
            f"Make the request in the folder that holds the certificate; for another key invite "
            f"the holder again with wardround ca invite."
        )


def issued(records: Sequence[Record]) -> tuple[Issued, ...]:
    """Return every certificate that was ever made, oldest first."""
    return tuple(record for record in records if isinstance(record, Issued))


def revoked_serials(records: Sequence[Record]) -> frozenset[int]:
    """Return the serial numbers of all revoked certificates, the expired ones included."""
    return frozenset(record.serial for record in records if isinstance(record, Revoked))


def open_invitations(records: Sequence[Record], now: datetime) -> tuple[Invited, ...]:
    """Return the invitations whose token is still good, oldest first."""
    closed = _used(records) | _withdrawn(records)
    return tuple(
        record
        for record in records
        if isinstance(record, Invited)
        and record.token_sha256 not in closed
        and now <= record.expires
    )


def token_digest(token: str) -> str:
    """Return what the register holds of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _used(records: Sequence[Record]) -> set[str | None]:
    return {one.token_sha256 for one in issued(records)}


def _withdrawn(records: Sequence[Record]) -> set[str]:
    return {record.token_sha256 for record in records if isinstance(record, Withdrawn)}
