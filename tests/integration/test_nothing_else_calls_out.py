"""A whole visit with no way out of the process: no socket is opened, no program started.

An audit hook cannot be taken back, so the visits run in an interpreter of their own. They are those
of a study in one process: everything of a site but the dial, which is the one place for a channel.
"""

import subprocess
import sys

VISITS = """
import sys
from pathlib import Path

from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.server.loop import run
from wardround.shared import plan as plans
from wardround.site_client.data.cases import load_site
from wardround.site_client.data.mock import MOCK_SITES, write_mock_sites
from wardround.site_client.learning.genesis import make_genesis
from wardround.site_client.privacy.approval import approve_in_simulation
from wardround.site_client.site import Site

folder = Path(sys.argv[1])
plan = plans.parse(
    {
        "study_id": "shut",
        "sites": ["runmc", "bmc"],
        "task": {"classes": ["prostate"], "working_size": [16, 16]},
        "segmenter": {"features": [4, 8], "steps": 2, "batch_size": 2},
        "denoiser": {
            "channels": [16, 16], "prompt_tokens": 2, "prompt_width": 8, "first_steps": 2,
            "steps": 2, "batch_size": 2, "timesteps": 10, "sampling_steps": 2,
        },
        "replay": {"samples_per_site": 2},
    },
    origin="test",
)
folders = write_mock_sites(folder / "data", 4, 0, sites=MOCK_SITES[:2])
sites = {name: load_site(name, where, plan.task, plan.data) for name, where in folders.items()}
genesis = make_genesis(plan)

FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork",
             "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.")
seen = set()


def shut(event, _arguments):
    if event.startswith(FORBIDDEN):
        seen.add(event)
        raise PermissionError(f"{event} in a visit")


sys.addaudithook(shut)
with open_study(folder / "study", plan, genesis.manifest, genesis.parts) as relay:
    gateways = {
        name: Site(plan, data, genesis.manifest, workspace=folder / name)
        for name, data in sites.items()
    }
    for site in gateways.values():
        approve_in_simulation(site.trail, plan)
    state = run(relay, InProcessEngine(gateways, relay))
assert state.is_complete and not seen, seen

import socket

try:
    socket.create_connection(("127.0.0.1", 9))
except PermissionError:
    print("shut")  # the hook does what this test relies on
"""


def test_a_whole_study_opens_no_socket_and_starts_no_program(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", VISITS, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "shut"
