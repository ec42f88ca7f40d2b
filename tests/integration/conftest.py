"""Certificates for tests, made as a study network makes them: invited, requested, approved."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from wardround.server.authority import init
from wardround.shared.enrolment import install, make_request
from wardround.shared.identity import CA_FILE, Role


class Authority:
    """Issues credentials under `root`, one folder each."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root / name
        self._authority = init(self._root / "ca", name, now=datetime.now(UTC))

    def issue(self, role: Role, name: str) -> Path:
        folder = self._root / f"{role}-{name}"
        if folder.exists():
            return folder
        now = datetime.now(UTC)
        hosts = ("localhost", "127.0.0.1") if role is Role.COORDINATOR else ()
        token = self._authority.invite(name, role, now=now, hosts=hosts)
        request = make_request(folder, role, name).read_bytes()
        certificate = self._authority.approve(request, token, now=now)
        trusted = (self._authority.folder / CA_FILE).read_bytes()
        install(folder, certificate, now=now, authority=trusted)
        return folder

    @property
    def folder(self) -> Path:
        return self._authority.folder

    def revoke(self, name: str) -> None:
        self._authority.revoke(name, now=datetime.now(UTC))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return the authority that the study trusts."""
    return Authority(tmp_path / "credentials", "authority")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Return an authority that nobody trusts."""
    return Authority(tmp_path / "credentials", "stranger")
