"""What the coordinator refuses over the network, each refusal by its status; and what it resumes.

The coordinator is a real process with mutual TLS; the calls are made one by one on the stub.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from safetensors.numpy import save

from wardround.deploy.in_process import CHECKPOINTS, open_study
from wardround.shared import codec
from wardround.shared.checkpoint import CHUNK_BYTES, chunks_of, part_ref, ref_of
from wardround.shared.errors import IdentityError
from wardround.shared.identity import CERTIFICATE_FILE, Role, read_credentials
from wardround.shared.messages import CheckpointUpload, VisitReport
from wardround.site_client.connection import Connection
from wardround.site_client.dial import work
from wardround.wire.v1 import relay_pb2 as wire
from wardround.wire.v1 import relay_pb2_grpc as wire_grpc

Code = grpc.StatusCode
COORDINATOR = """
import sys
from pathlib import Path
from wardround.server.coordinator import serve
from wardround.shared.identity import read_credentials
study, credentials, *revoked = sys.argv[1:]
serials = frozenset(int(serial) for serial in revoked)
serve(Path(study), read_credentials(Path(credentials)), "127.0.0.1:0", revoked=lambda: serials,
      on_listening=lambda port: print(port, flush=True), poll_s=0.05)
"""


def _load(name: str):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = _load("test_resume")


@contextmanager
def serving(tmp_path: Path, authority, plan, *revoked: int) -> Iterator[str]:
    """Serve a study of three tiny sites, and give its address."""
    with open_study(tmp_path / "study", plan, tiny.MANIFEST, tiny.GENESIS):
        pass
    credentials = authority.issue(Role.COORDINATOR, "hub")
    words = [sys.executable, "-c", COORDINATOR, str(tmp_path / "study"), str(credentials)]
    words += [str(serial) for serial in revoked]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.fixture
def address(tmp_path: Path, authority, tiny_plan) -> Iterator[str]:
    with serving(tmp_path, authority, tiny_plan) as listening:
        yield listening


@contextmanager
def dialled(address: str, folder: Path) -> Iterator[wire_grpc.RelayServiceStub]:
    with Connection(address, read_credentials(folder)) as connection:
        yield wire_grpc.RelayServiceStub(connection.channel)


@contextmanager
def refused(code: Code, words: str = "") -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is code, caught.value.details()
    assert words in caught.value.details()


class _Link:
    """A `CoordinatorLink` that makes each call once."""

    def __init__(self, stub, token: str) -> None:
        self.stub, self.token = stub, token

    def fetch(self, part):
        request = wire.FetchRequest(token=self.token, part_digest=part.digest)
        for message in self.stub.Fetch(request):
            yield message.chunk

    def progress(self, message):
        self.stub.Heartbeat(wire.HeartbeatRequest(token=self.token, progress=message))

    def evaluated(self, report):
        self.stub.Evaluated(wire.EvaluatedRequest(token=self.token, report=report))


def evaluate(stub, plan, site_id: str, workspace: Path) -> wire.NextOrderResponse:
    """Carry out the evaluation that is due at a site."""
    answer = stub.NextOrder(wire.NextOrderRequest())
    assert answer.kind == wire.ORDER_KIND_EVALUATION
    site = tiny._TinySite(plan, site_id, workspace / site_id)
    site.evaluate(answer.order, _Link(stub, answer.token))
    return answer


@pytest.fixture
def visiting(
    address: str, authority, tiny_plan, tmp_path: Path
) -> Iterator[tuple[wire_grpc.RelayServiceStub, wire.NextOrderResponse]]:
    """The stub of site 'ada' and its order to make visit 1."""
    for site_id in tiny_plan.sites:
        with dialled(address, authority.issue(Role.SITE, site_id)) as stub:
            evaluate(stub, tiny_plan, site_id, tmp_path)
    with dialled(address, authority.issue(Role.SITE, "ada")) as stub:
        order = stub.NextOrder(wire.NextOrderRequest())
        assert order.kind == wire.ORDER_KIND_VISIT
        yield stub, order


def announced(parts: dict[str, bytes], site_id: str = "ada") -> bytes:
    ref = ref_of(part_ref(name, data) for name, data in parts.items())
    return codec.encode(CheckpointUpload(visit=1, site_id=site_id, checkpoint=ref))


def trained(**changed: bytes) -> dict[str, bytes]:
    parts = {
        "segmenter": save({"w": np.ones(4, np.float32)}),
        "denoiser": save({"w": np.ones((600, 500), np.float32)}),
        "prompt.ada": save({"tokens": np.ones(2, np.float32)}),
    }
    return parts | changed


def upload(stub, token: str, announcement: bytes, name: str, chunks, offset: int = 0) -> None:
    header = wire.DeliverHeader(
        token=token, announcement=announcement, part_name=name, offset=offset
    )
    messages = [wire.DeliverRequest(header=header)]
    messages += [wire.DeliverRequest(chunk=chunk) for chunk in chunks]
    stub.Deliver(iter(messages))


def report_of(site_id: str) -> bytes:
    return codec.encode(
        VisitReport(visit=1, site_id=site_id, num_train=10, metrics={}, phase_seconds={})
    )


def kept(tmp_path: Path) -> set[str]:
    """The digests under which the coordinator keeps anything but the starting checkpoint."""
    root = tmp_path / "study" / CHECKPOINTS
    found = {path.parent.name + path.name for path in (root / "sha256").rglob("*/*")}
    found |= {path.name for path in (root / "partial").glob("*")}
    return found - {part_ref(name, data).digest for name, data in tiny.GENESIS.items()}


def serial_of(folder: Path) -> int:
    return x509.load_pem_x509_certificate((folder / CERTIFICATE_FILE).read_bytes()).serial_number


def test_a_plaintext_client_is_refused(address: str) -> None:
    with grpc.insecure_channel(address) as channel, refused(Code.UNAVAILABLE):
        wire_grpc.RelayServiceStub(channel).NextOrder(wire.NextOrderRequest())


def test_a_client_without_a_certificate_is_refused(address: str, authority) -> None:
    own = read_credentials(authority.issue(Role.SITE, "ada"))
    secure = grpc.ssl_channel_credentials(own.authority)
    with grpc.secure_channel(address, secure) as channel, refused(Code.UNAVAILABLE):
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
        work(connection, own, None, site_id="ada", plan=tiny_plan, manifest=tiny.MANIFEST)


def test_a_revoked_certificate_is_refused_and_the_site_ends(
    tmp_path: Path, authority, tiny_plan
) -> None:
    own = authority.issue(Role.SITE, "ada")
    with serving(tmp_path, authority, tiny_plan, serial_of(own)) as address:
        with dialled(address, own) as stub, refused(Code.UNAUTHENTICATED, "revoked"):
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
                manifest=tiny.MANIFEST,
            )


def test_a_site_with_a_certificate_of_another_name_does_not_start(authority, tiny_plan) -> None:
    own = read_credentials(authority.issue(Role.SITE, "ben"))
    with pytest.raises(IdentityError, match="expected one of site 'ada'"):
        work(None, own, None, site_id="ada", plan=tiny_plan, manifest=tiny.MANIFEST)


def test_a_site_that_is_not_of_the_study_is_refused(address: str, authority) -> None:
    folder = authority.issue(Role.SITE, "zoe")
    with dialled(address, folder) as stub, refused(Code.PERMISSION_DENIED, "no part"):
        stub.NextOrder(wire.NextOrderRequest())


@pytest.mark.parametrize("role", [Role.COORDINATOR, Role.OPERATOR])
def test_a_certificate_of_another_role_is_refused(address: str, authority, role: Role) -> None:
    with dialled(address, authority.issue(role, "ada")) as stub, refused(Code.PERMISSION_DENIED):
        stub.NextOrder(wire.NextOrderRequest())


def test_a_site_with_another_plan_is_refused(address: str, authority) -> None:
    with (
        dialled(address, authority.issue(Role.SITE, "ada")) as stub,
        refused(Code.INVALID_ARGUMENT, "Start the site with the study's plan"),
    ):
        stub.Register(wire.RegisterRequest(release="0.1.0", plan_digest="0" * 64))


def test_another_site_gets_no_order_and_cannot_use_one(visiting, address: str, authority) -> None:
    _, order = visiting
    parts = trained()
    (segmenter, *_) = codec.decode_visit_order(order.order).parent.parts
    with dialled(address, authority.issue(Role.SITE, "ben")) as stub:
        answer = stub.NextOrder(wire.NextOrderRequest())
        assert (answer.kind, answer.token, answer.order) == (wire.ORDER_KIND_NONE, "", b"")
        assert not stub.Heartbeat(wire.HeartbeatRequest(token=order.token)).is_current
        with refused(Code.FAILED_PRECONDITION):
            list(stub.Fetch(wire.FetchRequest(token=order.token, part_digest=segmenter.digest)))
        with refused(Code.FAILED_PRECONDITION):
            upload(stub, order.token, announced(parts), "segmenter", [parts["segmenter"]])
        with refused(Code.FAILED_PRECONDITION):
            stub.Commit(
                wire.CommitRequest(
                    token=order.token, report=report_of("ada"), upload=announced(parts)
                )
            )


def test_a_site_cannot_commit_another_ones_visit_under_a_lease_of_its_own(
    address: str, authority, tiny_plan, tmp_path: Path
) -> None:
    """Its evaluation is done and its token was its own; the visit that is due is another's."""
    tokens = {}
    for site_id in tiny_plan.sites:
        with dialled(address, authority.issue(Role.SITE, site_id)) as stub:
            tokens[site_id] = evaluate(stub, tiny_plan, site_id, tmp_path).token
    with (
        dialled(address, authority.issue(Role.SITE, "ben")) as stub,
        refused(Code.INVALID_ARGUMENT, "due is site 'ada'"),
    ):
        stub.Commit(
            wire.CommitRequest(
                token=tokens["ben"], report=report_of("ada"), upload=announced(trained())
            )
        )


def test_an_evaluator_scores_checkpoints_and_can_neither_visit_nor_deliver_nor_commit(
    address: str, authority, tiny_plan, tmp_path: Path
) -> None:
    for site_id in tiny_plan.sites:
        with dialled(address, authority.issue(Role.EVALUATOR, site_id)) as stub:
            evaluate(stub, tiny_plan, site_id, tmp_path)
    parts = trained()
    with dialled(address, authority.issue(Role.SITE, "ada")) as stub:
        token = stub.NextOrder(wire.NextOrderRequest()).token
    with dialled(address, authority.issue(Role.EVALUATOR, "ada")) as stub:
        assert stub.NextOrder(wire.NextOrderRequest()).kind == wire.ORDER_KIND_NONE
        with refused(Code.PERMISSION_DENIED):
            stub.Offer(
                wire.OfferRequest(token=token, announcement=announced(parts), part_name="segmenter")
            )
        with refused(Code.PERMISSION_DENIED):
            upload(stub, token, announced(parts), "segmenter", [parts["segmenter"]])
        with refused(Code.PERMISSION_DENIED):
            stub.Commit(
                wire.CommitRequest(token=token, report=report_of("ada"), upload=announced(parts))
            )
    assert kept(tmp_path) == set()


def test_a_stale_token_is_refused(visiting) -> None:
    stub, order = visiting
    assert stub.Heartbeat(wire.HeartbeatRequest(token=order.token)).is_current
    assert not stub.Heartbeat(wire.HeartbeatRequest(token="0" * 32)).is_current
    with refused(Code.FAILED_PRECONDITION, "Ask for the next order"):
        list(stub.Fetch(wire.FetchRequest(token="0" * 32)))
    with refused(Code.FAILED_PRECONDITION):
        stub.Commit(
            wire.CommitRequest(token="0" * 32, report=report_of("ada"), upload=announced(trained()))
        )


def test_asking_again_gives_the_same_lease(visiting) -> None:
    stub, order = visiting
    assert stub.NextOrder(wire.NextOrderRequest()) == order


def test_bytes_of_another_digest_are_refused_and_not_kept(visiting, tmp_path: Path) -> None:
    stub, order = visiting
    parts = trained()
    wrong = save({"w": np.zeros(4, np.float32) + 7})
    assert len(wrong) == len(parts["segmenter"])
    with refused(Code.DATA_LOSS, "arrived with digest"):
        upload(stub, order.token, announced(parts), "segmenter", [wrong])
    assert kept(tmp_path) == set()


def test_a_tensor_too_many_is_refused_and_not_kept(visiting, tmp_path: Path) -> None:
    stub, order = visiting
    extra = save({"w": np.ones(4, np.float32), "x": np.ones(1, np.float32)})
    parts = trained(segmenter=extra)
    with refused(Code.DATA_LOSS):
        upload(stub, order.token, announced(parts), "segmenter", [extra])
    assert kept(tmp_path) == set()


def test_a_value_that_is_not_finite_is_refused_and_not_kept(visiting, tmp_path: Path) -> None:
    stub, order = visiting
    spoilt = save({"w": np.array([1, np.nan, 1, 1], np.float32)})
    parts = trained(segmenter=spoilt)
    with refused(Code.DATA_LOSS, "not finite"):
        upload(stub, order.token, announced(parts), "segmenter", [spoilt])
    assert kept(tmp_path) == set()


def test_more_bytes_than_announced_are_refused_and_not_kept(visiting, tmp_path: Path) -> None:
    stub, order = visiting
    parts = trained()
    with refused(Code.DATA_LOSS, "more than the announced"):
        upload(stub, order.token, announced(parts), "segmenter", [parts["segmenter"], b"one more"])
    assert kept(tmp_path) == set()


def test_a_chunk_of_more_than_one_mebibyte_is_refused(visiting) -> None:
    stub, order = visiting
    parts = trained()
    with refused(Code.INVALID_ARGUMENT, "a chunk of"):
        upload(stub, order.token, announced(parts), "denoiser", [bytes(CHUNK_BYTES + 1)])
    with refused(Code.RESOURCE_EXHAUSTED):
        upload(stub, order.token, announced(parts), "denoiser", [bytes(3 * CHUNK_BYTES)])


def test_an_announcement_beyond_the_byte_budget_is_refused(
    tmp_path: Path, authority, tiny_plan
) -> None:
    release = tiny_plan.release.model_copy(update={"byte_budget": 1000})
    plan = tiny_plan.model_copy(update={"release": release})
    parts = trained()
    with serving(tmp_path, authority, plan) as address:
        for site_id in plan.sites:
            with dialled(address, authority.issue(Role.SITE, site_id)) as stub:
                evaluate(stub, plan, site_id, tmp_path)
        with dialled(address, authority.issue(Role.SITE, "ada")) as stub:
            token = stub.NextOrder(wire.NextOrderRequest()).token
            with refused(Code.DATA_LOSS, "allowed are 1000"):
                upload(stub, token, announced(parts), "denoiser", chunks_of(parts["denoiser"]))


def test_an_upload_goes_on_where_it_was_cut_and_a_download_begins_anywhere(
    visiting, tmp_path: Path
) -> None:
    stub, order = visiting
    parts = trained()
    announcement, data = announced(parts), parts["denoiser"]
    offering = wire.OfferRequest(token=order.token, announcement=announcement, part_name="denoiser")
    assert stub.Offer(offering) == wire.OfferResponse(offset=0)

    def cut() -> Iterator[wire.DeliverRequest]:
        header = wire.DeliverHeader(
            token=order.token, announcement=announcement, part_name="denoiser"
        )
        yield wire.DeliverRequest(header=header)
        yield wire.DeliverRequest(chunk=data[:CHUNK_BYTES])
        while stub.Offer(offering).offset < CHUNK_BYTES:
            pass
        raise RuntimeError("the line is cut")

    with pytest.raises(grpc.RpcError):
        stub.Deliver(cut())
    assert stub.Offer(offering) == wire.OfferResponse(offset=CHUNK_BYTES)
    with refused(Code.INVALID_ARGUMENT, "Ask how many arrived"):
        upload(stub, order.token, announcement, "denoiser", [], offset=CHUNK_BYTES + 1)
    upload(stub, order.token, announcement, "denoiser", [data[CHUNK_BYTES:]], offset=CHUNK_BYTES)
    assert stub.Offer(offering) == wire.OfferResponse(is_stored=True)
    assert kept(tmp_path) == {part_ref("denoiser", data).digest}

    before = tiny.GENESIS["denoiser"]
    asking = wire.FetchRequest(
        token=order.token, part_digest=part_ref("denoiser", before).digest, offset=1_100_000
    )
    assert b"".join(message.chunk for message in stub.Fetch(asking)) == before[1_100_000:]


def test_a_repeated_commit_is_the_same_commit(visiting) -> None:
    stub, order = visiting
    parts = trained()
    for name, data in parts.items():
        upload(stub, order.token, announced(parts), name, chunks_of(data))
    request = wire.CommitRequest(
        token=order.token, report=report_of("ada"), upload=announced(parts)
    )
    stub.Commit(request)
    stub.Commit(request)
    assert not stub.Heartbeat(wire.HeartbeatRequest(token=order.token)).is_current
    assert stub.NextOrder(wire.NextOrderRequest()).kind == wire.ORDER_KIND_EVALUATION


def test_the_standard_health_service_answers(address: str, authority) -> None:
    own = read_credentials(authority.issue(Role.SITE, "ada"))
    with Connection(address, own) as connection:
        health = health_pb2_grpc.HealthStub(connection.channel)
        for name in ("", "wardround.wire.v1.RelayService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
