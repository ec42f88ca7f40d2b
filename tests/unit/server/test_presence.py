from wardround.server.presence import Presence


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watched() -> tuple[Presence, _Clock, list[tuple[str, bool]]]:
    clock, told = _Clock(), []
    presence = Presence(10, clock=clock, on_change=lambda *change: told.append(change))
    return presence, clock, told


def test_a_site_is_absent_after_three_missed_heartbeats_and_not_before() -> None:
    presence, clock, told = watched()
    presence.heard("ada")
    clock.now = 30.0
    presence.look()
    assert presence.is_present("ada")
    assert presence.absent_s("ada") == 0
    clock.now = 30.1
    presence.look()
    presence.look()
    assert not presence.is_present("ada")
    assert presence.absent_s("ada") == 30.1
    assert told == [("ada", True), ("ada", False)]


def test_a_slow_site_that_sends_heartbeats_is_never_absent() -> None:
    presence, clock, told = watched()
    for _ in range(100_000):
        presence.heard("ada")
        clock.now += 29.0
        presence.look()
    assert told == [("ada", True)]


def test_a_site_that_comes_back_is_present_again() -> None:
    presence, clock, told = watched()
    presence.heard("ada")
    clock.now = 1000.0
    presence.look()
    presence.heard("ada")
    assert presence.is_present("ada")
    assert told == [("ada", True), ("ada", False), ("ada", True)]


def test_a_site_that_was_never_heard_from_has_been_silent_since_the_beginning() -> None:
    presence, clock, told = watched()
    clock.now = 30.0
    assert presence.absent_s("ada") == 0
    clock.now = 31.0
    assert presence.absent_s("ada") == 31.0
    assert not presence.is_present("ada")
    assert told == []
