"""The in-process engine: every site is an object in this process, and still only bytes cross.

Codec, egress guard, relay, journal and store are the ones that run between machines, so a
simulation cannot do what a deployment may not.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wardround.server import study_folder
from wardround.server.events import IN_PROCESS
from wardround.server.order import Order
from wardround.server.relay import Relay
from wardround.shared.checkpoint import Manifest, chunks_of
from wardround.shared.errors import JournalError, UsageError
from wardround.shared.link import SiteGateway
from wardround.shared.messages import PartRef, Progress
from wardround.shared.plan import StudyPlan

_SHOWN_DIFFERENCES = 6


class InProcessEngine:
    """Carries orders out by calling the site's gateway.

    Args:
        gateways: site_id -> the site; every site of the plan must be there.
        relay: Where what the sites send goes.
    """

    def __init__(self, gateways: Mapping[str, SiteGateway], relay: Relay) -> None:
        self._gateways = gateways
        self._relay = relay

    def carry_out(self, order: Order) -> None:
        """Have the order's site carry it out.

        Raises:
            UsageError: There is no such site in this process.
            WardroundError: Whatever stopped the site, or the relay from accepting its result.
        """
        if order.site_id not in self._gateways:
            raise UsageError(
                f"site '{order.site_id}' is not in this process; here are "
                f"{', '.join(sorted(self._gateways))}. Give every site of the plan its data."
            )
        gateway = self._gateways[order.site_id]
        link = _RelayLink(self._relay, order.site_id)
        if order.kind == "visit":
            gateway.visit(order.data, link)
        else:
            gateway.evaluate(order.data, link)


class _RelayLink:
    """The `CoordinatorLink` of one site: tells the relay who is speaking."""

    def __init__(self, relay: Relay, site_id: str) -> None:
        self._relay = relay
        self._site_id = site_id

    def trail_head(self) -> bytes:
        return self._relay.trail_head()

    def fetch(self, part: PartRef) -> Iterator[bytes]:
        return self._relay.fetch(self._site_id, part)

    def progress(self, message: bytes) -> None:
        self._relay.progress(self._site_id, message)

    def deliver(self, announcement: bytes, part_name: str, data: bytes) -> None:
        self._relay.deliver(self._site_id, announcement, part_name, chunks_of(data))

    def commit(self, report: bytes, upload: bytes) -> None:
        self._relay.commit(self._site_id, report, upload)

    def evaluated(self, report: bytes) -> None:
        self._relay.evaluated(self._site_id, report)


@contextmanager
def open_study(
    directory: Path,
    plan: StudyPlan,
    manifest: Manifest,
    genesis: Mapping[str, bytes],
    *,
    resume: bool = False,
    engine: str = IN_PROCESS,
    is_on_hold: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[Relay]:
    """Create the study in `directory`, or go on with the one there, holding its lock meanwhile.

    Args:
        directory: Holds `journal` and `checkpoints/`; made when it does not exist.
        plan: The study plan.
        manifest: The tensors of every checkpoint.
        genesis: Part name -> safetensors file of the starting checkpoint; used for a new study.
        resume: Go on with a study that is there; without it, a study that is there is an error.
        engine: How its messages move.
        is_on_hold: A new study does nothing before an operator starts it.
        on_progress: Is told what sites report while they work.

    Yields:
        The relay, ready for `wardround.server.loop.run`.

    Raises:
        CheckpointError: The starting checkpoint is not what the manifest says.
        JournalError: There is a study and `resume` is False, it has another plan, manifest or
            engine, its journal is faulty, or another process works on it.
        UsageError: The directory cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"folder '{directory}' cannot be made: {error.strerror}. Name another folder."
        ) from error
    with study_folder.hold(directory, on_progress=on_progress) as (relay, store):
        if relay.has_study and not resume:
            raise JournalError(
                f"'{directory}' holds a study already. Add --resume to go on with it, or name "
                f"another folder with --out."
            )
        if relay.has_study:
            _verify_same_study(relay, plan, manifest, engine)
            study_folder.verify_last_checkpoint(relay, store)
        else:
            relay.create_study(plan, manifest, genesis, engine=engine, is_on_hold=is_on_hold)
        yield relay


def _verify_same_study(relay: Relay, plan: StudyPlan, manifest: Manifest, engine: str) -> None:
    state = relay.state
    if state.engine != engine:
        raise JournalError(
            f"the study in this folder has the engine '{state.engine}', here it is '{engine}'. "
            f"Resume with --engine {state.engine}, or name another folder with --out."
        )
    if state.plan_digest != plan.digest():
        there, here = json.loads(state.plan), json.loads(plan.canonical())
        raise JournalError(
            f"the study in this folder has another plan: {_differences(there, here)}. "
            f"Resume with the plan it was started with, or name another folder with --out."
        )
    if state.manifest != manifest:
        raise JournalError(
            f"the study in this folder passes other tensors around (manifest "
            f"{state.manifest.digest()}, here {manifest.digest()}). "
            f"Resume with the release of wardround that it was started with."
        )


def _differences(there: Any, here: Any) -> str:
    """Say which keys of two plans differ: the journal's value first, then the given one."""
    first, second = dict(_leaves(there)), dict(_leaves(here))
    keys = [
        key
        for key in sorted(first.keys() | second.keys())
        if first.get(key, "absent") != second.get(key, "absent")
    ]
    shown = [
        f"{key} was {first.get(key, 'absent')}, is {second.get(key, 'absent')}"
        for key in keys[:_SHOWN_DIFFERENCES]
    ]
    more = f"; and {len(keys) - len(shown)} more" if len(keys) > len(shown) else ""
    return "; ".join(shown) + more


def _leaves(content: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, f"{where}.{key}" if where else key)
    else:
        yield where, json.dumps(content)
