"""Watching a study: which visit, which phase, how far, and how much is left.

A `Watcher` is told what the coordinator hears; it never asks. Four of them: bars on a terminal, one
line per phase where the output is no terminal, JSON lines for programs, and silence.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from wardround.shared.messages import Phase, Progress
from wardround.shared.plan import StudyPlan
from wardround.shared.plan_method import DRAWS_PAIRS

Mode = Literal["auto", "plain", "json", "quiet"]
Clock = Callable[[], float]

_SPOKEN = {
    Phase.FETCH: "fetching the checkpoint",
    Phase.EVALUATE_PARENT: "scoring what arrived",
    Phase.REPLAY: "drawing replay",
    Phase.SEGMENTER: "training the segmenter",
    Phase.TRIM: "training narrower decoders",
    Phase.DENOISER: "training the denoiser",
    Phase.AUDIT: "looking for copies of own cases",
    Phase.EVALUATE: "scoring the new checkpoint",
    Phase.RELEASE: "releasing the checkpoint",
}
_JSON_INTERVAL_S = 1.0


class Watcher(Protocol):
    """What a run tells whoever watches it."""

    def progress(self, progress: Progress) -> None:
        """Take note of where a site is."""
        ...

    def visit_done(self, visit: int, site_id: str, dice: float | None) -> None:
        """Take note that a visit's row of the results matrix is full; `dice` on the site itself."""
        ...

    def note(self, text: str) -> None:
        """Take note of a sentence for the reader."""
        ...

    def waiting(self, text: str) -> None:
        """Take note of what is waited for while no site tells how far it is."""
        ...


class Remaining:
    """How long the rest of the study will take, from the pace of what has been seen of it.

    The pace is seconds per step of each phase, as last measured. Before a phase that takes most of
    the time (segmenter, denoiser) has been seen once there is no estimate. The denoiser trains side
    by side with the segmenter, so that its phase begins with many steps done: those count for the
    pace of later visits, where it will be so again, and not for what is left of this one.
    """

    def __init__(self, plan: StudyPlan, clock: Clock = time.monotonic) -> None:
        self._plan = plan
        self._clock = clock
        self._draws = plan.method.name in DRAWS_PAIRS
        self._seconds_per_step: dict[Phase, float] = {}
        self._started: tuple[Progress, float] | None = None
        self._counted: tuple[int, float] | None = None
        self._now: Progress | None = None
        self._first: tuple[int, float] | None = None
        self._visit_seconds: float | None = None

    def update(self, progress: Progress) -> None:
        """Take note of one progress message."""
        time_s = self._clock()
        if progress.visit > 0 and (self._first is None or progress.visit > self._first[0]):
            if self._first is not None:
                self._visit_seconds = time_s - self._first[1]
            self._first = (progress.visit, time_s)
        if self._started is None or not _same_phase(self._started[0], progress):
            self._leave_phase(time_s)
            self._started, self._counted = (progress, time_s), None
        if self._counted is None and progress.total:
            self._counted = (progress.step, time_s)
        first, begun = self._started
        if progress.step > first.step:
            pace = (time_s - begun) / (progress.step - first.step)
            self._seconds_per_step[progress.phase] = pace
        self._now = progress

    def _leave_phase(self, time_s: float) -> None:
        """Take note of a phase that was over before its first step was told."""
        if self._started is None:
            return
        first, begun = self._started
        steps = self._steps(first.phase, first.visit)
        if steps and first.phase not in self._seconds_per_step:
            self._seconds_per_step[first.phase] = (time_s - begun) / steps

    def seconds(self) -> float | None:
        """Return the seconds left, or None while nobody can know."""
        now = self._now
        if now is None or now.visit == 0:
            return None
        # A site announces a phase with total 0, before it knows the steps.
        total = now.total or self._steps(now.phase, now.visit)
        rest = self._rest(now, total - now.step)
        later = list(Phase)[list(Phase).index(now.phase) + 1 :]
        ahead = [self._expected(phase, now.visit) for phase in later]
        visits = [self._visit(n) for n in range(now.visit + 1, len(self._plan.sites) + 1)]
        parts = [rest, *ahead, *visits]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def _rest(self, now: Progress, steps: int) -> float | None:
        """Return the seconds for `steps` more steps at the pace since steps were first counted."""
        if self._counted is None or now.step <= self._counted[0]:
            return self._phase_seconds(now.phase, steps)
        step, time_s = self._counted
        return (self._clock() - time_s) / (now.step - step) * steps

    def fraction(self) -> float:
        """Return the share of the study that is done, in [0, 1], counting training steps alone."""
        if self._now is None or self._now.visit == 0:
            return 0.0
        visits = range(1, len(self._plan.sites) + 1)
        whole = sum(self._steps(phase, n) for n in visits for phase in Phase)
        order = list(Phase)
        before = sum(self._steps(phase, n) for n in range(1, self._now.visit) for phase in order)
        here = order[: order.index(self._now.phase)]
        before += sum(self._steps(phase, self._now.visit) for phase in here)
        within = self._steps(self._now.phase, self._now.visit)
        share = self._now.step / self._now.total if self._now.total else 0.0
        return min((before + within * share) / whole, 1.0)

    def _visit(self, visit: int) -> float | None:
        by_phase = [self._expected(phase, visit) for phase in Phase]
        known = [part for part in by_phase if part is not None]
        if len(known) < len(by_phase):
            return None
        # A whole visit, evaluations at other sites included, was measured: never promise less.
        return max(sum(known), self._visit_seconds or 0.0)

    def _expected(self, phase: Phase, visit: int) -> float | None:
        return self._phase_seconds(phase, self._steps(phase, visit))

    def _phase_seconds(self, phase: Phase, steps: int) -> float | None:
        if steps == 0:
            return 0.0
        pace = self._seconds_per_step.get(phase)
        return None if pace is None else pace * steps

    def _steps(self, phase: Phase, visit: int) -> int:
        if phase is Phase.SEGMENTER:
            return self._plan.segmenter.steps
        if phase is Phase.TRIM:
            return self._plan.trimming_steps
        if phase is Phase.DENOISER and self._draws:
            return self._plan.denoiser.first_steps if visit == 1 else self._plan.denoiser.steps
        return 0


def _same_phase(first: Progress, second: Progress) -> bool:
    def key(progress: Progress) -> tuple[int, str, Phase]:
        return progress.visit, progress.site_id, progress.phase

    return key(first) == key(second) and first.step <= second.step


def span(seconds: float | None) -> str:
    """Return a rough span of time in words; "estimating" for None."""
    if seconds is None:
        return "estimating the time left"
    if seconds < 90:
        return f"about {max(round(seconds / 5) * 5, 5)} s left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


class SilentWatcher:
    """Says nothing."""

    def progress(self, progress: Progress) -> None:
        """Say nothing."""

    def visit_done(self, visit: int, site_id: str, dice: float | None) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def waiting(self, text: str) -> None:
        """Say nothing."""


class PlainWatcher:
    """One line per phase: for logs and pipes."""

    def __init__(self, plan: StudyPlan, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self._num_visits = len(plan.sites)
        self._stream = stream
        self._remaining = Remaining(plan, clock)
        self._last: Progress | None = None

    def progress(self, progress: Progress) -> None:
        """Write a line when a phase begins."""
        self._remaining.update(progress)
        if self._last is None or _heading(self._last) != _heading(progress):
            where = _where(progress, self._num_visits)
            self._write(f"{where}: {_SPOKEN[progress.phase]}; {span(self._remaining.seconds())}")
        self._last = progress

    def visit_done(self, visit: int, site_id: str, dice: float | None) -> None:
        """Write a line with the visit's own score."""
        score = "" if dice is None else f", Dice {dice:.3f} on its own held-out cases"
        self._write(f"visit {visit} of {self._num_visits} at {site_id} done{score}")

    def note(self, text: str) -> None:
        """Write the sentence."""
        self._write(text)

    def waiting(self, text: str) -> None:
        """Write the sentence."""
        self._write(text)

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class JsonWatcher:
    """One JSON object per line: phases as they begin and end, steps at most once a second."""

    def __init__(self, plan: StudyPlan, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._remaining = Remaining(plan, clock)
        self._last: Progress | None = None
        self._last_written = 0.0

    def progress(self, progress: Progress) -> None:
        """Write where the site is."""
        self._remaining.update(progress)
        begins = self._last is None or _heading(self._last) != _heading(progress)
        due = self._clock() - self._last_written >= _JSON_INTERVAL_S
        self._last = progress
        if not (begins or due or progress.step == progress.total > 0):
            return
        self._last_written = self._clock()
        seconds = self._remaining.seconds()
        self._write(
            event="progress",
            visit=progress.visit,
            site=progress.site_id,
            phase=progress.phase.value,
            step=progress.step,
            total=progress.total,
            remaining_s=None if seconds is None else round(seconds, 1),
        )

    def visit_done(self, visit: int, site_id: str, dice: float | None) -> None:
        """Write the visit's own score."""
        self._write(event="visit-done", visit=visit, site=site_id, dice=dice)

    def note(self, text: str) -> None:
        """Write the sentence."""
        self._write(event="note", text=text)

    def waiting(self, text: str) -> None:
        """Write the sentence."""
        self._write(event="waiting", text=text)

    def _write(self, **content: str | float | None) -> None:
        self._stream.write(json.dumps(content) + "\n")
        self._stream.flush()


class BarWatcher:
    """Two bars on a terminal: the study, and the phase of the present visit."""

    def __init__(self, plan: StudyPlan, bars: Bars, clock: Clock = time.monotonic) -> None:
        self._num_visits = len(plan.sites)
        self._bars = bars
        self._remaining = Remaining(plan, clock)
        self._study: TaskID = bars.add_task("preparing", total=1.0, detail="")
        self._phase: TaskID = bars.add_task("", total=1.0, detail="", visible=False)

    def progress(self, progress: Progress) -> None:
        """Move the bars."""
        self._remaining.update(progress)
        self._bars.update(
            self._study,
            completed=self._remaining.fraction(),
            description=_where(progress, self._num_visits),
            detail=span(self._remaining.seconds()),
        )
        self._bars.update(
            self._phase,
            total=progress.total or None,
            completed=progress.step,
            description="  " + _SPOKEN[progress.phase],
            detail=f"step {progress.step} of {progress.total}" if progress.total > 1 else "",
            visible=True,
        )

    def visit_done(self, visit: int, site_id: str, dice: float | None) -> None:
        """Leave a line above the bars."""
        score = "" if dice is None else f"  Dice {dice:.3f}"
        self._bars.console.print(f"[green]done[/] visit {visit} at {site_id}{score}")

    def note(self, text: str) -> None:
        """Leave the sentence above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)

    def waiting(self, text: str) -> None:
        """Show the sentence in the place of a phase."""
        self._bars.update(self._phase, total=None, description="  " + text, detail="", visible=True)


@contextmanager
def watching(mode: Mode, plan: StudyPlan, stream: TextIO | None = None) -> Iterator[Watcher]:
    """Open the watcher for a run.

    Args:
        mode: auto takes bars on a terminal, else plain lines.
        plan: What runs; for the number of visits and the time left.
        stream: Where to write; standard error where left out, so that results stay alone on
            standard output.
    """
    out = stream or sys.stderr
    if mode == "quiet":
        yield SilentWatcher()
    elif mode == "json":
        yield JsonWatcher(plan, out)
    elif mode == "plain" or not out.isatty():
        yield PlainWatcher(plan, out)
    else:
        with Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=34),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[detail]}", markup=False),
            console=Console(file=out),
            transient=True,
        ) as bars:
            yield BarWatcher(plan, bars)


def phase_text(phase: Phase) -> str:
    """Return what a site is doing, in words."""
    return _SPOKEN[phase]


def _heading(progress: Progress) -> tuple[int, str, Phase]:
    return progress.visit, progress.site_id, progress.phase


def _where(progress: Progress, num_visits: int) -> str:
    if progress.visit == 0:
        return f"starting model at {progress.site_id}"
    return f"visit {progress.visit} of {num_visits} at {progress.site_id}"
