"""Every threat that is said to be covered names a test, and every test it names exists."""

import re
from pathlib import Path

import pytest


@pytest.fixture
def rows(repository: Path) -> dict[str, list[str]]:
    """Return threat -> the tests of its row."""
    text = (repository / "docs" / "threats.md").read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"T\d+", cells[0]):
            found[cells[0]] = re.findall(r"`([^`]+)`", cells[-1])
    return found


def test_every_covered_threat_names_a_test_that_exists(rows, repository: Path) -> None:
    assert len(rows) == 14
    sources = [p.read_text(encoding="utf-8") for p in (repository / "tests").rglob("test_*.py")]
    for threat, names in rows.items():
        assert names, f"{threat} names no test"
        for name in names:
            exists = (
                (repository / name).is_file()
                if name.endswith(".py")
                else any(re.search(rf"def {name}\(", source) for source in sources)
            )
            assert exists, f"{threat} names '{name}', which is no test"


def test_the_threats_are_numbered_without_a_gap(repository: Path) -> None:
    text = (repository / "docs" / "threats.md").read_text(encoding="utf-8")
    numbers = [int(n) for n in re.findall(r"^(?:\| |\* \*\*)T(\d+)", text, flags=re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
