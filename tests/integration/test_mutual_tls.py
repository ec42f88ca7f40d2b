"""What the authority issues does what it is for: a real handshake on loopback, both ends proven.

TLS judges times by the clock of the machine, so certificates are made relative to it; what the
tests find does not depend on what it shows.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wardround.server import authority as authorities
from wardround.server.authority import Authority
from wardround.shared.enrolment import install, make_request
from wardround.shared.identity import Role, identity_of

TIMEOUT_S = 10
DAY = timedelta(days=1)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def authority(tmp_path: Path, now: datetime) -> Authority:
    return authorities.init(tmp_path / "ca", "network", now=now - 30 * DAY)


def enrol(
    authority: Authority, folder: Path, role: Role, name: str, *, now: datetime, days: int = 90
) -> Path:
    hosts = ["127.0.0.1"] if role is Role.COORDINATOR else []
    token = authority.invite(name, role, now=now, hosts=hosts)
    request = make_request(folder, role, name).read_bytes()
    certificate = authority.approve(request, token, now=now, days=days)
    root = (authority.folder / "ca.crt").read_bytes()
    install(folder, certificate, now=now, authority=root)
    return folder


def context(folder: Path, purpose: int) -> ssl.SSLContext:
    made = ssl.SSLContext(purpose)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_verify_locations(folder / "ca.crt")
    made.load_cert_chain(folder / "own.crt", folder / "own.key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


@contextlib.contextmanager
def greeting(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Greet one caller by the name in its certificate; yield the port and what went wrong."""
    faults: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT_S)

        def serve() -> None:
            connection, _ = listener.accept()
            connection.settimeout(TIMEOUT_S)
            with connection:
                try:
                    with context(folder, ssl.PROTOCOL_TLS_SERVER).wrap_socket(
                        connection, server_side=True
                    ) as tls:
                        der = tls.getpeercert(binary_form=True)
                        assert der is not None
                        caller = identity_of(ssl.DER_cert_to_PEM_cert(der).encode())
                        tls.sendall(f"{caller.role} {caller.name}".encode())
                except OSError as error:
                    faults.append(str(error))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], faults
        finally:
            thread.join(TIMEOUT_S)
    assert not thread.is_alive()


def dial(folder: Path, port: int, host: str = "127.0.0.1") -> str:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection,
        context(folder, ssl.PROTOCOL_TLS_CLIENT).wrap_socket(
            connection, server_hostname=host
        ) as tls,
    ):
        return tls.recv(100).decode()


@pytest.fixture
def hub(authority: Authority, tmp_path: Path, now: datetime) -> Path:
    return enrol(authority, tmp_path / "hub", Role.COORDINATOR, "hub", now=now)


@pytest.fixture
def site(authority: Authority, tmp_path: Path, now: datetime) -> Path:
    return enrol(authority, tmp_path / "site", Role.SITE, "utrecht", now=now)


def test_a_site_is_let_in_and_known_by_role_and_name(hub: Path, site: Path) -> None:
    with greeting(hub) as (port, faults):
        assert dial(site, port) == "site utrecht"
    assert faults == []


def test_a_coordinator_can_dial_itself(hub: Path) -> None:
    with greeting(hub) as (port, _):
        assert dial(hub, port) == "coordinator hub"


def test_a_certificate_of_an_unknown_authority_is_refused(
    hub: Path, site: Path, tmp_path: Path, now: datetime
) -> None:
    other = authorities.init(tmp_path / "other-ca", "network", now=now)
    stranger = enrol(other, tmp_path / "stranger", Role.SITE, "utrecht", now=now)
    # It trusts the coordinator, so that it is the coordinator that refuses.
    (stranger / "ca.crt").write_bytes((site / "ca.crt").read_bytes())
    with greeting(hub) as (port, faults), pytest.raises(ssl.SSLError):
        dial(stranger, port)
    assert "certificate verify failed" in faults[0]


def test_an_expired_certificate_is_refused(
    authority: Authority, hub: Path, tmp_path: Path, now: datetime
) -> None:
    late = enrol(authority, tmp_path / "late", Role.SITE, "late", now=now - 9 * DAY, days=8)
    with greeting(hub) as (port, faults), pytest.raises(ssl.SSLError, match="expired"):
        dial(late, port)
    assert "certificate has expired" in faults[0]


def test_a_caller_without_tls_is_refused(hub: Path) -> None:
    with (
        greeting(hub) as (port, faults),
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as plain,
    ):
        plain.sendall(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"hub" not in plain.recv(1000)
    assert len(faults) == 1


def test_a_caller_without_a_certificate_is_refused(hub: Path) -> None:
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.load_verify_locations(hub / "ca.crt")
    with (
        greeting(hub) as (port, faults),
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection,
        anonymous.wrap_socket(connection, server_hostname="127.0.0.1") as tls,
        pytest.raises(ssl.SSLError),
    ):
        tls.recv(100)
    assert "peer did not return a certificate" in faults[0]


def test_a_site_cannot_pose_as_the_coordinator(hub: Path, site: Path) -> None:
    with (
        greeting(site) as (port, _),
        pytest.raises(ssl.SSLError, match="certificate purpose"),
    ):
        dial(hub, port)


def test_a_coordinator_is_refused_under_a_name_it_was_not_given(hub: Path, site: Path) -> None:
    with greeting(hub) as (port, _), pytest.raises(ssl.SSLError, match="mismatch"):
        dial(site, port, host="localhost")
