"""The bundle that Flower ships to every site at each run: a file of names, no code.

Its bytes, and so its digest, follow from the packaged `pyproject.toml` alone.
"""

import hashlib
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

FOLDER = Path(__file__).parent / "app"
SIMULATION = Path(__file__).parent / "app-simulation"
"""The bundle of a simulation on one machine, which no site of a federation runs."""


def build(folder: Path = FOLDER) -> bytes:
    """Return the bundle that `flwr run` makes of a folder."""
    return build_fab_from_disk(folder)


def digest(folder: Path = FOLDER) -> str:
    """Return the digest of this release's bundle."""
    return digest_of(build(folder))


def digest_of(bundle: bytes) -> str:
    """Return the SHA-256 of a bundle in hex, the name under which a site allows it."""
    return hashlib.sha256(bundle).hexdigest()
