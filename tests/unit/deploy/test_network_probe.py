"""The start-up probe: on loopback alone, and with routes that are made up."""

import socket

import pytest

from wardround.deploy.network_probe import expect_closed, reached
from wardround.shared.errors import NotPermitted
from wardround.shared.trail import Trail
from wardround.site_client.privacy.policy import SitePolicy


def no_route(_family, _address):
    return None


def a_route(family, _address):
    return "10.0.0.7" if family == socket.AF_INET else None


@pytest.fixture
def trail(tmp_path):
    return Trail(tmp_path / "audit", holder="wardround://site/ada")


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_machine_without_a_route_is_closed(trail):
    expect_closed(SitePolicy(), trail, route=no_route)
    assert trail.lines()[-1].facts == {"network": "coordinator-only", "reached": []}


def test_a_route_to_other_networks_is_refused_and_noted(trail):
    with pytest.raises(NotPermitted, match=r"from 10\.0\.0\.7 to other networks"):
        expect_closed(SitePolicy(), trail, route=a_route)
    (found,) = trail.lines()[-1].facts["reached"]
    assert "192.0.2.1" in found


def test_the_sites_staff_may_accept_an_open_network(trail):
    expect_closed(SitePolicy(network="open"), trail, route=a_route)
    assert trail.lines()[-1].facts["network"] == "open"
    assert len(trail.lines()[-1].facts["reached"]) == 1


def test_an_address_that_answers_is_refused(trail, listening):
    policy = SitePolicy(probe_addresses=(listening,))
    with pytest.raises(NotPermitted, match=f"{listening} answers"):
        expect_closed(policy, trail, route=no_route)


def test_a_machine_that_is_there_to_refuse_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    assert reached(SitePolicy(probe_addresses=(address,)), route=no_route) == (
        f"{address} answers",
    )


def test_where_addresses_are_named_they_decide_and_not_the_route(monkeypatch):
    def stopped(*_arguments, **_options):
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", stopped)
    assert reached(SitePolicy(probe_addresses=("10.0.0.1:443",)), route=a_route) == ()


def test_a_name_that_resolves_is_refused(monkeypatch):
    names = {"intranet.example": [("address",)]}

    def look_up(name, _port):
        if name not in names:
            raise socket.gaierror
        return names[name]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    policy = SitePolicy(probe_names=("intranet.example", "nowhere.example"))
    assert reached(policy, route=no_route) == ("the name intranet.example resolves",)
