"""Who may talk to the coordinator: who may not is refused, and a site that is refused ends."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import relay_calls as calls
from tiny_site import GENESIS, MANIFEST
from wardround.deploy.in_process import open_study
from wardround.server import health
from wardround.server.coordinator import serve
from wardround.shared.connection import Connection
from wardround.shared.errors import ConnectionLost, IdentityError, JournalError
from wardround.shared.identity import CERTIFICATE_FILE, Role, read_credentials
from wardround.site_client.dial import work
from wardround.wire.v1 import relay_pb2 as wire
from wardround.wire.v1 import relay_pb2_grpc as wire_grpc

Code = grpc.StatusCode


@pytest.fixture
def address(tmp_path: Path, authority, tiny_plan) -> Iterator[str]:
    with calls.serving(tmp_path, authority, tiny_plan) as listening:
        yield listening


def serial_of(folder: Path) -> int:
    return x509.load_pem_x509_certificate((folder / CERTIFICATE_FILE).read_bytes()).serial_number


def test_a_plaintext_client_is_refused(address: str) -> None:
    with grpc.insecure_channel(address) as channel, calls.refused(Code.UNAVAILABLE):
        wire_grpc.RelayServiceStub(channel).NextOrder(wire.NextOrderRequest())


def test_a_client_without_a_certificate_is_refused(address: str, authority) -> None:
    own = read_credentials(authority.issue(Role.SITE, "ada"))
    secure = grpc.ssl_channel_credentials(own.authority)
    with grpc.secure_channel(address, secure) as channel, calls.refused(Code.UNAVAILABLE):
        wire_grpc.RelayServiceStub(channel).NextOrder(wire.NextOrderRequest())


@pytest.mark.parametrize("trusts_coordinator", [True, False])
def test_a_site_of_an_unknown_authority_ends_and_says_why(
    address: str, authority, stranger, tiny_plan, trusts_coordinator: bool
) -> None:
    folder = stranger.issue(Role.SITE, "ada")
    if trusts_coordinator:
        trusted = authority.issue(Role.SITE, "ben") / "ca.crt"
        (folder / "ca.crt").write_bytes(trusted.read_bytes())
    own = read_credentials(folder)
    with (
        Connection(address, own, sleep=lambda seconds: None) as connection,
        pytest.raises(IdentityError, match="do not accept each other's certificates"),
    ):
        work(connection, own, None, site_id="ada", plan=tiny_plan, manifest=MANIFEST)


def test_a_revoked_certificate_is_refused_and_the_site_ends(
    tmp_path: Path, authority, tiny_plan
) -> None:
    own = authority.issue(Role.SITE, "ada")
    with calls.serving(tmp_path, authority, tiny_plan, serial_of(own)) as address:
        with calls.dialled(address, own) as stub, calls.refused(Code.UNAUTHENTICATED, "revoked"):
            stub.NextOrder(wire.NextOrderRequest())
        with (
            Connection(address, read_credentials(own)) as connection,
            pytest.raises(IdentityError, match="revoked"),
        ):
            work(
                connection,
                read_credentials(own),
                None,
                site_id="ada",
                plan=tiny_plan,
                manifest=MANIFEST,
            )


def test_a_site_with_a_certificate_of_another_name_does_not_start(authority, tiny_plan) -> None:
    own = read_credentials(authority.issue(Role.SITE, "ben"))
    with pytest.raises(IdentityError, match="expected one of site 'ada'"):
        work(None, own, None, site_id="ada", plan=tiny_plan, manifest=MANIFEST)


def test_a_site_that_is_not_of_the_study_is_refused(address: str, authority) -> None:
    folder = authority.issue(Role.SITE, "zoe")
    with calls.dialled(address, folder) as stub, calls.refused(Code.PERMISSION_DENIED, "no part"):
        stub.NextOrder(wire.NextOrderRequest())


@pytest.mark.parametrize("role", [Role.COORDINATOR, Role.OPERATOR])
def test_a_certificate_of_another_role_is_refused(address: str, authority, role: Role) -> None:
    with (
        calls.dialled(address, authority.issue(role, "ada")) as stub,
        calls.refused(Code.PERMISSION_DENIED),
    ):
        stub.NextOrder(wire.NextOrderRequest())


def test_the_standard_health_service_answers(address: str, authority) -> None:
    own = read_credentials(authority.issue(Role.SITE, "ada"))
    with Connection(address, own) as connection:
        stub = health_pb2_grpc.HealthStub(connection.channel)
        for name in ("", "wardround.wire.v1.RelayService", "wardround.wire.v1.StudyService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_health_check_tells_a_coordinator_that_serves_from_one_that_does_not(
    address: str, authority, stranger
) -> None:
    own = read_credentials(authority.issue(Role.COORDINATOR, "hub"))
    foreign = read_credentials(stranger.issue(Role.COORDINATOR, "hub"))
    health.check(address, own, timeout_s=10)
    with pytest.raises(ConnectionLost, match="does not answer"):
        health.check(address, foreign, timeout_s=10)
    with pytest.raises(ConnectionLost, match="does not answer"):
        health.check("127.0.0.1:1", own, timeout_s=10)


def test_reflection_lists_the_service(address: str, authority) -> None:
    own = read_credentials(authority.issue(Role.SITE, "ada"))
    with Connection(address, own) as connection:
        ask = reflection_pb2_grpc.ServerReflectionStub(connection.channel).ServerReflectionInfo
        (answer,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"wardround.wire.v1.RelayService", "wardround.wire.v1.StudyService"} <= names


def test_health_and_reflection_do_not_answer_whom_the_authority_revoked(
    tmp_path: Path, authority, tiny_plan
) -> None:
    own = authority.issue(Role.SITE, "ada")
    with (
        calls.serving(tmp_path, authority, tiny_plan, serial_of(own)) as address,
        Connection(address, read_credentials(own)) as connection,
    ):
        health = health_pb2_grpc.HealthStub(connection.channel)
        with calls.refused(Code.UNAUTHENTICATED, "revoked"):
            health.Check(health_pb2.HealthCheckRequest())
        with calls.refused(Code.UNAUTHENTICATED, "revoked"):
            list(health.Watch(health_pb2.HealthCheckRequest()))
        ask = reflection_pb2_grpc.ServerReflectionStub(connection.channel).ServerReflectionInfo
        with calls.refused(Code.UNAUTHENTICATED, "revoked"):
            list(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))


def test_a_coordinator_does_not_start_with_a_certificate_of_a_site(
    tmp_path: Path, authority
) -> None:
    own = read_credentials(authority.issue(Role.SITE, "ada"))
    with pytest.raises(IdentityError, match="expected one of a coordinator"):
        serve(tmp_path, own, "127.0.0.1:0")


def test_a_coordinator_does_not_start_without_a_study(tmp_path: Path, authority) -> None:
    own = read_credentials(authority.issue(Role.COORDINATOR, "hub"))
    with pytest.raises(JournalError, match="wardround study create"):
        serve(tmp_path, own, "127.0.0.1:0")
    assert not (tmp_path / "journal").exists()


def test_the_command_refuses_whom_the_authority_revoked(
    tmp_path: Path, authority, tiny_plan
) -> None:
    with open_study(tmp_path / "study", tiny_plan, MANIFEST, GENESIS):
        pass
    words = [sys.executable, "-m", "wardround.deploy.cli", "coordinator", "serve"]
    words += [str(tmp_path / "study"), "--listen", "127.0.0.1:0"]
    words += ["--credentials", str(authority.issue(Role.COORDINATOR, "hub"))]
    words += ["--authority", str(authority.authority.folder)]
    own = authority.issue(Role.SITE, "ada")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = f"127.0.0.1:{process.stdout.readline().split()[-1]}"
            with calls.dialled(address, own) as stub:
                assert stub.NextOrder(wire.NextOrderRequest()).kind == wire.ORDER_KIND_EVALUATION
            authority.authority.revoke("ada", now=datetime.now(UTC))
            with (
                calls.dialled(address, own) as stub,
                calls.refused(Code.UNAUTHENTICATED, "was revoked"),
            ):
                stub.NextOrder(wire.NextOrderRequest())
        finally:
            process.kill()
