import pytest

from wardround.server.loop import run
from wardround.shared import codec
from wardround.shared.checkpoint import chunks_of
from wardround.shared.errors import WireError


class _Idle:
    def carry_out(self, order):
        pass


class _Diligent:
    def __init__(self, relay, world):
        self.relay, self.world = relay, world
        self.done = []

    def carry_out(self, order):
        self.done.append((order.kind, order.site_id, order.visit))
        if order.kind == "evaluation":
            report = self.world.evaluation(order.visit, order.site_id)
            self.relay.evaluated(order.site_id, codec.encode(report))
            return
        upload = codec.encode(self.world.upload(order.visit))
        for name, data in self.world.parts(order.visit).items():
            self.relay.deliver(order.site_id, upload, name, chunks_of(data))
        report = codec.encode(self.world.report(order.visit))
        self.relay.commit(order.site_id, report, upload)


def test_the_loop_goes_on_until_nothing_is_left(world, tmp_path):
    relay = world.relay(tmp_path)
    engine = _Diligent(relay, world)
    state = run(relay, engine)
    assert state.is_complete
    expected = [("evaluation", site_id, 0) for site_id in world.sites]
    for visit, visited in enumerate(world.sites, start=1):
        expected.append(("visit", visited, visit))
        expected += [("evaluation", site_id, visit) for site_id in world.sites]
    assert engine.done == expected


def test_a_site_that_returns_without_a_result_ends_the_loop(world, tmp_path):
    with pytest.raises(WireError, match="site 'ada' ended its evaluation order of visit 0"):
        run(world.relay(tmp_path), _Idle())
