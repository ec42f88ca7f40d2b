"""The authority's folder: whose it is, and a register that survives a cut line and nothing else."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wardround.server import authority as authorities
from wardround.server import register as registers
from wardround.server.authority import Authority
from wardround.shared.enrolment import make_request
from wardround.shared.errors import IdentityError
from wardround.shared.identity import Role, identity_of

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return authorities.init(tmp_path / "ca", "network", now=NOW)


@pytest.fixture
def register(authority: Authority) -> Path:
    return authority.folder / "register.jsonl"


def enrolled(authority: Authority, folder: Path) -> bytes:
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    request = make_request(folder, Role.SITE, "utrecht").read_bytes()
    return authority.approve(request, token, now=NOW)


def test_the_key_and_the_register_are_the_owners_alone(authority: Authority) -> None:
    for name in ("ca.key", "register.jsonl"):
        assert stat.S_IMODE((authority.folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700


def test_a_second_authority_does_not_take_the_place_of_the_first(authority: Authority) -> None:
    before = (authority.folder / "ca.key").read_bytes()
    with pytest.raises(IdentityError, match=r"ca\.key' exists already"):
        authorities.init(authority.folder, "other", now=NOW)
    assert (authority.folder / "ca.key").read_bytes() == before


def test_the_register_does_not_hold_the_token(authority: Authority, register: Path) -> None:
    first = authority.invite("utrecht", Role.SITE, now=NOW)
    second = authority.invite("leiden", Role.SITE, now=NOW)
    assert first != second
    assert first not in register.read_text(encoding="utf-8")


def test_a_torn_last_line_of_the_register_is_dropped_wherever_it_was_cut(
    authority: Authority, register: Path, tmp_path: Path
) -> None:
    authority.invite("utrecht", Role.SITE, now=NOW)
    first = register.read_bytes()
    authority.invite("leiden", Role.SITE, now=NOW)
    data = register.read_bytes()
    for end in range(len(first), len(data)):
        register.write_bytes(data[:end])
        assert [one.name for one in authority.open_invitations(now=NOW)] == ["utrecht"]
    authority.invite("porto", Role.SITE, now=NOW)
    assert register.read_bytes().startswith(first)
    assert [one.name for one in authority.open_invitations(now=NOW)] == ["utrecht", "porto"]


@pytest.mark.parametrize("change", ["{}", '{"kind": "pardoned"}', "revoked"])
def test_a_faulty_line_is_an_error_and_never_dropped(
    authority: Authority, register: Path, tmp_path: Path, change: str
) -> None:
    enrolled(authority, tmp_path / "site")
    authority.revoke("utrecht", now=NOW)
    lines = register.read_text(encoding="utf-8").splitlines()
    register.write_text("\n".join([*lines[:-1], change]) + "\n", encoding="utf-8")
    with pytest.raises(IdentityError, match=r"line 3, .*restore it from a copy"):
        authority.revoked_serials()
    with pytest.raises(IdentityError, match=r"line 3, .*restore it from a copy"):
        authority.invite("leiden", Role.SITE, now=NOW)


def test_serial_numbers_are_written_in_hexadecimal(
    authority: Authority, register: Path, tmp_path: Path
) -> None:
    serial = identity_of(enrolled(authority, tmp_path / "site")).serial
    line = json.loads(register.read_text(encoding="utf-8").splitlines()[-1])
    assert line["serial"] == f"{serial:040x}"
    assert authority.issued()[0].serial == serial


def test_two_processes_cannot_write_one_register_and_reading_goes_on(
    authority: Authority, register: Path, tmp_path: Path
) -> None:
    enrolled(authority, tmp_path / "site")
    with registers.opened(register):
        # A lock belongs to the opening of a file: within one process it works as between two.
        with pytest.raises(IdentityError, match="in use by another process"):
            authority.invite("leiden", Role.SITE, now=NOW)
        assert len(authority.issued()) == 1
    authority.invite("leiden", Role.SITE, now=NOW)


def test_a_folder_without_an_authority_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="wardround ca init"):
        Authority(tmp_path).invite("utrecht", Role.SITE, now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_register_as_it_was(
    authority: Authority, register: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.invite("utrecht", Role.SITE, now=NOW)
    before = register.read_bytes()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(registers.os, "fsync", full)
        with pytest.raises(IdentityError, match="No space left on device"):
            authority.invite("leiden", Role.SITE, now=NOW)
    assert register.read_bytes() == before
