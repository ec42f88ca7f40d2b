import threading
import time

import pytest

from wardround.site_client.side_by_side import Stopped, Watch, alongside, two_at_a_time

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


def test_two_of_three_run_at_a_time_and_results_keep_their_order():
    running, most, lock = [0], [0], threading.Lock()
    met = threading.Barrier(2, timeout=LONG_S)

    def work(number: int):
        def run(watch: Watch) -> int:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            if number < 2:
                met.wait()
            watch(number, 10)
            with lock:
                running[0] -= 1
            return number

        return run

    seen = []
    assert two_at_a_time([work(number) for number in range(3)], seen.append) == [0, 1, 2]
    assert most[0] == 2
    assert seen[-1] == [(0, 10), (1, 10), (2, 10)]


def test_no_work_gives_no_results():
    assert two_at_a_time([], lambda _places: None) == []


def test_where_one_fails_its_error_is_raised_and_the_others_stop():
    ended = []

    def fails(_watch: Watch) -> None:
        raise ValueError("loss is nan")

    def goes_on(watch: Watch) -> None:
        try:
            while True:
                watch(1, 2)
                time.sleep(0.01)
        except Stopped:
            ended.append("stopped")
            raise

    with pytest.raises(ValueError, match="loss is nan"):
        two_at_a_time([goes_on, fails, goes_on], lambda _places: None)
    assert ended == ["stopped"]
