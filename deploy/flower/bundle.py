"""The bundle that Flower ships to every site at each run: a file of names, no code.

Its bytes, and so its digest, follow from the packaged `app/pyproject.toml` alone.
"""

import hashlib
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

FOLDER = Path(__file__).parent / "app"


def build() -> bytes:
    """Return the bundle that `flwr run` makes of `FOLDER`."""
    return build_fab_from_disk(FOLDER)


def digest() -> str:
    """Return the digest of this release's bundle."""
    return digest_of(build())


def digest_of(bundle: bytes) -> str:
    """Return the SHA-256 of a bundle in hex, the name under which a site allows it."""
    return hashlib.sha256(bundle).hexdigest()
