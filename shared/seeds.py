"""Every random draw has a named stream, derived from the study seed and where the draw is made.

A stream's name is a path such as ``("runmc", "replay", "bmc")``. Streams follow the place in a
checkpoint's lineage (which site, after which parents), never a count of what happened before, so a
resumed study draws what an uninterrupted one would have drawn.
"""

import hashlib


def derive(study_seed: int, *path: str | int) -> int:
    """Return the 63-bit seed of the stream named by `path` under `study_seed`.

    Args:
        study_seed: The plan's seed, any non-negative integer.
        *path: Where the draw is made: lineage, site, purpose. Order matters.

    Returns:
        An integer in [0, 2**63), the same on every machine.
    """
    name = "/".join([str(study_seed), *(f"{type(part).__name__}:{part}" for part in path)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
