"""Start a site of a Flower federation: Flower's SuperNode, with programs of our own under it.

A SuperNode starts, by name, whatever program a run asks for: `flwr-clientapp` for a ClientApp, and
others (`flwr-agentapp`) for runs of other kinds. The first folder on its path has one of ours for
every such name: the guarded one, and refusals.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from flwr.supercore.constant import TASK_TYPE_TO_COMMAND, TaskType

SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
_GUARDED = """#!{python}
from wardround.deploy.flower.site_program import main
main({allowed})
"""
_REFUSING = """#!{python}
import sys
sys.exit("{name} is not run at this site: only the installed ClientApp is.")
"""


def start(
    arguments: Sequence[str],
    settings: Mapping[str, str],
    *,
    workspace: Path,
    allowed: Sequence[str],
) -> NoReturn:
    """Become the SuperNode of a site.

    Args:
        arguments: Of `flower-supernode`, without `--node-config`.
        settings: What `client_app.own_site` reads: `site`, `plan`, `data`, `workspace`.
        workspace: Folder that gets `flower/`, with all that Flower writes and the programs.
        allowed: Digests of the bundles that may run here.
    """
    home = workspace / "flower"
    programs = write_programs(home / "programs", allowed)
    node_config = home / "site.toml"
    node_config.write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()),
        encoding="utf-8",
    )
    environment = environment_of(home, programs, os.environ)
    words = ["flower-supernode", *arguments, "--node-config", str(node_config)]
    os.execvpe(words[0], words, environment)  # noqa: S606 - no shell, and it is to take our place


def environment_of(home: Path, programs: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a SuperNode: our programs first, nothing told to or fetched from
    anybody but the SuperLink.
    """
    path = [str(programs), str(Path(sys.executable).parent), given.get("PATH", os.defpath)]
    return {**given, **SWITCHES, "PATH": os.pathsep.join(path), "FLWR_HOME": str(home)}


def write_programs(folder: Path, allowed: Sequence[str]) -> Path:
    """Write the programs that a SuperNode may start into `folder`, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for task_type, name in TASK_TYPE_TO_COMMAND.items():
        text = _GUARDED if task_type == TaskType.CLIENT_APP else _REFUSING
        words = ", ".join(json.dumps(digest) for digest in allowed)
        program = folder / name
        program.write_text(
            text.format(python=sys.executable, allowed=words, name=name), encoding="utf-8"
        )
        program.chmod(0o755)
    return folder
