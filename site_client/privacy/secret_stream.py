"""Randomness that nobody outside the site can repeat: what differential privacy rests on.

All other draws follow from the plan's seed, which everybody knows; noise that everybody can draw
again hides nothing. So a site makes a secret, which stays in its workspace, and the noise of a
training is a stream of it, named by what is trained. The same training, made again, draws the same;
who loses the secret draws another, which is another release.

The stream is that of ChaCha20 (RFC 8439). Each normal number is the sum of four, halved, made from
53 bits each: numbers of limited precision leave gaps in one normal number by which a sum could be
told apart (Mironov 2012; Holohan and Braghin 2021, arXiv:2107.10138).
"""

import hashlib
import hmac
import os
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from wardround.shared.errors import DataError
from wardround.shared.files import PRIVATE, write_once

NOISE_FILE = "noise.key"
_BYTES = 32
_SUMMED = 4


class SecretStream:
    """One stream of random numbers, from the beginning.

    Args:
        secret: The site's, 32 bytes.
        name: What it is drawn for; other names give streams that tell nothing of each other.
    """

    def __init__(self, secret: bytes, name: str) -> None:
        key = hmac.new(secret, name.encode(), hashlib.sha256).digest()
        # A counter and a nonce of 0: the key is good for this one stream.
        self._cipher = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def uniform(self, count: int) -> np.ndarray:
        """Return `count` numbers in [0, 1), float64."""
        raw = np.frombuffer(self._cipher.update(bytes(8 * count)), "<u8")
        uniform: np.ndarray = (raw >> np.uint64(11)) * 2.0**-53
        return uniform

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return standard normal numbers, float64."""
        count = _SUMMED * int(np.prod(shape))
        radius = np.sqrt(-2 * np.log1p(-self.uniform(count)))  # Box and Muller 1958
        parts = radius * np.cos(2 * np.pi * self.uniform(count))
        normal: np.ndarray = parts.reshape(_SUMMED, *shape).sum(axis=0) / np.sqrt(_SUMMED)
        return normal

    def seed(self) -> int:
        """Return a seed in [0, 2**63) for draws that torch makes."""
        return int.from_bytes(self._cipher.update(bytes(8)), "big") >> 1


def secret_in(workspace: Path) -> bytes:
    """Return the site's secret; made where there is none.

    Raises:
        DataError: It cannot be read or made, or is no secret.
    """
    path = workspace / NOISE_FILE
    try:
        if not path.exists():
            write_once(path, os.urandom(_BYTES), mode=PRIVATE)
        secret = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the secret '{path}' cannot be read or made: {error.strerror}. Let the site's own "
            f"user read and write its workspace."
        ) from error
    if len(secret) != _BYTES:
        raise DataError(
            f"'{path}' holds {len(secret)} bytes, expected {_BYTES}. Restore it from a copy; if it "
            f"is removed, another is made, and visits made again count as further releases."
        )
    return secret
