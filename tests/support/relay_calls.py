"""A coordinator as a real process with mutual TLS, and the calls of a site made one by one."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from safetensors.numpy import save

from tiny_site import GENESIS, MANIFEST, TinySite
from wardround.deploy.in_process import open_study
from wardround.shared import codec
from wardround.shared.checkpoint import part_ref, ref_of
from wardround.shared.connection import Connection
from wardround.shared.identity import Role, read_credentials
from wardround.shared.messages import CheckpointUpload, VisitReport
from wardround.wire.v1 import relay_pb2 as wire
from wardround.wire.v1 import relay_pb2_grpc as wire_grpc

COORDINATOR = """
import sys
from pathlib import Path
from wardround.server.coordinator import serve
from wardround.shared.identity import read_credentials
study, credentials, port, *revoked = sys.argv[1:]
serials = frozenset(int(serial) for serial in revoked)
serve(Path(study), read_credentials(Path(credentials)), f"127.0.0.1:{port}",
      revoked=lambda: serials, on_listening=lambda port: print(port, flush=True), poll_s=0.05,
      heartbeat_s=1, linger_s=120)
"""


class Coordinator:
    """A coordinator that can be killed and started again under the same address."""

    def __init__(self, study: Path, credentials: Path, *revoked: int) -> None:
        self._words = [str(study), str(credentials)]
        self._revoked = [str(serial) for serial in revoked]
        self._port = 0

    def start(self) -> str:
        words = [sys.executable, "-c", COORDINATOR, *self._words, str(self._port), *self._revoked]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self._port = int(self.process.stdout.readline())
        return self.address

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def serving(tmp_path: Path, authority, plan, *revoked: int) -> Iterator[str]:
    """Serve a study of three tiny sites, and give its address."""
    with open_study(tmp_path / "study", plan, MANIFEST, GENESIS):
        pass
    hub = authority.issue(Role.COORDINATOR, "hub")
    coordinator = Coordinator(tmp_path / "study", hub, *revoked)
    try:
        yield coordinator.start()
    finally:
        coordinator.kill()


@contextmanager
def dialled(address: str, folder: Path) -> Iterator[wire_grpc.RelayServiceStub]:
    with Connection(address, read_credentials(folder)) as connection:
        yield wire_grpc.RelayServiceStub(connection.channel)


@contextmanager
def refused(code: grpc.StatusCode, words: str = "") -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is code, caught.value.details()
    assert words in caught.value.details()


class _Link:
    """A `CoordinatorLink` that makes each call once."""

    def __init__(self, stub, token: str, trail: bytes) -> None:
        self.stub, self.token, self.trail = stub, token, trail

    def trail_head(self):
        return self.trail

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
    site = TinySite(plan, site_id, workspace / site_id)
    site.evaluate(answer.order, _Link(stub, answer.token, answer.trail))
    return answer


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
