"""Tell a coordinator that is away from one that does not accept this site's certificate.

A gRPC server judges the certificate when the client's half of a TLS 1.3 handshake is over, and
says nothing: it closes. Seen through gRPC that is any broken connection, so this looks without it.
"""

import os
import socket
import ssl

from wardround.shared.identity import Credentials

TIMEOUT_S = 10.0


def is_turned_away(address: str, credentials: Credentials) -> bool:
    """Return whether the coordinator shakes hands and then closes without a word.

    One that accepts the certificate speaks first. False where this cannot be told.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        context = _context(credentials)
        with (
            socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as line,
        ):
            return line.recv(1) == b""
    except (OSError, ValueError):
        return False


def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=credentials.authority.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    # The library takes a certificate from a file alone; this one exists in memory only.
    file = os.memfd_create("own")
    try:
        os.write(file, credentials.certificate + b"\n" + credentials.key)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context
