"""Words that several commands take: the study, and for whom the output is."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from wardround.shared.credential_check import check_folder, refuse_faulty
from wardround.shared.errors import UsageError
from wardround.shared.identity import Credentials, read_credentials

STUDIES = Path(__file__).parent / "studies"
DEMO = STUDIES / "demo.toml"


class Engine(StrEnum):
    """How messages move between coordinator and sites."""

    IN_PROCESS = "in-process"
    GRPC = "grpc"
    FLOWER = "flower"


class Format(StrEnum):
    """For people or for programs."""

    TEXT = "text"
    JSON = "json"


class Dims(StrEnum):
    """How volumes are looked at."""

    SLICES = "2d"
    NEIGHBOURS = "2.5d"
    VOLUMES = "3d"


def find_study(study: str | None) -> Path:
    """Return the file of a study: a path, the name of a packaged one, or the demo for None.

    Raises:
        UsageError: There is no such file and no packaged study of that name.
    """
    if study is None:
        return DEMO
    path, packaged = Path(study), STUDIES / f"{study}.toml"
    if path.is_file():
        return path
    if packaged.is_file():
        return packaged
    names = ", ".join(sorted(file.stem for file in STUDIES.glob("*.toml")))
    raise UsageError(
        f"there is no study file '{study}' and no packaged study of that name. "
        f"Name a .toml file, or one of: {names}."
    )


def clock() -> datetime:
    """Return the time at which a command acts."""
    return datetime.now(UTC)


def read_given(path: Path, what: str) -> bytes:
    """Return the content of a file that the command names.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the {what} '{path}' cannot be read: {error.strerror}. Name the file that was sent."
        ) from error


def sound_credentials(folder: Path) -> Credentials:
    """Return the credentials in a folder that `wardround doctor` finds no error in.

    Raises:
        IdentityError: It finds one, or more.
    """
    refuse_faulty(check_folder(folder, now=clock()), what=f"credentials '{folder}'")
    return read_credentials(folder)
