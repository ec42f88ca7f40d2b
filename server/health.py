"""Ask a coordinator whether it serves: gRPC's standard health service, called with mutual TLS."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from wardround.server.service import SERVICE_NAME
from wardround.shared.errors import ConnectionLost
from wardround.shared.identity import Credentials


def check(address: str, credentials: Credentials, *, timeout_s: float) -> None:
    """Return if the coordinator at `address` serves a study.

    Args:
        address: HOST:PORT; the host must be one that the coordinator's certificate names.
        credentials: Of any holder of the same authority, the coordinator itself included.
        timeout_s: How long to wait for the answer.

    Raises:
        ConnectionLost: It does not answer, or says that it does not serve.
    """
    secure = grpc.ssl_channel_credentials(
        root_certificates=credentials.authority,
        private_key=credentials.key,
        certificate_chain=credentials.certificate,
    )
    request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
    with grpc.secure_channel(address, secure) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            # The library's types leave the calls of its stub out.
            answer = stub.Check(request, timeout=timeout_s)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            raise ConnectionLost(
                f"the coordinator at '{address}' does not answer ({error!s:.200}). Check that it "
                f"runs, that its certificate names this host, and wardround doctor on either side."
            ) from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise ConnectionLost(
            f"the coordinator at '{address}' says {name}, expected SERVING. It is about to stop; "
            f"look at its log."
        )
