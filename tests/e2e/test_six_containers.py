"""Six hospitals in real containers: walled in, cut off, killed, and the bytes of a simulation.

The tests stand in the order of one study's course: it stands still until its last site is started.
"""

import time

import pytest

HEAVY = ["torch", "monai", "nibabel", "PIL", "pydicom", "scipy", "matplotlib", "safetensors", "cv2"]
NUM_EVENTS = 1 + 6 * 7 + 6 * 2 + 1  # created, evaluated, leased and committed, completed
UP_TO_BMC = 1 + 6 + 2 + 1  # the second site's evaluation of the first visit comes next


def leased(visit: int) -> int:
    """Return how many events there are when a visit has just been leased."""
    return 1 + 6 * visit + 2 * (visit - 1) + 1


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FIND = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name)]))
"""

# A connection that is refused was answered, so something was reached. A program that looks for a
# way out can also have its packets put on the wire to where no route leads.
REACH = """
import concurrent.futures, json, socket, sys

def is_reached(address, past_routes=False):
    host, _, port = address.rpartition(":")
    with socket.socket() as connection:
        connection.settimeout(5)
        try:
            if past_routes:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
            connection.connect((host, int(port)))
        except ConnectionRefusedError:
            return True
        except OSError:
            return not past_routes and is_reached(address, past_routes=True)
    return True

with concurrent.futures.ThreadPoolExecutor(len(sys.argv)) as threads:
    found = dict(zip(sys.argv[1:], threads.map(is_reached, sys.argv[1:])))
print(json.dumps([address for address in found if found[address]]))
"""

# A name server says that there is no such name, which is another error than no answer at all.
OUTSIDE = """
import json, pathlib, socket

def ask(name):
    try:
        socket.getaddrinfo(name, 443)
    except socket.gaierror as error:
        return "nobody answers" if error.errno == socket.EAI_AGAIN else "no such name"
    return "an address"

devices = [line.split()[-1] for line in pathlib.Path("/proc/net/if_inet6").read_text().splitlines()]
print(json.dumps({"name": ask("wardround.invalid"), "IPv6": [d for d in devices if d != "lo"]}))
"""

LISTENING = """
import json
rows = [line.split() for table in ("tcp", "tcp6") for line in open(f"/proc/net/{table}")]
at = [row[1].split(":") for row in rows if row[3] == "0A"]
print(json.dumps([int(port, 16) for address, port in at if address != "0B00007F"]))
"""  # 0A is LISTEN; at 127.0.0.11 is Docker's own name server

RIGHTS = """
import json, os, pathlib

FOLDERS = ["/", "/etc", "/opt/wardround", "/data", "/register", "/study", "/state", "/tmp"]

def can_write(folder):
    try:
        pathlib.Path(folder, "written").write_text("")
    except OSError:
        return False
    return True

status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "user": os.getuid(),
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "can gain rights": status["NoNewPrivs"].strip() == "0",
    "writable": [folder for folder in FOLDERS if can_write(folder)],
}))
"""

PROBED = """
import json, pathlib

lines = pathlib.Path("/state/audit/trail.jsonl").read_text().splitlines()
print(json.dumps([line["facts"] for line in map(json.loads, lines) if line["kind"] == "probed"]))
"""


def test_the_coordinator_holds_no_torch_no_image_reader_and_nothing_of_a_site(hospitals) -> None:
    assert hospitals.python("coordinator", FIND, *HEAVY, "wardround.site_client") == []
    assert hospitals.python("runmc", FIND, "torch", "nibabel", "wardround.site_client") == [
        "torch",
        "nibabel",
        "wardround.site_client",
    ]


@pytest.mark.parametrize(("service", "state"), [("coordinator", "/study"), ("runmc", "/state")])
def test_a_container_has_no_rights_and_writes_only_its_state(
    hospitals, service: str, state: str
) -> None:
    assert hospitals.python(service, RIGHTS) == {
        "user": 10001,
        "capabilities": 0,
        "can gain rights": False,
        "writable": [state, "/tmp"],  # noqa: S108
    }


def test_a_site_reaches_the_coordinator_and_nothing_else(hospitals) -> None:
    others = hospitals.sites[1:-1]
    reachable = ["coordinator:7443", "coordinator:1"]  # nothing listens at the second
    names = [f"{name}:7443" for name in others]
    addresses = [
        f"{address}:{port}"
        for service in (*others, "coordinator")
        for network, address in hospitals.addresses(service).items()
        for port in (7443, 1)
        if network != hospitals.network("runmc")
    ]
    machine = [f"{address}:{port}" for address in hospitals.gateways() for port in (7443, 1)]
    assert len(addresses) == 2 * (4 + 5)
    assert len(machine) == 2 * 7

    reached = hospitals.python("runmc", REACH, *reachable, *names, *addresses, *machine)

    assert reached == reachable


def test_a_site_looked_what_it_can_reach_before_it_started_and_found_nothing(hospitals) -> None:
    found = hospitals.python("runmc", PROBED)
    assert found == [{"network": "coordinator-only", "reached": []}]


@pytest.mark.parametrize("service", ["coordinator", "runmc"])
def test_no_name_server_is_asked_and_there_is_no_ipv6(hospitals, service: str) -> None:
    assert hospitals.python(service, OUTSIDE) == {"name": "nobody answers", "IPv6": []}
    assert hospitals.inspect(service, ".HostConfig.Dns") == ["127.0.0.1"]


def test_a_site_shares_its_network_with_the_coordinator_alone_and_listens_to_nobody(
    hospitals,
) -> None:
    coordinator = hospitals.container("coordinator")
    for site in hospitals.sites[:-1]:
        assert list(hospitals.addresses(site)) == [hospitals.network(site)]
        members = {hospitals.container(site), coordinator}
        assert hospitals.members(hospitals.network(site)) == members
        assert hospitals.python(site, LISTENING) == []
    assert hospitals.python("coordinator", LISTENING) == [7443]


def test_the_health_checks_find_everybody_well(hospitals) -> None:
    for service in ("coordinator", *hospitals.sites[:-1]):
        while hospitals.inspect(service, ".State.Health.Status") != "healthy":
            time.sleep(0.5)


def test_a_site_that_is_cut_off_goes_on_when_the_network_heals(hospitals) -> None:
    """It is cut off while it waits; the study then comes to it and waits for it."""
    hospitals.disconnect("bmc")
    assert hospitals.python("bmc", REACH, "coordinator:7443") == []
    hospitals.compose("up", "--detach", hospitals.sites[-1])
    hospitals.wait_for(UP_TO_BMC)
    time.sleep(2)
    assert hospitals.num_events() == UP_TO_BMC

    hospitals.connect("bmc")

    hospitals.wait_for(UP_TO_BMC + 1)


@pytest.mark.parametrize(
    ("service", "visit"),
    [("i2cvb", 3), ("coordinator", 4)],
)
def test_who_is_killed_in_the_middle_of_a_visit_is_started_again(
    hospitals, service: str, visit: int
) -> None:
    hospitals.wait_for(leased(visit))

    hospitals.kill(service)

    state = hospitals.state()
    assert state.leased == visit
    assert not state.is_complete
    hospitals.start(service)


def test_a_site_that_is_cut_off_in_the_middle_of_a_visit_delivers_when_the_network_heals(
    hospitals,
) -> None:
    hospitals.wait_for(leased(5))

    hospitals.disconnect("bidmc")

    time.sleep(5)
    state = hospitals.state()
    assert state.leased == 5
    assert hospitals.num_events() == leased(5)
    hospitals.connect("bidmc")


def test_the_study_ends_in_the_bytes_of_the_in_process_engine(
    hospitals, simulated: list[str]
) -> None:
    hospitals.wait_for(NUM_EVENTS)
    for service in ("coordinator", *hospitals.sites):
        assert hospitals.wait(service) == 0, service
    state = hospitals.state()
    assert state.is_complete
    assert [checkpoint.digest for checkpoint in state.checkpoints] == simulated
    assert hospitals.num_events() == NUM_EVENTS


def test_every_compose_makes_the_same_containers_and_networks(as_made) -> None:
    """Compose 1.29 and Compose 2 read the same files."""
    if len(as_made) == 1:
        pytest.skip(f"'{next(iter(as_made))}' is the only Compose that is installed")
    one, two = as_made.values()
    assert one == two
