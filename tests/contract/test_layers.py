"""The walls: who may import whom, and what is never loaded where the coordinator runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# The [site] group (what can open an image, run a model, draw a report) and other image readers.
HEAVY = (
    "torch",
    "monai",
    "nibabel",
    "PIL",
    "pydicom",
    "scipy",
    "matplotlib",
    "SimpleITK",
    "safetensors",
    "einops",
    "jinja2",
)
FENCED = ("server", "shared", "site_client", "deploy")


def modules_under(folder: Path, package: str) -> list[str]:
    """Return the dotted name of every module under `folder`, which is imported as `package`."""
    names = []
    for path in sorted(folder.rglob("*.py")):
        inner = path.relative_to(folder).with_suffix("").parts
        names.append(".".join([package, *(part for part in inner if part != "__init__")]))
    return names


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter whose working directory is `folder`."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def light_modules(repository: Path) -> list[str]:
    """Return all that a coordinator may load: server, shared and the wire contract."""
    return [
        *modules_under(repository / "server", "wardround.server"),
        *modules_under(repository / "shared", "wardround.shared"),
        *modules_under(repository / "protos/wardround/wire", "wardround.wire"),
    ]


def test_the_coordinator_loads_no_torch_and_no_image_reader(
    light_modules: list[str], tmp_path: Path
) -> None:
    assert len(light_modules) > 5
    done = run_python(
        f"import importlib, json, sys\n"
        f"for name in {light_modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_coordinator_does_not_load_the_site(light_modules: list[str], tmp_path: Path) -> None:
    done = run_python(
        f"import importlib, json, sys\n"
        f"for name in {light_modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in sys.modules if name.startswith("
        f"('wardround.site_client', 'wardround.deploy'))]))",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_command_line_starts_without_torch(tmp_path: Path) -> None:
    done = run_python(
        "import json, sys, wardround.deploy.cli\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("package", FENCED)
def test_importing_a_folder_by_its_own_name_is_refused(package: str, repository: Path) -> None:
    """With the repository root on the path, `import shared` would make a second copy of it."""
    done = run_python(f"import {package}", repository)
    assert done.returncode != 0
    assert f"import wardround.{package}, not {package}" in done.stderr


def test_the_import_walls_hold(repository: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_import_walls_notice_a_breach(repository: Path, tmp_path: Path) -> None:
    """A wall nobody tested may be a painting: forbid an import that exists and see it reported."""
    (tmp_path / "pyproject.toml").write_text(
        "[tool.importlinter]\n"
        'root_packages = ["wardround.shared"]\n'
        "include_external_packages = true\n"
        "[[tool.importlinter.contracts]]\n"
        'id = "breach"\n'
        'name = "breach"\n'
        'type = "forbidden"\n'
        'source_modules = ["wardround.shared"]\n'
        'forbidden_modules = ["pydantic"]\n',
        encoding="utf-8",
    )
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "breach BROKEN" in done.stdout


def test_the_command_line_works_where_the_sites_half_is_not_installed(tmp_path: Path) -> None:
    """As in the coordinator's container image."""
    code = "import sys; sys.modules['wardround.site_client'] = None; import wardround.deploy.cli"
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
