"""Compose 1.29 and Compose 2 read the same files, and must make the same of them."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_every_compose_makes_the_same_containers_and_networks(as_made) -> None:
    if len(as_made) == 1:
        pytest.skip(f"'{next(iter(as_made))}' is the only Compose that is installed")
    one, two = as_made.values()
    assert one == two
