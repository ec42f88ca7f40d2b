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

from wardround.deploy.flower import SWITCHES
from wardround.deploy.flower.keys import write_private_key
from wardround.shared.identity import CA_FILE

_GUARDED = """#!{python}
from wardround.deploy.flower.site_program import main
main({allowed})
"""
_REFUSING = """#!{python}
import sys
sys.exit("{name} is not run at this site: only the installed ClientApp is.")
"""


def start(
    settings: Mapping[str, str],
    credentials: Path,
    superlink: str,
    *,
    port: int,
    allowed: Sequence[str],
) -> NoReturn:
    """Become the SuperNode of a site.

    Args:
        settings: What `client_app.own_site` reads; Flower's files come into its workspace.
        credentials: Folder of the site's credentials; its key must be registered at the SuperLink.
        superlink: HOST:PORT of the SuperLink.
        port: Where the SuperNode listens, on this machine alone, for the programs it starts.
        allowed: Digests of the bundles that may run here.

    Raises:
        IdentityError: The key cannot be read.
    """
    home = Path(settings["workspace"]) / "flower"
    programs = write_programs(home / "programs", allowed)
    write_private_key(credentials, home / "key")
    node_config = home / "site.toml"
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
    node_config.write_text("".join(lines), encoding="utf-8")
    words = [
        *("flower-supernode", "--superlink", superlink),
        *("--root-certificates", str(credentials / CA_FILE)),
        *("--auth-supernode-private-key", str(home / "key")),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--node-config", str(node_config)),
    ]
    environment = environment_of(home, programs, os.environ)
    os.execvpe(words[0], words, environment)  # noqa: S606 - no shell, and it is to take our place


def environment_of(home: Path, programs: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a SuperNode: our programs first, and no calls but the SuperLink's.

    Args:
        home: Folder for what Flower writes.
        programs: From `write_programs`.
        given: The environment so far.
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
