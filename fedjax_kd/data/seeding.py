"""Host generators that depend on a seed and a purpose, and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np


def host_rng(seed: int, purpose: str | int) -> np.random.Generator:
    """A generator on the counter-based Philox, keyed by (seed, purpose).

    Two purposes under one seed are independent streams; a purpose that is a text is hashed, so that
    adding a purpose changes no other one's draws.

    Args:
      seed: at least 0 and below 2**64.
      purpose: a name, or a number at least 0 and below 2**64.
    """
    if isinstance(purpose, str):
        purpose = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=np.asarray([seed, purpose], np.uint64)))
