"""What a site's machine can reach besides the coordinator, looked at before it starts.

Without a word from the site's policy nothing is sent at all: the kernel is asked whether a route
leads to addresses that are reserved for documentation, of which there is one exactly where there is
one to the rest of the world. Whether a firewall stands behind that route cannot be told without
asking an address; so where the policy names addresses, it is these that decide: they are dialled,
and must not answer.
"""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

from wardround.shared.errors import NotPermitted
from wardround.shared.trail import Trail
from wardround.shared.trail_lines import LineKind
from wardround.site_client.privacy.policy import POLICY_FILE, SitePolicy

# RFC 5737 and RFC 3849: nobody has these addresses.
DOCUMENTATION = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
DISCARD = 9  # the port; nothing is sent to it
ANSWER_S = 3.0

REMEDY = (
    f"Take that away (a network of its own, no default route). Where a firewall stands behind the "
    f"route, let {POLICY_FILE} name addresses that it must stop: probe_addresses = "
    f'["HOST:PORT"]. Or have the site\'s staff accept it there: network = "open"'
)

RouteTo = Callable[[socket.AddressFamily, str], str | None]


def route_to(family: socket.AddressFamily, address: str) -> str | None:
    """Return the own address from which the kernel would send to `address`; None without a route.

    A datagram socket is connected, which looks the route up and sends nothing.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((address, DISCARD))
            return str(asked.getsockname()[0])
    except OSError:
        return None


def reached(policy: SitePolicy, *, route: RouteTo = route_to) -> tuple[str, ...]:
    """Return what can be reached that should not be, one line for each; at most some seconds long.

    Args:
        policy: Names what is dialled and looked up; nothing else is.
        route: Returns the own address of a route, see `route_to`.
    """
    found = []
    if not policy.probe_addresses:
        for family, address in DOCUMENTATION:
            if (own := route(family, address)) is not None:
                found.append(f"a route leads from {own} to other networks (such as {address})")
    with ThreadPoolExecutor(8) as dialling:
        answers = dialling.map(_answers, policy.probe_addresses)
        found += [
            f"{address} answers"
            for address, is_there in zip(policy.probe_addresses, answers, strict=True)
            if is_there
        ]
    found += [f"the name {name} resolves" for name in policy.probe_names if _resolves(name)]
    return tuple(found)


def expect_closed(policy: SitePolicy, trail: Trail, *, route: RouteTo = route_to) -> None:
    """Look what can be reached, note it in the site's trail, and refuse to start if anything can.

    Args:
        policy: The site's.
        trail: The site's.
        route: Returns the own address of a route, see `route_to`.

    Raises:
        NotPermitted: Something can be reached, and the policy does not say that it may.
    """
    found = reached(policy, route=route)
    trail.append(LineKind.PROBED, {"network": policy.network, "reached": found})
    if found and policy.network == "coordinator-only":
        raise NotPermitted(
            f"this machine can reach more than the coordinator: {'; '.join(found)}. {REMEDY}."
        )


def _answers(address: str) -> bool:
    """Return whether anybody is there, be it to refuse."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S):
            return True
    except ConnectionRefusedError:
        return True
    except (OSError, OverflowError):
        return False


def _resolves(name: str) -> bool:
    """Return whether a name has an address; one that takes too long to find has none."""
    found: list[bool] = []

    def look() -> None:
        try:
            found.append(bool(socket.getaddrinfo(name, None)))
        except OSError:
            found.append(False)

    looking = Thread(target=look, daemon=True)  # the system's look-up cannot be stopped
    looking.start()
    looking.join(ANSWER_S)
    return found == [True]
