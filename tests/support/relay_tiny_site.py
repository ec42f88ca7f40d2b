"""The program of a tiny site that dials a coordinator, and kills itself where it is told to.

KILL_AT in its environment names the moment: leased, fetch, train, deliver, commit or committed.
"""

import os
import signal
import sys
from pathlib import Path

from tiny_site import MANIFEST, TinySite
from wardround.shared import plan as plans
from wardround.shared.checkpoint import chunks_of
from wardround.shared.connection import Connection
from wardround.shared.identity import read_credentials
from wardround.site_client import dial
from wardround.site_client.dial import work


class _SuicidalLink:
    """A link whose process kills itself at one call, before or after it."""

    def __init__(self, link, moment: str) -> None:
        self._link, self._moment = link, moment

    def trail_head(self):
        return self._link.trail_head()

    def fetch(self, part):
        for chunk in self._link.fetch(part):
            self.die_at("fetch")
            yield chunk

    def progress(self, message):
        self._link.progress(message)
        self.die_at("train")

    def deliver(self, announcement, part_name, data):
        def some(*arguments):
            for number, chunk in enumerate(chunks_of(*arguments)):
                if number:  # the first one is on its way
                    self.die_at("deliver")
                yield chunk

        dial.chunks_of = some
        self._link.deliver(announcement, part_name, data)

    def commit(self, report, upload):
        self.die_at("commit")
        self._link.commit(report, upload)
        self.die_at("committed")

    def evaluated(self, report):
        self._link.evaluated(report)

    def die_at(self, moment: str) -> None:
        if moment == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)


class _SuicidalSite:
    """Visits with a link that kills; evaluates with one that does not."""

    def __init__(self, site, moment: str) -> None:
        self._site, self._moment = site, moment

    def visit(self, order, link):
        suicidal = _SuicidalLink(link, self._moment)
        suicidal.die_at("leased")
        self._site.visit(order, suicidal)

    def evaluate(self, order, link):
        self._site.evaluate(order, link)


def main(words: list[str]) -> None:
    """Be a tiny site; the options are those of `wardround site start`, with --plan for STUDY."""
    given = dict(zip(words[::2], words[1::2], strict=True))
    plan, site_id = plans.load(Path(given["--plan"])), given["--site"]
    site = TinySite(plan, site_id, Path(given["--workspace"]))
    gateway = _SuicidalSite(site, os.environ.get("KILL_AT", ""))
    credentials = read_credentials(Path(given["--credentials"]))
    with Connection(given["--coordinator"], credentials) as connection:
        work(
            connection,
            credentials,
            gateway,
            site_id=site_id,
            plan=plan,
            manifest=MANIFEST,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
