"""The bundle that Flower ships to every site at each run: a file of names, no code.

Its bytes, and so its digest, follow from the packaged `app/pyproject.toml` alone.
"""

import hashlib
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

FOLDER = Path(__file__).parent / "app"


def digest() -> str:
    """Return the SHA-256 of the bundle that `flwr run` makes of `FOLDER`, in hex."""
    return digest_of(build_fab_from_disk(FOLDER))


def digest_of(bundle: bytes) -> str:
    """Return the name under which a site allows a bundle."""
    return hashlib.sha256(bundle).hexdigest()
