"""The coordinator as a Flower ServerApp: the study's loop over the sites that are registered.

The study lies in a folder that `wardround study create` made. A run that was stopped or killed is
gone on with by the next run on the same folder; two runs at a time are refused by the journal.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from wardround.deploy.flower.engine import FlowerEngine, registered_nodes
from wardround.server import study_folder
from wardround.server.loop import Engine, run
from wardround.server.relay import Relay
from wardround.shared.errors import UsageError
from wardround.shared.messages import Progress
from wardround.shared.study_api import Standing

log = logging.getLogger(__name__)
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry the study in the folder that the run's `study` names through to its end."""
    carry_through(context, lambda relay: FlowerEngine(grid, relay, registered_nodes(grid)))


def carry_through(context: Context, engine_of: Callable[[Relay], Engine]) -> None:
    """Carry the study in the folder that the run's `study` names through to its end.

    Args:
        context: Of the run.
        engine_of: Gives the engine for the study.

    Raises:
        JournalError: The folder holds no study, its journal is faulty or in use.
        UsageError: The study is on hold or paused.
        WardroundError: Whatever stopped the study; the next run goes on with it.
    """
    _log_to_standard_output()
    folder = Path(str(context.run_config["study"]))
    study_folder.expect_study(folder)
    with study_folder.hold(folder, on_progress=_tell) as (relay, store):
        study_folder.verify_last_checkpoint(relay, store)
        state = run(relay, engine_of(relay))
    if not state.has_ended:
        word = "start" if state.standing is Standing.ON_HOLD else "resume"
        raise UsageError(
            f"study '{state.study_id}' is {state.standing.value}, so nothing may begin. Let it go "
            f"on (wardround study {word} {state.study_id} --folder {folder} --credentials DIR), "
            f"then start the run again."
        )
    log.info("study %s is %s: %s", state.study_id, state.standing.value, state.checkpoint.digest)


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
