"""When the coordinator last answered this site: the time stamp of a file in its workspace."""

import contextlib
import time
from pathlib import Path

from wardround.shared.errors import ConnectionLost

CONTACT_FILE = "contact"


def note(workspace: Path) -> None:
    """Note that the coordinator answered just now."""
    # A disk that is full stops the work itself, with a message that says so.
    with contextlib.suppress(OSError):
        (workspace / CONTACT_FILE).touch()


def check(workspace: Path, *, within_s: float) -> float:
    """Return how many seconds ago the coordinator answered.

    Raises:
        ConnectionLost: It never did, or longer ago than `within_s`.
    """
    try:
        noted = (workspace / CONTACT_FILE).stat().st_mtime
    except FileNotFoundError:
        raise ConnectionLost(
            f"the site of workspace '{workspace}' has had no answer of a coordinator yet. Start "
            f"it (wardround site start), or name the workspace it was started with."
        ) from None
    age_s = time.time() - noted
    if age_s > within_s:
        raise ConnectionLost(
            f"the coordinator last answered {age_s:.0f} s ago, expected at most {within_s:.0f} s. "
            f"Look at the site's log; it goes on by itself once the coordinator can be reached."
        )
    return age_s
