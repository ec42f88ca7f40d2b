"""What the coordinator refuses over the network, each by its status; and what it resumes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from safetensors.numpy import save

import relay_calls as calls
from tiny_site import GENESIS
from wardround.server.study_folder import CHECKPOINTS
from wardround.shared import codec
from wardround.shared.checkpoint import CHUNK_BYTES, chunks_of, part_ref
from wardround.shared.identity import Role
from wardround.wire.v1 import relay_pb2 as wire
from wardround.wire.v1 import relay_pb2_grpc as wire_grpc

Code = grpc.StatusCode


@pytest.fixture
def address(tmp_path: Path, authority, tiny_plan) -> Iterator[str]:
    with calls.serving(tmp_path, authority, tiny_plan) as listening:
        yield listening


@pytest.fixture
def visiting(
    address: str, authority, tiny_plan, tmp_path: Path
) -> Iterator[tuple[wire_grpc.RelayServiceStub, wire.NextOrderResponse]]:
    """The stub of site 'ada' and its order to make visit 1."""
    for site_id in tiny_plan.sites:
        with calls.dialled(address, authority.issue(Role.SITE, site_id)) as stub:
            calls.evaluate(stub, tiny_plan, site_id, tmp_path)
    with calls.dialled(address, authority.issue(Role.SITE, "ada")) as stub:
        order = stub.NextOrder(wire.NextOrderRequest())
        assert order.kind == wire.ORDER_KIND_VISIT
        yield stub, order


def kept(tmp_path: Path) -> set[str]:
    """The digests under which the coordinator keeps anything but the starting checkpoint."""
    root = tmp_path / "study" / CHECKPOINTS
    found = {path.parent.name + path.name for path in (root / "sha256").rglob("*/*")}
    found |= {path.name for path in (root / "partial").glob("*")}
    return found - {part_ref(name, data).digest for name, data in GENESIS.items()}


def test_a_site_with_another_plan_is_refused(address: str, authority) -> None:
    with (
        calls.dialled(address, authority.issue(Role.SITE, "ada")) as stub,
        calls.refused(Code.INVALID_ARGUMENT, "Start the site with the study's plan"),
    ):
        stub.Register(wire.RegisterRequest(release="0.1.0", plan_digest="0" * 64))


def test_another_site_gets_no_order_and_cannot_use_one(visiting, address: str, authority) -> None:
    _, order = visiting
    parts = calls.trained()
    (segmenter, *_) = codec.decode_visit_order(order.order).parent.parts
    with calls.dialled(address, authority.issue(Role.SITE, "ben")) as stub:
        answer = stub.NextOrder(wire.NextOrderRequest())
        assert (answer.kind, answer.token, answer.order) == (wire.ORDER_KIND_NONE, "", b"")
        assert not stub.Heartbeat(wire.HeartbeatRequest(token=order.token)).is_current
        with calls.refused(Code.FAILED_PRECONDITION):
            list(stub.Fetch(wire.FetchRequest(token=order.token, part_digest=segmenter.digest)))
        with calls.refused(Code.FAILED_PRECONDITION):
            calls.upload(
                stub, order.token, calls.announced(parts), "segmenter", [parts["segmenter"]]
            )
        with calls.refused(Code.FAILED_PRECONDITION):
            stub.Commit(
                wire.CommitRequest(
                    token=order.token, report=calls.report_of("ada"), upload=calls.announced(parts)
                )
            )


def test_a_site_cannot_commit_another_ones_visit_under_a_lease_of_its_own(
    address: str, authority, tiny_plan, tmp_path: Path
) -> None:
    """Its evaluation is done and its token was its own; the visit that is due is another's."""
    tokens = {}
    for site_id in tiny_plan.sites:
        with calls.dialled(address, authority.issue(Role.SITE, site_id)) as stub:
            tokens[site_id] = calls.evaluate(stub, tiny_plan, site_id, tmp_path).token
    with (
        calls.dialled(address, authority.issue(Role.SITE, "ben")) as stub,
        calls.refused(Code.INVALID_ARGUMENT, "due is site 'ada'"),
    ):
        stub.Commit(
            wire.CommitRequest(
                token=tokens["ben"],
                report=calls.report_of("ada"),
                upload=calls.announced(calls.trained()),
            )
        )


def test_an_evaluator_scores_checkpoints_and_can_neither_visit_nor_deliver_nor_commit(
    address: str, authority, tiny_plan, tmp_path: Path
) -> None:
    for site_id in tiny_plan.sites:
        with calls.dialled(address, authority.issue(Role.EVALUATOR, site_id)) as stub:
            calls.evaluate(stub, tiny_plan, site_id, tmp_path)
    parts = calls.trained()
    with calls.dialled(address, authority.issue(Role.SITE, "ada")) as stub:
        token = stub.NextOrder(wire.NextOrderRequest()).token
    with calls.dialled(address, authority.issue(Role.EVALUATOR, "ada")) as stub:
        assert stub.NextOrder(wire.NextOrderRequest()).kind == wire.ORDER_KIND_NONE
        with calls.refused(Code.PERMISSION_DENIED):
            stub.Offer(
                wire.OfferRequest(
                    token=token, announcement=calls.announced(parts), part_name="segmenter"
                )
            )
        with calls.refused(Code.PERMISSION_DENIED):
            calls.upload(stub, token, calls.announced(parts), "segmenter", [parts["segmenter"]])
        with calls.refused(Code.PERMISSION_DENIED):
            stub.Commit(
                wire.CommitRequest(
                    token=token, report=calls.report_of("ada"), upload=calls.announced(parts)
                )
            )
    assert kept(tmp_path) == set()


def test_a_stale_token_is_refused(visiting) -> None:
    stub, order = visiting
    assert stub.Heartbeat(wire.HeartbeatRequest(token=order.token)).is_current
    assert not stub.Heartbeat(wire.HeartbeatRequest(token="0" * 32)).is_current
    with calls.refused(Code.FAILED_PRECONDITION, "Ask for the next order"):
        list(stub.Fetch(wire.FetchRequest(token="0" * 32)))
    with calls.refused(Code.FAILED_PRECONDITION):
        stub.Commit(
            wire.CommitRequest(
                token="0" * 32,
                report=calls.report_of("ada"),
                upload=calls.announced(calls.trained()),
            )
        )


def test_asking_again_gives_the_same_lease(visiting) -> None:
    stub, order = visiting
    assert stub.NextOrder(wire.NextOrderRequest()) == order


def test_bytes_of_another_digest_are_refused_and_not_kept(visiting, tmp_path: Path) -> None:
    stub, order = visiting
    parts = calls.trained()
    wrong = save({"w": np.zeros(4, np.float32) + 7})
    assert len(wrong) == len(parts["segmenter"])
    with calls.refused(Code.DATA_LOSS, "arrived with digest"):
        calls.upload(stub, order.token, calls.announced(parts), "segmenter", [wrong])
    assert kept(tmp_path) == set()


def test_a_tensor_too_many_is_refused_and_not_kept(visiting, tmp_path: Path) -> None:
    stub, order = visiting
    extra = save({"w": np.ones(4, np.float32), "x": np.ones(1, np.float32)})
    parts = calls.trained(segmenter=extra)
    with calls.refused(Code.DATA_LOSS):
        calls.upload(stub, order.token, calls.announced(parts), "segmenter", [extra])
    assert kept(tmp_path) == set()


@pytest.mark.parametrize(
    ("segmenter", "words"),
    [
        (save({"w": np.ones((2, 2), np.float32)}), "'w' is F32 [2, 2], expected F32 [4]"),
        (save({"w": np.ones(4, np.float16)}), "'w' is F16 [4], expected F32 [4]"),
        ((2**40).to_bytes(8, "little") + bytes(50), "do not begin with a header"),
        ((50_000).to_bytes(8, "little") + b"[" * 50_000, "its header cannot be read"),
        ((2**20).to_bytes(8, "little") + b" " * 2**20, "do not begin with a header"),
    ],
    ids=["shape", "dtype", "header beyond the file", "nested header", "header of a mebibyte"],
)
def test_a_part_with_another_header_is_refused_and_not_kept(
    visiting, tmp_path: Path, segmenter: bytes, words: str
) -> None:
    stub, order = visiting
    parts = calls.trained(segmenter=segmenter)
    with calls.refused(Code.DATA_LOSS, words):
        calls.upload(stub, order.token, calls.announced(parts), "segmenter", chunks_of(segmenter))
    assert kept(tmp_path) == set()


def test_a_value_that_is_not_finite_is_refused_and_not_kept(visiting, tmp_path: Path) -> None:
    stub, order = visiting
    spoilt = save({"w": np.array([1, np.nan, 1, 1], np.float32)})
    parts = calls.trained(segmenter=spoilt)
    with calls.refused(Code.DATA_LOSS, "not finite"):
        calls.upload(stub, order.token, calls.announced(parts), "segmenter", [spoilt])
    assert kept(tmp_path) == set()


def test_more_bytes_than_announced_are_refused_and_not_kept(visiting, tmp_path: Path) -> None:
    stub, order = visiting
    parts = calls.trained()
    with calls.refused(Code.DATA_LOSS, "more than the announced"):
        calls.upload(
            stub,
            order.token,
            calls.announced(parts),
            "segmenter",
            [parts["segmenter"], b"one more"],
        )
    assert kept(tmp_path) == set()


def test_a_chunk_of_more_than_one_mebibyte_is_refused(visiting) -> None:
    stub, order = visiting
    parts = calls.trained()
    with calls.refused(Code.INVALID_ARGUMENT, "a chunk of"):
        calls.upload(
            stub, order.token, calls.announced(parts), "denoiser", [bytes(CHUNK_BYTES + 1)]
        )
    with calls.refused(Code.RESOURCE_EXHAUSTED):
        calls.upload(
            stub, order.token, calls.announced(parts), "denoiser", [bytes(3 * CHUNK_BYTES)]
        )


def test_an_announcement_beyond_the_byte_budget_is_refused(
    tmp_path: Path, authority, tiny_plan
) -> None:
    release = tiny_plan.release.model_copy(update={"byte_budget": 1000})
    plan = tiny_plan.model_copy(update={"release": release})
    parts = calls.trained()
    with calls.serving(tmp_path, authority, plan) as address:
        for site_id in plan.sites:
            with calls.dialled(address, authority.issue(Role.SITE, site_id)) as stub:
                calls.evaluate(stub, plan, site_id, tmp_path)
        with calls.dialled(address, authority.issue(Role.SITE, "ada")) as stub:
            token = stub.NextOrder(wire.NextOrderRequest()).token
            with calls.refused(Code.DATA_LOSS, "allowed are 1000"):
                calls.upload(
                    stub, token, calls.announced(parts), "denoiser", chunks_of(parts["denoiser"])
                )


def test_an_upload_goes_on_where_it_was_cut_and_a_download_begins_anywhere(
    visiting, tmp_path: Path
) -> None:
    stub, order = visiting
    parts = calls.trained()
    announcement, data = calls.announced(parts), parts["denoiser"]
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
    with calls.refused(Code.INVALID_ARGUMENT, "Ask how many arrived"):
        calls.upload(stub, order.token, announcement, "denoiser", [], offset=CHUNK_BYTES + 1)
    calls.upload(
        stub, order.token, announcement, "denoiser", [data[CHUNK_BYTES:]], offset=CHUNK_BYTES
    )
    assert stub.Offer(offering) == wire.OfferResponse(is_stored=True)
    assert kept(tmp_path) == {part_ref("denoiser", data).digest}

    before = GENESIS["denoiser"]
    asking = wire.FetchRequest(
        token=order.token, part_digest=part_ref("denoiser", before).digest, offset=1_100_000
    )
    assert b"".join(message.chunk for message in stub.Fetch(asking)) == before[1_100_000:]


def test_a_repeated_commit_is_the_same_commit(visiting) -> None:
    stub, order = visiting
    parts = calls.trained()
    for name, data in parts.items():
        calls.upload(stub, order.token, calls.announced(parts), name, chunks_of(data))
    request = wire.CommitRequest(
        token=order.token, report=calls.report_of("ada"), upload=calls.announced(parts)
    )
    stub.Commit(request)
    stub.Commit(request)
    assert not stub.Heartbeat(wire.HeartbeatRequest(token=order.token)).is_current
    assert stub.NextOrder(wire.NextOrderRequest()).kind == wire.ORDER_KIND_EVALUATION


def test_a_replayed_commit_with_other_content_is_refused(visiting) -> None:
    stub, order = visiting
    parts = calls.trained()
    for name, data in parts.items():
        calls.upload(stub, order.token, calls.announced(parts), name, chunks_of(data))
    report, announcement = calls.report_of("ada"), calls.announced(parts)
    stub.Commit(wire.CommitRequest(token=order.token, report=report, upload=announcement))

    other = calls.announced(calls.trained(segmenter=save({"w": np.zeros(4, np.float32)})))
    with calls.refused(Code.INVALID_ARGUMENT, "a second checkpoint of visit 1"):
        stub.Commit(wire.CommitRequest(token=order.token, report=report, upload=other))
    changed = codec.encode(replace(codec.decode_visit_report(report), num_train=11))
    with calls.refused(Code.INVALID_ARGUMENT, "a second commit of visit 1"):
        stub.Commit(wire.CommitRequest(token=order.token, report=changed, upload=announcement))
