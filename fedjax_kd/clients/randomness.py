"""Every random draw inside a study's programs, named: part -> round -> purpose -> client.

A draw depends on the study's seed, the round, what the draw is for and who it is for, and on
nothing else: not on the position of a client in a stack, on how clients are grouped, or on the
number of devices. So there is no sampler state to save, and a resumed run draws what the first one
would have. (Who holds which examples is drawn on the host: `fedjax_kd.data.host_rng`.)
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
    PARTICIPATION = 5
    DROP_OUT = 6
    ROLE = 7
    DISTIL_ORDER = 8
    PUBLIC = 9
    CHANNEL = 10


class Part(IntEnum):
    """Which part of a study draws: the same round and purpose in two parts share nothing."""

    TEACHER = 0
    STUDENTS = 1
    FEDAVG = 2
    DECISION = 3
    WORLD = 4


def part_key(seed: int, part: Part) -> jax.Array:
    """The root key of one part of the study point with this seed."""
    return jax.random.fold_in(jax.random.key(seed), int(part))


def draw_key(root: jax.Array, round_index: jax.typing.ArrayLike, purpose: Purpose) -> jax.Array:
    """The key of one purpose in one round.

    Args:
        root: typed key of one part of a study point, see `part_key`.
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
