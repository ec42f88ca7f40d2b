"""What a watcher says of a run, with a clock that the test moves."""

import io
import json

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from wardround.deploy import progress as watch
from wardround.shared import plan
from wardround.shared.messages import Phase, Progress


def study(method: str = "smd", sites: int = 2) -> plan.StudyPlan:
    content = {
        "study_id": "tiny",
        "sites": [f"site-{n}" for n in range(sites)],
        "task": {"classes": ["gland"]},
        "segmenter": {"steps": 10},
        "denoiser": {"first_steps": 20, "steps": 10},
        "method": {"name": method},
    }
    return plan.parse(content, origin="test")


def at(visit: int, phase: Phase, step: int, total: int) -> Progress:
    return Progress(visit=visit, site_id="site-0", phase=phase, step=step, total=total)


class Clock:
    def __init__(self) -> None:
        self.time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


def test_the_time_left_is_the_pace_times_the_steps_still_to_go() -> None:
    clock = Clock()
    remaining = watch.Remaining(study(), clock)
    remaining.update(at(1, Phase.SEGMENTER, 0, 10))
    clock.time_s = 10.0
    remaining.update(at(1, Phase.SEGMENTER, 10, 10))
    assert remaining.seconds() is None  # the denoiser's pace is not known yet
    remaining.update(at(1, Phase.DENOISER, 0, 20))
    clock.time_s = 30.0
    remaining.update(at(1, Phase.DENOISER, 10, 20))
    # here 10 steps at 2 s; visit 2: segmenter 10 at 1 s, denoiser 10 at 2 s
    assert remaining.seconds() == pytest.approx(20 + 10 + 20)


def test_steps_done_side_by_side_do_not_count_for_what_is_left() -> None:
    clock = Clock()
    remaining = watch.Remaining(study(), clock)
    remaining.update(at(1, Phase.SEGMENTER, 0, 10))
    clock.time_s = 10.0
    remaining.update(at(1, Phase.SEGMENTER, 10, 10))
    remaining.update(at(1, Phase.DENOISER, 0, 0))
    remaining.update(at(1, Phase.DENOISER, 10, 20))
    clock.time_s = 14.0
    remaining.update(at(1, Phase.DENOISER, 12, 20))
    # here 8 steps at 2 s; visit 2: segmenter 10 at 1 s, denoiser 10 at 4 s for 12 steps
    assert remaining.seconds() == pytest.approx(16 + 10 + 10 * 4 / 12)


def test_a_denoiser_that_is_done_with_the_segmenter_takes_no_time_later_either() -> None:
    clock = Clock()
    remaining = watch.Remaining(study(), clock)
    remaining.update(at(1, Phase.SEGMENTER, 0, 10))
    clock.time_s = 10.0
    remaining.update(at(1, Phase.SEGMENTER, 10, 10))
    remaining.update(at(1, Phase.DENOISER, 0, 0))
    remaining.update(at(1, Phase.EVALUATE, 0, 0))
    assert remaining.seconds() == pytest.approx(10)


def test_a_method_without_a_denoiser_waits_for_none() -> None:
    clock = Clock()
    remaining = watch.Remaining(study("finetune"), clock)
    remaining.update(at(1, Phase.SEGMENTER, 0, 10))
    clock.time_s = 5.0
    remaining.update(at(1, Phase.SEGMENTER, 5, 10))
    assert remaining.seconds() == pytest.approx(5 + 10)
    assert remaining.fraction() == pytest.approx(0.25)


def test_a_phase_announced_before_its_steps_are_known_counts_as_none_done() -> None:
    clock = Clock()
    remaining = watch.Remaining(study("finetune"), clock)
    remaining.update(at(1, Phase.SEGMENTER, 0, 0))
    assert remaining.fraction() == 0.0
    assert remaining.seconds() is None
    clock.time_s = 4.0
    remaining.update(at(1, Phase.SEGMENTER, 2, 10))
    assert remaining.seconds() == pytest.approx(2.0 * (8 + 10))


def test_the_share_done_counts_training_steps_of_all_visits() -> None:
    remaining = watch.Remaining(study(), Clock())
    assert remaining.fraction() == 0.0
    remaining.update(at(2, Phase.DENOISER, 5, 10))
    assert remaining.fraction() == pytest.approx((30 + 10 + 5) / 50)
    remaining.update(at(2, Phase.RELEASE, 1, 1))
    assert remaining.fraction() == 1.0


def test_plain_output_has_one_line_per_phase() -> None:
    stream = io.StringIO()
    watcher = watch.PlainWatcher(study(), stream, Clock())
    for step in range(11):
        watcher.progress(at(1, Phase.SEGMENTER, step, 10))
    watcher.progress(at(1, Phase.DENOISER, 0, 20))
    watcher.visit_done(1, "site-0", 0.876)
    watcher.note("written")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("visit 1 of 2 at site-0: training the segmenter; estimating")
    assert "0.876" in lines[2]


def test_json_lines_are_throttled_but_keep_each_phase_s_end() -> None:
    stream = io.StringIO()
    watcher = watch.JsonWatcher(study(), stream, Clock())
    for step in range(11):
        watcher.progress(at(1, Phase.SEGMENTER, step, 10))
    watcher.visit_done(1, "site-0", None)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("step") for line in lines] == [0, 10, None]
    assert lines[0]["phase"] == "segmenter"
    assert lines[2] == {"event": "visit-done", "visit": 1, "site": "site-0", "dice": None}


def test_bars_name_the_visit_the_phase_and_the_step() -> None:
    out = io.StringIO()
    bars = Bars(console=Console(file=out, width=100))
    watcher = watch.BarWatcher(study(), bars, Clock())
    watcher.progress(at(0, Phase.EVALUATE, 1, 3))
    watcher.progress(at(2, Phase.DENOISER, 5, 10))
    assert bars.tasks[0].description == "visit 2 of 2 at site-0"
    assert bars.tasks[0].completed == pytest.approx(0.9)
    assert bars.tasks[1].description.strip() == "training the denoiser"
    assert bars.tasks[1].fields["detail"] == "step 5 of 10"
    watcher.visit_done(2, "site-0", 0.5)
    assert "Dice 0.500" in out.getvalue()


def test_an_output_that_is_no_terminal_gets_plain_lines_and_quiet_gets_none() -> None:
    stream = io.StringIO()
    with watch.watching("auto", study(), stream) as watcher:
        watcher.note("hello")
    with watch.watching("quiet", study(), stream) as watcher:
        watcher.note("nobody")
        watcher.progress(at(1, Phase.SEGMENTER, 1, 10))
        watcher.visit_done(1, "site-0", 0.5)
    assert stream.getvalue() == "hello\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "estimating"), (2.0, "5 s"), (62.0, "60 s"), (300.0, "5 min"), (7200.0, "2.0 h")],
)
def test_spans_of_time_are_rough_words(seconds: float | None, words: str) -> None:
    assert words in watch.span(seconds)
