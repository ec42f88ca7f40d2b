from wardround.shared import codec
from wardround.shared.messages import Phase
from wardround.site_client.site import PROGRESS_LINES, _Watch


class Guard:
    def release(self, message):
        return codec.encode(message)


class Link:
    def __init__(self):
        self.steps = []

    def progress(self, message):
        self.steps.append(codec.decode_progress(message).step)


def steps_sent(seen, total):
    link = Link()
    watch = _Watch(Guard(), link, 1, "ada")
    watch(Phase.DENOISER, 0, 0)
    for step in seen:
        watch(Phase.DENOISER, step, total)
    return link.steps[1:]


def test_every_step_of_a_short_phase_is_told_once():
    assert steps_sent([1, 2, 2, 3, 3], 3) == [1, 2, 3]


def test_a_long_phase_is_told_in_some_fifty_lines():
    sent = steps_sent(range(1, 901), 900)
    assert sent[:3] == [1, 19, 37]
    assert sent[-1] == 900
    assert len(sent) <= PROGRESS_LINES + 2


def test_a_phase_that_is_looked_at_now_and_then_is_told_of_whatever_its_steps_are():
    assert steps_sent([401, 401, 407, 433, 461, 900, 900], 900) == [401, 433, 461, 900]
