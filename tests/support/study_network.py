"""A study at a real coordinator with its operator, and as many of its sites as a test starts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from relay_calls import Coordinator
from study_state import digests, state_of
from tiny_site import GENESIS, MANIFEST, TinySite
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.deploy.study_client import StudyClient
from wardround.server import events
from wardround.server.journal import read_events
from wardround.server.loop import run
from wardround.server.state import StudyState
from wardround.server.study_folder import JOURNAL
from wardround.shared.connection import Connection
from wardround.shared.identity import Role, read_credentials
from wardround.site_client.dial import work


class Network:
    """A study with its coordinator, its operator and as many of its sites as a test starts."""

    def __init__(self, folder: Path, authority, plan, *, is_on_hold: bool = False) -> None:
        self.plan, self.study = plan, folder / "study"
        self._folder, self._authority = folder, authority
        with open_study(self.study, plan, MANIFEST, GENESIS, engine="grpc", is_on_hold=is_on_hold):
            pass
        hub = authority.issue(Role.COORDINATOR, "hub")
        self.coordinator = Coordinator(self.study, hub)
        self.coordinator.start()
        self._threads: list[threading.Thread] = []
        self.ended: list[str] = []

    @contextmanager
    def operator(self) -> Iterator[StudyClient]:
        own = read_credentials(self._authority.issue(Role.OPERATOR, "anna"))
        with StudyClient(self.coordinator.address, own, self.plan.study_id) as client:
            yield client

    def start(self, *site_ids: str, around: Callable = lambda site: site) -> None:
        """Start sites; `around` makes something else of the gateway."""
        for site_id in site_ids:
            own = read_credentials(self._authority.issue(Role.SITE, site_id))
            site = around(TinySite(self.plan, site_id, self._folder / site_id))

            def live(site_id: str = site_id, own=own, site=site) -> None:
                with Connection(
                    self.coordinator.address, own, sleep=lambda _: threading.Event().wait(0.05)
                ) as connection:
                    work(
                        connection,
                        own,
                        site,
                        site_id=site_id,
                        plan=self.plan,
                        manifest=MANIFEST,
                    )
                self.ended.append(site_id)

            thread = threading.Thread(target=live, name=site_id, daemon=True)
            thread.start()
            self._threads.append(thread)

    def restart(self) -> None:
        self.coordinator.kill()
        self.coordinator.start()

    def end(self) -> StudyState:
        """Wait for every site that was started, and return the study's state."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), f"{thread.name} did not end"
        return self.state()

    def history(self) -> tuple[events.Event, ...]:
        return read_events(self.study / JOURNAL)

    def state(self) -> StudyState:
        return state_of(self.study)

    def wait_until(self, is_so: Callable[[StudyState], bool]) -> None:
        while not is_so(self.state()):
            threading.Event().wait(0.02)


@contextmanager
def network(folder: Path, authority, plan, **more) -> Iterator[Network]:
    made = Network(folder, authority, plan, **more)
    try:
        yield made
    finally:
        made.coordinator.kill()


def expected(plan, folder: Path, *sites: str) -> list[str]:
    """The digests of a study in one process whose sites are visited in this order."""
    folder.mkdir()
    plan = plan.model_copy(update={"sites": sites})
    gateways = {site: TinySite(plan, site, folder / site) for site in sites}
    with open_study(folder / "study", plan, MANIFEST, GENESIS) as relay:
        return digests(run(relay, InProcessEngine(gateways, relay)))


class Slow:
    """A gateway whose visit begins, and goes on when it is told to."""

    def __init__(self, site) -> None:
        self._site = site
        self.begun, self.go = threading.Event(), threading.Event()

    def visit(self, order, link):
        self.begun.set()
        assert self.go.wait(60)
        self._site.visit(order, link)

    def evaluate(self, order, link):
        self._site.evaluate(order, link)
