"""How a site is started: programs, environment, key, bundle."""

import os
import stat
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="the Flower engine needs flwr: pip install 'wardround[flower]'")

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from flwr.app import Context, RecordDict
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND

from wardround.deploy.flower import bundle
from wardround.deploy.flower.client_app import own_site
from wardround.deploy.flower.keys import public_key, write_private_key
from wardround.deploy.flower.supernode import environment_of, write_programs
from wardround.server.authority import init
from wardround.shared.enrolment import install, make_request
from wardround.shared.errors import IdentityError, UsageError
from wardround.shared.identity import CERTIFICATE_FILE, Role


def enrol(folder: Path, role: Role, name: str) -> Path:
    now = datetime.now(UTC)
    authority = init(folder / "ca", "study", now=now)
    hosts = ("localhost",) if role is Role.COORDINATOR else ()
    token = authority.invite(name, role, now=now, hosts=hosts)
    request = make_request(folder / name, role, name).read_bytes()
    certificate = authority.approve(request, token, now=now)
    install(folder / name, certificate, now=now, authority=(folder / "ca/ca.crt").read_bytes())
    return folder / name


def test_the_bundle_holds_names_and_no_code() -> None:
    names = zipfile.ZipFile(BytesIO(bundle.build())).namelist()
    assert names == ["pyproject.toml", ".info/CONTENT"]


def test_the_digest_of_the_bundle_follows_from_its_files(tmp_path: Path) -> None:
    assert bundle.digest() == bundle.digest_of(bundle.build())
    assert bundle.digest_of(b"") != bundle.digest()


def test_every_program_that_flower_may_start_is_ours(tmp_path: Path) -> None:
    folder = write_programs(tmp_path / "programs", ["ab"])
    assert {path.name for path in folder.iterdir()} == set(TASK_TYPE_TO_COMMAND.values())
    for path in folder.iterdir():
        assert os.access(path, os.X_OK)
        if path.name != "flwr-clientapp":
            done = subprocess.run([path], capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert f"{path.name} is not run at this site" in done.stderr
    assert 'main("ab")' in (folder / "flwr-clientapp").read_text()


def test_our_programs_are_found_first_and_nobody_is_called(tmp_path: Path) -> None:
    given = {"PATH": "/usr/bin", "FLWR_TELEMETRY_ENABLED": "1", "LANG": "C"}
    environment = environment_of(tmp_path, tmp_path / "programs", given)
    assert environment["PATH"].split(os.pathsep) == [
        str(tmp_path / "programs"),
        str(Path(sys.executable).parent),
        "/usr/bin",
    ]
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["FLWR_HOME"] == str(tmp_path)
    assert environment["LANG"] == "C"


def test_a_site_signs_with_the_key_of_its_certificate(tmp_path: Path) -> None:
    credentials = enrol(tmp_path, Role.SITE, "utrecht")
    certificate = (credentials / CERTIFICATE_FILE).read_bytes()
    own = x509.load_pem_x509_certificate(certificate).public_key()
    name, text = public_key(certificate)
    assert name == "utrecht"
    assert load_ssh_public_key(text.encode()) == own
    for _ in range(2):  # a second start replaces it
        write_private_key(credentials, tmp_path / "key")
    key = load_ssh_private_key((tmp_path / "key").read_bytes(), None)
    assert key.public_key() == own
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_coordinator_is_not_registered_as_a_site(tmp_path: Path) -> None:
    credentials = enrol(tmp_path, Role.COORDINATOR, "hub")
    with pytest.raises(IdentityError, match="expected one of a site"):
        public_key((credentials / CERTIFICATE_FILE).read_bytes())


def test_a_supernode_that_was_started_by_hand_says_what_it_lacks() -> None:
    context = Context(1, 1, {"site": "ada", "plan": "plan.toml"}, RecordDict(), {})
    with pytest.raises(UsageError, match="lacks data, workspace"):
        own_site(context, None, lambda refusal: None).__enter__()


def test_one_process_at_a_time_works_in_a_workspace(tmp_path: Path) -> None:
    """Each adds its two lines, and nobody's comes between them."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from wardround.deploy.flower.client_app import alone_in\n"
        "with alone_in(Path(sys.argv[1])):\n"
        "    for _ in range(2):\n"
        "        with open(sys.argv[1] + '/lines', 'a') as lines: lines.write(sys.argv[2])\n"
        "        time.sleep(0.2)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "work")]
    both = [subprocess.Popen([*words, name]) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "work" / "lines").read_text() in ("aabb", "bbaa")
