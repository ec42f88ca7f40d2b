"""What is in the wheel, what is in the tree, and that both stay small and clean."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDERS = {
    "server": "wardround/server",
    "site_client": "wardround/site_client",
    "shared": "wardround/shared",
    "deploy": "wardround/deploy",
    "protos/wardround/wire": "wardround/wire",
}
PACKAGED = {".py", ".pyi", ".typed", ".proto", ".toml", ".html", ".css", ".js", ".json"}
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
MAX_LINES = 400
MAX_BYTES = 2**20
BANNED_NAMES = {"utils", "util", "helpers", "common", "misc", "manager", "base", "tmp"}
# An absolute path below somebody's home or a build machine's folder; not part of a URL or of a
# relative path.
MACHINE_PATH = re.compile(r"(?<![\w.:/~-])/(?:home|root|Users|work\w*|mnt|media|builds?)/\w")


@pytest.fixture(scope="module")
def root() -> Path:
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tracked(root: Path) -> list[Path]:
    """Return every file of the project: tracked, or new and not ignored."""
    if not (root / ".git").exists():
        pytest.skip("not a git checkout, so the list of the project's files is not known")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [root / name for name in listing.split("\0") if name and (root / name).is_file()]


@pytest.fixture(scope="module")
def wheel_names(
    root: Path, tracked: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> set[str]:
    """Build the wheel from a copy of the project's files; return the names inside."""
    # A copy: a build inside the tree would sweep in whatever lies in build/lib from the last one.
    source = tmp_path_factory.mktemp("source")
    for path in tracked:
        target = source / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--wheel-dir", str(out), str(source)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_the_wheel_puts_only_wardround_at_the_top(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"wardround"}


@pytest.mark.slow
def test_the_wheel_holds_what_the_tree_holds(
    wheel_names: set[str], root: Path, tracked: list[Path]
) -> None:
    expected = set()
    for path in tracked:
        name = path.relative_to(root).as_posix()
        for folder, package in FOLDERS.items():
            if name.startswith(folder + "/") and path.suffix in PACKAGED:
                expected.add(package + name.removeprefix(folder))
    inside = {name for name in wheel_names if name.startswith("wardround/")}
    assert sorted(expected - inside) == [], "in the tree, not in the wheel"
    assert sorted(inside - expected) == [], "in the wheel, not in the tree"


def test_every_package_says_that_it_is_typed(root: Path) -> None:
    missing = [folder for folder in FOLDERS if not (root / folder / "py.typed").is_file()]
    assert missing == []


def test_the_version_is_that_of_pyproject_and_of_the_changelog(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert importlib.metadata.version("wardround") == project["version"]
    assert f"## [{project['version']}]" in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_no_folder_is_imported_under_its_bare_name() -> None:
    assert {"server", "shared", "site_client", "protos", "deploy"} & set(sys.modules) == set()


def test_every_dependency_says_why_and_is_pinned(root: Path) -> None:
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    reasons = {
        line.strip().split('"')[1]: line.partition("#")[2].strip()
        for line in text.splitlines()
        if line.strip().startswith('"') and '",' in line
    }
    pins = {
        canonicalize_name(line.split("==")[0]): line.split("==")[1].split("#")[0].strip()
        for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    }
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [requirement for group in groups for requirement in group]
    assert len(wanted) > 10
    for text_of in wanted:
        requirement = Requirement(text_of)
        assert reasons.get(text_of), f"pyproject.toml: '{text_of}' has no reason beside it"
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"constraints.txt does not pin '{requirement.name}'"
        assert requirement.specifier.contains(pin), f"{requirement} does not admit its pin {pin}"


def test_every_pin_is_exact(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    loose = [
        line
        for line in lines
        if line.strip() and not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.!]+", line)
    ]
    assert loose == []


def test_what_is_installed_here_is_what_is_pinned(root: Path) -> None:
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, _, pin = line.partition("==")
        if not pin or line.startswith("#"):
            continue
        installed = importlib.metadata.version(name).partition("+")[0]
        assert installed == pin, f"{name} {installed} is installed, constraints.txt says {pin}"


def test_no_source_file_is_longer_than_one_idea(root: Path, tracked: list[Path]) -> None:
    long = {
        path.relative_to(root).as_posix(): lines
        for path in tracked
        if path.suffix == ".py" and not path.name.endswith(GENERATED)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert long == {}


def test_no_file_or_folder_has_a_name_that_says_nothing(root: Path, tracked: list[Path]) -> None:
    parts = {
        part
        for path in tracked
        for part in (*path.relative_to(root).parent.parts, path.stem)
        if path.suffix == ".py"
    }
    assert sorted(parts & BANNED_NAMES) == []


def test_code_is_ascii(root: Path, tracked: list[Path]) -> None:
    odd = [
        path.relative_to(root).as_posix()
        for path in tracked
        if path.suffix in {".py", ".toml", ".proto"} and not path.read_bytes().isascii()
    ]
    assert odd == []


def test_no_file_names_a_path_of_somebodys_machine(root: Path, tracked: list[Path]) -> None:
    found = []
    for path in tracked:
        if path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(root)}:{number}: {line.strip()[:100]}")
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_machine_path"),
    [
        ("root = '/home/ada/data'", True),
        ("see /workspace/results", True),
        ("https://example.org/home/page", False),
        ("data/home/site", False),
        ("--data-root ~/data", False),
    ],
)
def test_the_search_for_machine_paths_finds_them(line: str, is_machine_path: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) is is_machine_path


def test_no_large_file_is_tracked(root: Path, tracked: list[Path]) -> None:
    large = [
        path.relative_to(root).as_posix() for path in tracked if path.stat().st_size > MAX_BYTES
    ]
    assert large == []
