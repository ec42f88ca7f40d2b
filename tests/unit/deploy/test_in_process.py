import pytest

from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.server.journal import Journal
from wardround.server.order import Order
from wardround.server.relay import Relay
from wardround.server.store import ArtefactStore
from wardround.server.study_folder import JOURNAL
from wardround.shared.checkpoint import Manifest
from wardround.shared.errors import CheckpointError, UsageError
from wardround.shared.messages import TensorSpec
from wardround.shared.trail import Trail

MANIFEST = Manifest(parts={"segmenter": (TensorSpec(name="w", shape=(1,), dtype="F32"),)})


class _Listener:
    """A gateway that notes which of its two calls came."""

    def __init__(self):
        self.calls = []

    def visit(self, order, link):
        self.calls.append(("visit", order))

    def evaluate(self, order, link):
        self.calls.append(("evaluate", order))


@pytest.fixture
def relay(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        yield Relay(
            journal, ArtefactStore(tmp_path / "store"), Trail(tmp_path / "audit", holder="hub")
        )


def test_an_order_reaches_its_site_as_bytes_and_no_other(relay):
    ada, ben = _Listener(), _Listener()
    engine = InProcessEngine({"ada": ada, "ben": ben}, relay)
    engine.carry_out(Order(kind="visit", site_id="ada", visit=1, data=b"first"))
    engine.carry_out(Order(kind="evaluation", site_id="ada", visit=1, data=b"second"))
    assert ada.calls == [("visit", b"first"), ("evaluate", b"second")]
    assert ben.calls == []


def test_an_order_for_a_site_that_is_not_here_names_those_that_are(relay):
    engine = InProcessEngine({"ada": _Listener()}, relay)
    with pytest.raises(UsageError, match="site 'zoe' is not in this process; here are ada"):
        engine.carry_out(Order(kind="visit", site_id="zoe", visit=1, data=b""))


def test_a_folder_that_cannot_be_made_is_said(tiny_plan, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(UsageError, match="cannot be made"),
        open_study(tmp_path / "file" / "study", tiny_plan, MANIFEST, {}),
    ):
        pass


def test_a_study_that_could_not_begin_can_be_begun_again(tiny_plan, tmp_path):
    for _ in range(2):
        with (
            pytest.raises(CheckpointError, match="missing 'segmenter'"),
            open_study(tmp_path, tiny_plan, MANIFEST, {}),
        ):
            pass
    assert (tmp_path / JOURNAL).read_bytes() == b""
