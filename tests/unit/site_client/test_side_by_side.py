import threading

import pytest

from wardround.site_client.side_by_side import Stopped, Watch, alongside

LONG_S = 20


def test_the_result_and_the_steps_reach_the_thread_that_began_it():
    seen, may_end = [], threading.Event()

    def work(watch: Watch) -> str:
        watch(3, 7)
        assert may_end.wait(LONG_S)
        return threading.current_thread().name

    def watch(step: int, steps: int) -> None:
        seen.append((step, steps, threading.current_thread()))
        may_end.set()

    with alongside(work) as beside:
        name = beside.wait(watch)
    assert name.startswith("alongside")
    assert seen[0] == (3, 7, threading.current_thread())


def test_both_run_at_the_same_time():
    met = threading.Barrier(2, timeout=LONG_S)
    with alongside(lambda _watch: met.wait()) as beside:
        met.wait()
        beside.wait(lambda _step, _steps: None)
    assert not met.broken


def test_an_error_in_the_work_is_raised_where_its_result_is_asked_for():
    def work(_watch: Watch) -> None:
        raise ValueError("loss is nan")

    with pytest.raises(ValueError, match="loss is nan"), alongside(work) as beside:
        beside.wait(lambda _step, _steps: None)


def test_leaving_by_an_error_stops_the_work_at_its_next_step():
    left, ended = threading.Event(), []

    def work(watch: Watch) -> None:
        try:
            while True:
                watch(1, 2)
                left.wait(0.01)
        except Stopped:
            ended.append("stopped")
            raise

    with pytest.raises(KeyboardInterrupt), alongside(work):
        raise KeyboardInterrupt
    assert ended == ["stopped"]


def test_an_error_while_waiting_stops_the_work_too():
    def work(watch: Watch) -> None:
        while True:
            watch(1, 2)

    def watch(_step: int, _steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), alongside(work) as beside:
        beside.wait(watch)
    assert beside.future.done()
