"""The program of a tiny site in a Flower federation: the guarded one, with arithmetic for training.

It stops in the middle of a visit for as long as there is a file `pause` in its workspace, and fails
where there is one called `fail`.
"""

import time
from contextlib import contextmanager
from pathlib import Path

from tiny_site import TinySite
from wardround.deploy.flower import client_app, site_program
from wardround.shared import plan as plans


@contextmanager
def open_site(context, order, tell):
    settings = context.node_config
    workspace = Path(settings["workspace"])
    site = TinySite(plans.load(Path(settings["plan"])), settings["site"], workspace)
    yield _Stopping(site, workspace)


class _Stopping:
    def __init__(self, site, workspace: Path) -> None:
        self._site, self._workspace = site, workspace

    def visit(self, order, link):
        if (self._workspace / "fail").exists():
            raise FileNotFoundError("images/doe_jane_1970-01-01.nii.gz")
        (self._workspace / "visits").open("a").write("visit\n")
        while (self._workspace / "pause").exists():
            time.sleep(0.05)
        self._site.visit(order, link)

    def evaluate(self, order, link):
        self._site.evaluate(order, link)


def main(*allowed: str) -> None:
    client_app.app = client_app.client_app(open_site)
    site_program.main(*allowed)
