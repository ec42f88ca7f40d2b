import signal

import pytest

from wardround.deploy.loopback import _without_interrupts


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_that_comes_while_a_process_is_started_is_heard_afterwards() -> None:
    """A study that went on as if nothing had happened would have to be ended a second time."""
    done = []

    def start() -> None:
        with _without_interrupts():
            signal.raise_signal(signal.SIGINT)
            done.append("started")
        done.append("gone on")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert done == ["started"]
