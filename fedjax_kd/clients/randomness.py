"""Every random draw of a study, named: root key -> round -> purpose -> client.

A draw depends on the study's seed, the round, what the draw is for and who it is for, and on
nothing else: not on the position of a client in a stack, on how clients are grouped, or on the
number of devices. So there is no sampler state to save, and a resumed run draws what the first one
would have.
"""

from enum import IntEnum

import jax


class Purpose(IntEnum):
    """What a draw is for. Numbers are part of a result's identity: append, never renumber."""

    INIT = 0
    BATCH_ORDER = 1
    FLEET = 2
    POLICY = 3
    REFERENCE = 4
    PARTITION = 5


class Part(IntEnum):
    """Which part of a study draws: the same round and purpose in two parts share nothing."""

    TEACHER = 0
    STUDENTS = 1
    FEDAVG = 2
    DECISION = 3


def draw_key(root: jax.Array, round_index: jax.typing.ArrayLike, purpose: Purpose) -> jax.Array:
    """The key of one purpose in one round.

    Args:
        root: the study point's typed key, `jax.random.key(seed)`.
        round_index: int scalar; 0 for draws that are made once.
        purpose: what the draw is for.

    Returns:
        A typed key.
    """
    return jax.random.fold_in(jax.random.fold_in(root, round_index), int(purpose))


def client_key(
    root: jax.Array,
    round_index: jax.typing.ArrayLike,
    purpose: Purpose,
    client: jax.typing.ArrayLike,
) -> jax.Array:
    """The key of one client for one purpose in one round; `client` is its lasting identity."""
    return jax.random.fold_in(draw_key(root, round_index, purpose), client)
