import itertools

import pytest

from wardround.server.leases import Leases
from wardround.server.order import Order
from wardround.shared.errors import StaleLease, WireError

FIRST = Order(kind="evaluation", site_id="ada", visit=0, data=b"score it")
SECOND = Order(kind="visit", site_id="ada", visit=1, data=b"train it")


@pytest.fixture
def leases() -> Leases:
    numbers = itertools.count(1)
    return Leases(draw=lambda: f"token-{next(numbers)}")


def test_whoever_asks_again_for_an_order_holds_the_same_lease(leases: Leases) -> None:
    assert leases.grant(FIRST) == leases.grant(FIRST)
    assert leases.grant(FIRST).token == "token-1"
    assert leases.is_current("token-1", "ada")


def test_a_lease_is_of_one_site_alone(leases: Leases) -> None:
    leases.grant(FIRST)
    assert not leases.is_current("token-1", "ben")
    with pytest.raises(StaleLease, match="site 'ben'"):
        leases.expect_current("token-1", "ben")
    with pytest.raises(StaleLease):
        leases.expect_granted("token-1", "ben")


def test_the_next_order_makes_the_token_before_stale(leases: Leases) -> None:
    leases.grant(FIRST)
    leases.grant(SECOND)
    assert not leases.is_current("token-1", "ada")
    assert leases.is_current("token-2", "ada")


def test_a_released_lease_is_stale_but_its_result_may_be_repeated(leases: Leases) -> None:
    leases.grant(FIRST)
    leases.release()
    assert leases.current is None
    with pytest.raises(StaleLease, match="Ask for the next order"):
        leases.expect_current("token-1", "ada")
    leases.expect_granted("token-1", "ada")


def test_a_token_of_an_earlier_coordinator_is_stale() -> None:
    before, after = Leases(), Leases()
    token = before.grant(FIRST).token
    assert after.grant(FIRST).token != token
    with pytest.raises(StaleLease):
        after.expect_granted(token, "ada")


def test_tokens_cannot_be_guessed_from_the_order() -> None:
    tokens = {Leases().grant(FIRST).token for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 32 for token in tokens)


def test_a_stale_lease_is_a_fault_of_the_message() -> None:
    assert issubclass(StaleLease, WireError)
