"""Certificates for tests, made as a study network makes them: invited, requested, approved."""

from pathlib import Path

import pytest

from wardround.deploy.throwaway import ThrowawayAuthority


@pytest.fixture
def authority(tmp_path: Path) -> ThrowawayAuthority:
    """Return the authority that the study trusts."""
    return ThrowawayAuthority(tmp_path / "credentials" / "authority")


@pytest.fixture
def stranger(tmp_path: Path) -> ThrowawayAuthority:
    """Return an authority that nobody trusts."""
    return ThrowawayAuthority(tmp_path / "credentials" / "stranger")
