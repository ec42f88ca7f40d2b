"""The coordinator as a Flower ServerApp: the study's loop over the sites that are registered.

The study lies in a folder that `wardround study create` made. A run that was stopped or killed is
gone on with by the next run on the same folder; two runs at a time are refused by the journal.
"""

import logging
import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from wardround.deploy.flower.engine import FlowerEngine, registered_nodes
from wardround.server import study_folder
from wardround.server.loop import run
from wardround.shared.errors import JournalError
from wardround.shared.messages import Progress

log = logging.getLogger(__name__)
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry the study in the folder that the run's `study` names through to its end.

    Raises:
        JournalError: The folder holds no study, its journal is faulty or in use.
        WardroundError: Whatever stopped the study; the next run goes on with it.
    """
    _log_to_standard_output()
    folder = Path(str(context.run_config["study"]))
    if not (folder / study_folder.JOURNAL).is_file():
        raise JournalError(
            f"'{folder}' holds no study. Create one (wardround study create STUDY.toml --out "
            f"{folder}), or name another folder: flwr run ... --run-config 'study=\"DIR\"'."
        )
    with study_folder.hold(folder, on_progress=_tell) as (relay, store):
        study_folder.verify_last_checkpoint(relay, store)
        state = run(relay, FlowerEngine(grid, relay, registered_nodes(grid)))
        log.info(
            "study %s is %s: %s", state.study_id, state.standing.value, state.checkpoint.digest
        )


def _log_to_standard_output() -> None:
    """Have our own lines in the run's log, and not one of each call to the SuperLink."""
    ours = logging.getLogger("wardround")
    ours.addHandler(logging.StreamHandler(sys.stdout))
    ours.setLevel(logging.INFO)


def _tell(progress: Progress) -> None:
    log.info(
        "visit %d at %s: %s %d/%d",
        progress.visit,
        progress.site_id,
        progress.phase.value,
        progress.step,
        progress.total,
    )
