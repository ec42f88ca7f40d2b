"""All that six sites send in a whole study, searched for their images, files and names.

A real coordinator with mutual TLS; each request is written down after decryption, with its method
and metadata, before anything looks at it. The search is shown to find each form in the same bytes.
"""

import base64
import gzip
import io
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from byte_search import ByteSearch
from wardround.deploy.in_process import open_study
from wardround.server.journal import read_events
from wardround.server.state import fold
from wardround.server.study_folder import JOURNAL
from wardround.shared import plan as plans
from wardround.shared import trail
from wardround.shared.connection import Connection
from wardround.shared.identity import Role, read_credentials
from wardround.site_client.data.cases import load_site
from wardround.site_client.data.mock import MOCK_SITES, write_mock_sites
from wardround.site_client.data.preprocess import to_samples
from wardround.site_client.dial import work
from wardround.site_client.learning.genesis import make_genesis
from wardround.site_client.privacy.approval import approve_in_simulation
from wardround.site_client.site import Site

RECORDING = """
import sys
from pathlib import Path
import grpc

study, credentials, folder = (Path(word) for word in sys.argv[1:])
real = grpc.aio.server


def written(method, kind, data):
    with (folder / "sent").open("ab") as file:
        file.write(f"<{method} {kind} {len(data)}>".encode() + bytes(data))


class Recorder(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation, details):
        for key, value in details.invocation_metadata:
            text = value if isinstance(value, bytes) else str(value).encode()
            written(details.method, "metadata", str(key).encode() + b"=" + text)
        handler = await continuation(details)
        if handler is None:
            return handler
        read = handler.request_deserializer

        def recorded(raw):
            written(details.method, "request", raw)
            return read(raw)

        return handler._replace(request_deserializer=recorded)


grpc.aio.server = lambda *a, interceptors=(), **k: real(
    *a, interceptors=(Recorder(), *interceptors), **k
)
from wardround.server.coordinator import serve
from wardround.shared.identity import read_credentials

serve(study, read_credentials(credentials), "127.0.0.1:0",
      on_listening=lambda port: print(port, flush=True), poll_s=0.05, heartbeat_s=1, linger_s=60)
"""
PLAN = {
    "study_id": "audited",
    "sites": [habits.site_id for habits in MOCK_SITES],
    "task": {"classes": ["prostate"], "working_size": [16, 16]},
    "segmenter": {"features": [4, 8], "steps": 2, "batch_size": 2},
    "denoiser": {
        "channels": [16, 16],
        "prompt_tokens": 2,
        "prompt_width": 8,
        "first_steps": 2,
        "steps": 2,
        "batch_size": 2,
        "timesteps": 10,
        "sampling_steps": 2,
    },
    "replay": {"samples_per_site": 2},
}


@pytest.mark.slow
def test_no_image_no_file_and_no_name_is_in_anything_that_left_a_site(tmp_path, authority):
    plan = plans.parse(PLAN, origin="test")
    folders = write_mock_sites(tmp_path / "data", 4, 0)
    data = {name: load_site(name, where, plan.task, plan.data) for name, where in folders.items()}
    genesis = make_genesis(plan)
    study = tmp_path / "study"
    with open_study(study, plan, genesis.manifest, genesis.parts, engine="grpc"):
        pass
    hub = authority.issue(Role.COORDINATOR, "hub")
    words = [sys.executable, "-c", RECORDING, str(study), str(hub), str(tmp_path)]
    served = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        address = f"127.0.0.1:{int(served.stdout.readline())}"
        _live(plan, data, genesis.manifest, address, authority, tmp_path)
    finally:
        served.kill()
        served.wait()
        served.stdout.close()
    state = fold(read_events(study / JOURNAL))
    assert state.is_complete
    refused = [
        line.facts
        for name in plan.sites
        for line in trail.read(tmp_path / name / "audit").lines
        if line.kind == "refused"
    ]
    assert refused == [], "honest releases are not refused"
    sent = (tmp_path / "sent").read_bytes()
    assert len(sent) > sum(part.size_bytes for part in state.checkpoint.parts)
    assert sent.count(b"/Commit request") == 6
    cases = [case for site in data.values() for case in (*site.train, *site.heldout)]
    working = [to_samples(case, plan.task).images_NCX.numpy() for case in cases]
    files = list((tmp_path / "data").rglob("*.nii.gz"))
    search = ByteSearch(
        [*(case.image_CHWD for case in cases), *working],
        files,
        [*(case.case_id for case in cases), *(path.name for path in files)],
    )
    assert search.find(sent) == set()
    image, half = working[0][5, 0], sent[len(sent) // 2 :][:20_000]
    for form, leak in _leaks(image, cases[0], files[0]).items():
        assert search.find(half + leak + half), f"planted as {form}: not found"


def _live(plan, data, manifest, address, authority, folder):
    """Have each site dial, as it would, until the study has ended."""
    failed = []

    def live(name, own):
        site = Site(plan, data[name], manifest, workspace=folder / name)
        approve_in_simulation(site.trail, plan)
        try:
            with Connection(address, own) as connection:
                work(connection, own, site, site_id=name, plan=plan, manifest=manifest)
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    own = {name: read_credentials(authority.issue(Role.SITE, name)) for name in plan.sites}
    threads = [threading.Thread(target=live, args=one, daemon=True) for one in own.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and not failed:
            thread.join(0.2)
    if failed:
        raise failed[0]


def _leaks(image, case, file):
    """One image, one crop, one file and one name in every form that is looked for."""
    crop = np.ascontiguousarray(image[4:12, 4:12])
    share = (image + 1) / 2
    eight = np.rint(share * 255).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(eight).save(png, "PNG")
    return {
        "float32": image.tobytes(),
        "float32, big-endian": image.byteswap().tobytes(),
        "float16": image.astype(np.float16).tobytes(),
        "bfloat16": (image.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
        "uint8": eight.tobytes(),
        "uint16": np.rint(share * 65535).astype(np.uint16).tobytes(),
        "a crop of 8 x 8": crop.tobytes(),
        "a crop of 8 x 8 in uint8": np.ascontiguousarray(eight[4:12, 4:12]).tobytes(),
        "as stored": case.image_CHWD.astype(np.uint16).tobytes(),
        "zlib": zlib.compress(image.tobytes()),
        "gzip": gzip.compress(eight.tobytes()),
        "PNG": png.getvalue(),
        "base64": base64.b64encode(image.tobytes()),
        "base85": base64.b85encode(image.tobytes()),
        "hex": image.tobytes().hex().encode(),
        "base64 of zlib": base64.b64encode(zlib.compress(image.tobytes())),
        "a piece of the file": file.read_bytes()[500:600],
        "its identifier": case.case_id.encode(),
        "its identifier in base64": base64.b64encode(case.case_id.encode() + b"; padding"),
        "its file's name": file.name.encode(),
    }
