"""What the README promises exists: commands, options, targets, links, plan keys, exit statuses."""

import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from wardround.shared import errors, plan
from wardround.site_client.privacy import policy

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda page: page.as_posix()
)
WARDROUND = Path(sys.executable).with_name("wardround")


def fenced(text: str, language: str) -> list[str]:
    """Return the code blocks of a page that are marked with `language` ("" for none)."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [body for marked, body in blocks if marked == language]


def commands(text: str, program: str) -> list[str]:
    """Return every line or inline code that starts with `program`, without its comment."""
    lines = [line for block in fenced(text, "") for line in block.splitlines()]
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`]+)`", outside)
    found = [line.split("#")[0].strip() for line in (*lines, *inline)]
    return sorted({line for line in found if re.match(rf"{program} [a-z]", line)})


def table(mark: str) -> list[list[str]]:
    """Return the rows of the README's table between the comments `mark` and `/mark`."""
    body = README.split(f"<!-- {mark} -->")[1].split(f"<!-- /{mark} -->")[0]
    rows = [
        line.strip().removeprefix("|").removesuffix("|").split("|")
        for line in body.strip().splitlines()[2:]
    ]
    return [[cell.strip() for cell in row] for row in rows]


def keys_of(section: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Return every dotted key of a plan section with its default."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= keys_of(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = field.get_default(call_default_factory=True)
    return found


@cache
def help_of(words: tuple[str, ...]) -> str:
    """Return what `wardround WORDS --help` prints."""
    done = subprocess.run(
        [str(WARDROUND), *words, "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert done.returncode == 0, f"wardround {' '.join(words)} --help: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize("command", commands(README, "make"))
def test_every_make_target_exists(command: str) -> None:
    target = command.split()[1]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(target)}:.*## ", makefile, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "command"),
    [
        pytest.param(page, command, id=f"{page.name}: {command}")
        for page in PAGES
        if page.name not in {"CHANGELOG.md", "LOG.md"}
        for command in commands(page.read_text(encoding="utf-8"), "wardround")
    ],
)
def test_every_command_and_option_exists(page: Path, command: str) -> None:
    words = command.split()[1:]
    group = (words[0],)
    if "COMMAND" in help_of(group) and len(words) > 1 and words[1].isalpha():
        group = (words[0], words[1])
    printed = help_of(group)
    for option in re.findall(r"(?<= )--[a-z][a-z-]*", command):
        assert option in printed, f"'wardround {' '.join(group)}' has no option {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings get."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize(
    ("mark", "section"), [("plan-keys", plan.StudyPlan), ("policy-keys", policy.SitePolicy)]
)
def test_the_table_of_keys_is_that_of_the_code(mark: str, section: type[BaseModel]) -> None:
    rows = {row[0].strip("`"): row[1] for row in table(mark)}
    expected = keys_of(section)
    assert sorted(rows) == sorted(expected)
    for key, default in expected.items():
        if default is PydanticUndefined:
            assert rows[key] == "required", key
        elif default is None:
            assert rows[key] == "left out", key
        else:
            written = tomllib.loads(f"value = {rows[key].strip('`')}")["value"]
            assert written == (list(default) if isinstance(default, tuple) else default), key


def test_the_table_of_exit_statuses_is_that_of_the_errors() -> None:
    rows = {row[1].strip("`"): int(row[0]) for row in table("exit-statuses") if row[1]}
    kinds = [errors.WardroundError, *errors.WardroundError.__subclasses__()]
    expected = {
        kind.__name__: kind.exit_status for kind in kinds if kind.__module__ == errors.__name__
    }
    assert rows == expected


@pytest.mark.parametrize("text", fenced(README, "toml"), ids=lambda text: text.splitlines()[0])
def test_the_plans_in_the_readme_are_valid(text: str) -> None:
    study = plan.parse(tomllib.loads(text), origin="README.md")
    assert len(study.sites) > 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "server|shared|site_client|deploy|protos|docs|tests"
    named = re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)`", text)
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []
