"""The Flower engine: the coordinator's loop as a ServerApp, a site's visit as a ClientApp.

    records       what one message carries       bundle          what Flower ships, and its digest
    engine        orders out, results in         site_program    what a site runs for each message
    server_app    the study's loop               supernode       start a site, with its `keys`
    client_app    a site's answer, through a     simulation      every site on this machine, for
                  `message_link`                                 `wardround simulate`
                                                 simulation_app  likewise, for `flwr run`

Flower sends a message to a site and gets one reply; nothing else crosses meanwhile. So an order
goes out with the parts it needs, and its result comes back whole. No other package imports flwr.
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec

from wardround.shared.errors import UsageError

ENGINE = "flower"

SWITCHES: Mapping[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what ray asks for, else it warns
    "RAY_worker_niceness": "0",  # ray puts its workers behind every other process, and they work
}
"""What keeps Flower from calling home, from installing what a bundle names, and from idling."""

# Flower reads some of them when it is imported, so this comes first. Who wants otherwise says so.
for _name, _value in SWITCHES.items():
    os.environ.setdefault(_name, _value)


def expect_installed(group: str, *packages: str) -> None:
    """Check that what an optional dependency group installs is here.

    Raises:
        UsageError: It is not.
    """
    gone = [name for name in packages if find_spec(name) is None]
    if gone:
        raise UsageError(
            f"the Flower engine needs {', '.join(gone)}, which is not installed. "
            f"Install it: pip install 'wardround[{group}]'."
        )
