"""Certificates as people get them: the commands in their order, on both machines."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wardround.deploy import cli, cli_options, network_probe
from wardround.shared.identity import fingerprint

Run = Callable[..., tuple[int, str, str]]

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def command(*words: str, days: int = 0) -> tuple[int, str, str]:
        """Run a command `days` after NOW."""
        monkeypatch.setattr(sys, "argv", ["wardround", *words])
        monkeypatch.setattr(cli_options, "clock", lambda: NOW + timedelta(days=days))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return int(ended.value.code or 0), printed.out, printed.err

    return command


@pytest.fixture
def ok(run: Run) -> Callable[..., str]:
    def command(*words: str, days: int = 0) -> str:
        status, out, err = run(*words, days=days)
        assert status == 0, err
        return out

    return command


@pytest.fixture
def enrolled(ok: Callable[..., str]) -> str:
    """Enrol utrecht into the folder `site`; return the token that was used."""
    ok("ca", "init", "ca", "--name", "network")
    token = ok("ca", "invite", "ca", "utrecht").split()[1]
    ok("site", "enroll", "site", "--name", "utrecht")
    ok("ca", "approve", "ca", "site/own.csr", "--token", token, "--out", "utrecht.crt")
    ok("site", "enroll", "site", "--certificate", "utrecht.crt", "--ca", "ca/ca.crt")
    return token


@pytest.mark.parametrize(
    "words",
    [
        *[("ca", word) for word in ("init", "invite", "approve", "renew", "revoke", "list")],
        ("site", "enroll"),
        ("doctor",),
    ],
)
def test_every_command_explains_itself_with_an_example(run: Run, words: tuple[str, ...]) -> None:
    status, out, _ = run(*words, "--help")
    assert status == 0
    explained = " ".join(out.split())
    assert "Try:" in explained
    assert explained.count("wardround " + " ".join(words)) > 1  # the usage line, and an example


def test_each_step_says_the_next_one(ok: Callable[..., str]) -> None:
    made = ok("ca", "init", "ca", "--name", "network")
    assert fingerprint(Path("ca/ca.crt").read_bytes()) in made
    assert "next: wardround ca invite ca" in made
    invited = ok("ca", "invite", "ca", "utrecht")
    assert "wardround site enroll FOLDER --name utrecht --role site" in invited
    token = invited.split()[1]
    asked = ok("site", "enroll", "site", "--name", "utrecht")
    assert "wardround ca approve" in asked
    assert "wardround site enroll site --certificate utrecht.crt --ca ca.crt" in asked
    made = ok("ca", "approve", "ca", "site/own.csr", "--token", token, "--out", "utrecht.crt")
    assert "wardround site enroll FOLDER --certificate utrecht.crt --ca ca.crt" in made
    done = ok("site", "enroll", "site", "--certificate", "utrecht.crt", "--ca", "ca/ca.crt")
    assert "wardround://site/utrecht, valid until 2030-04-01" in done
    assert fingerprint(Path("ca/ca.crt").read_bytes()) in done


@pytest.mark.usefixtures("enrolled")
def test_doctor_finds_sound_credentials_sound(ok: Callable[..., str]) -> None:
    assert ok("doctor", "site").startswith("site: sound. wardround://site/utrecht")
    assert json.loads(ok("doctor", "site", "--format", "json")) == []


@pytest.mark.usefixtures("enrolled")
def test_doctor_looks_what_a_sites_machine_can_reach(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: list[str] = []
    monkeypatch.setattr(network_probe, "reached", lambda _policy: tuple(found))
    (tmp_path / "work").mkdir()
    status, out, _ = run("doctor", "site", "--workspace", "work")
    assert (status, out.count("\n")) == (0, 1)

    found.append("a route leads from 10.0.0.7 to other networks")
    status, out, err = run("doctor", "site", "--workspace", "work")
    assert status == 13
    assert "error: work/site.toml, network: expected nothing within reach but the coo" in out
    assert "got a route leads from 10.0.0.7" in out
    assert "would not start" in " ".join(err.split())
    assert not (tmp_path / "work" / "audit").exists()

    (tmp_path / "work" / "site.toml").write_text('network = "open"\n')
    status, out, _ = run("doctor", "site", "--workspace", "work", "--format", "json")
    (told,) = json.loads(out)
    assert (status, told["field"], told["is_error"]) == (0, "network", False)


@pytest.mark.usefixtures("enrolled")
def test_doctor_warns_before_and_fails_after_a_certificate_expired(run: Run) -> None:
    status, out, _ = run("doctor", "site", days=80)
    assert status == 0
    assert out.startswith("warning: site/own.crt, not after")
    status, out, err = run("doctor", "site", days=91)
    assert status == 10
    assert out.startswith("error: site/own.crt, not after")
    assert "1 fault(s)" in err
    status, out, _ = run("doctor", "site", "--format", "json", days=91)
    assert status == 10
    assert [(one["field"], one["is_error"]) for one in json.loads(out)] == [("not after", True)]


@pytest.mark.usefixtures("enrolled")
def test_renewal_needs_neither_name_nor_token(ok: Callable[..., str]) -> None:
    asked = ok("site", "enroll", "site", days=80)
    assert "wardround ca renew" in asked
    words = ("--certificate", "site/own.crt", "--out", "renewed.crt")
    ok("ca", "renew", "ca", "site/own.csr", *words, days=80)
    ok("site", "enroll", "site", "--certificate", "renewed.crt", days=80)
    assert ok("doctor", "site", days=91).startswith("site: sound.")


@pytest.mark.usefixtures("enrolled")
def test_the_list_says_what_holds_when(ok: Callable[..., str]) -> None:
    ok("ca", "invite", "ca", "leiden")

    def states(days: int) -> dict[str, str]:
        listed = json.loads(ok("ca", "list", "ca", "--format", "json", days=days))
        return {row["name"]: row["state"] for row in listed}

    assert states(0) == {"utrecht": "valid", "leiden": "invited"}
    assert states(80) == {"utrecht": "ending"}
    assert states(91) == {"utrecht": "expired"}
    assert "revoked" in ok("ca", "revoke", "ca", "utrecht")
    assert states(0) == {"utrecht": "revoked", "leiden": "invited"}
    assert ok("ca", "list", "ca").split()[:4] == ["utrecht", "site", "revoked", "2030-04-01"]


@pytest.mark.usefixtures("enrolled")
def test_an_invitation_says_that_an_older_certificate_stays_valid(ok: Callable[..., str]) -> None:
    serial = json.loads(ok("ca", "list", "ca", "--format", "json"))[0]["serial"]
    assert f"certificate {serial}" in ok("ca", "invite", "ca", "utrecht")
    ok("ca", "revoke", "ca", serial)
    assert serial not in ok("ca", "invite", "ca", "utrecht")


def test_a_used_token_ends_with_10(run: Run, ok: Callable[..., str], enrolled: str) -> None:
    ok("site", "enroll", "thief", "--name", "utrecht")
    words = ("ca", "approve", "ca", "thief/own.csr", "--token", enrolled, "--out", "thief.crt")
    status, _, err = run(*words)
    assert status == 10
    assert "was used already" in err
    assert not Path("thief.crt").exists()


def test_a_file_in_the_way_does_not_spend_the_token(run: Run, ok: Callable[..., str]) -> None:
    ok("ca", "init", "ca", "--name", "network")
    token = ok("ca", "invite", "ca", "utrecht").split()[1]
    ok("site", "enroll", "site", "--name", "utrecht")
    Path("utrecht.crt").write_text("mine", encoding="utf-8")
    words = ("ca", "approve", "ca", "site/own.csr", "--token", token, "--out")
    status, _, err = run(*words, "utrecht.crt")
    assert status == 2
    assert "exists already" in err
    assert Path("utrecht.crt").read_text(encoding="utf-8") == "mine"
    status, _, err = run(*words, "no/such/folder.crt")
    assert status == 2
    ok(*words, "other.crt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("site", "enroll", "site"), "--name"),
        (("site", "enroll", "site", "--name", "utrecht", "--ca", "ca.crt"), "--certificate"),
        (("site", "enroll", "site", "--name", "a", "--certificate", "a.crt"), "second"),
        (("site", "enroll", "site", "--certificate", "gone.crt"), "gone.crt"),
        (("ca", "init", "ca", "--name", "No Name"), "No Name"),
        (("ca", "approve", "ca", "gone.csr", "--token", "t", "--out", "o"), "gone.csr"),
    ],
)
def test_wrong_words_end_with_2_and_make_nothing(
    run: Run, words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    status, _, err = run(*words)
    assert status == 2
    assert said in err
    assert list(tmp_path.iterdir()) == []
