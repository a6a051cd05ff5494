r"""DFML's cycles: how much is distilled in which round, and when peak models are refreshed.

Khalil et al. 2024, "DFML: Decentralized Federated Mutual Learning", arXiv:2402.01863. The weight
alpha of distillation swings, supervision has the rest, and global knowledge is best where alpha is
at its largest; so each client keeps a copy of its model from there, its peak model.

Confirmed of the paper: alpha is varied cyclically, every client has a peak model and a weight of
its own. The exact schedule and rule could not be had; the ones here are our reconstruction:

.. math:: alpha(t) = (alpha_{max} / 2) (1 - cos(2 pi (t - t_c) / P_c)), \quad P_c = P_0 + c \Delta

in cycle c, which starts in round t_c. It starts at 0, so that fresh models learn labels first.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import struct

Shape = Literal["cosine", "constant", "sawtooth"]
NEVER, NOTHING = -1, -1.0


class Schedule(NamedTuple):
    """How the weight of distillation runs over the rounds; static.

    Attributes:
        shape: `cosine` rises and falls within each cycle; `sawtooth` rises from 0 in a straight
            line, is largest in a cycle's last round and starts again; `constant` is always largest,
            one cycle without end.
        first_period: rounds of the first cycle, at least 2. The default, 10, is remembered from the
            paper but not confirmed.
        growth: rounds by which each cycle is longer than the one before. That cycles grow is
            remembered from the paper, by how much is our assumption.
    """

    shape: Shape = "cosine"
    first_period: int = 10
    growth: int = 2


class Place(NamedTuple):
    """Where in its cycles a round stands, int32 scalars.

    Attributes:
        cycle: number of the cycle, from 0.
        round: rounds since it began.
        peak: the `round` in which alpha is largest, the first one of several.
        length: rounds of this cycle.
    """

    cycle: jax.Array
    round: jax.Array
    peak: jax.Array
    length: jax.Array


@struct.dataclass
class PeakMemory:
    """What clients remember beside their peak models.

    Attributes:
        alpha: float32 [K], the largest alpha at which the peak model was refreshed in the cycle in
            which the client last took part; -1 if it was not.
        cycle: int32 [K], that cycle; -1 for a client that never took part.
    """

    alpha: jax.Array
    cycle: jax.Array


def blank_memory(n_clients: int) -> PeakMemory:
    """The memory of clients that never took part."""
    return PeakMemory(
        alpha=jnp.full(n_clients, NOTHING, jnp.float32), cycle=jnp.full(n_clients, NEVER, jnp.int32)
    )


def checked_schedule(schedule: Schedule) -> Schedule:
    """The schedule.

    Raises:
        ValueError: naming the field, what was found and what is allowed.
    """
    if schedule.shape not in get_args(Shape):
        raise ValueError(
            f"schedule.shape must be one of {', '.join(get_args(Shape))}; got {schedule.shape!r}"
        )
    for name, value, least in (
        ("first_period", schedule.first_period, 2),
        ("growth", schedule.growth, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"schedule.{name} must be an integer of at least {least}; got {value!r}"
            )
    return schedule


def place_of(schedule: Schedule, index: jax.typing.ArrayLike) -> Place:
    """Where round `index` stands.

    Args:
        schedule: static.
        index: int32 scalar, the round from 0; may be traced.

    Returns:
        The place.
    """
    index, zero = jnp.asarray(index, jnp.int32), jnp.int32(0)
    first = jnp.int32(schedule.first_period)
    if schedule.shape == "constant":
        return Place(zero, index, zero, first)

    def next_cycle(carry):
        cycle, left, length = carry
        return cycle + 1, left - length, length + schedule.growth

    cycle, left, length = jax.lax.while_loop(
        lambda carry: carry[1] >= carry[2], next_cycle, (zero, index, first)
    )
    peak = length // 2 if schedule.shape == "cosine" else length - 1
    return Place(cycle, left, peak, length)


def alpha_at(
    schedule: Schedule, place: Place, round_: jax.Array, alpha_max: jax.typing.ArrayLike
) -> jax.Array:
    """The weight of distillation in some round of a cycle.

    Args:
        schedule: static.
        place: of any round of the cycle.
        round_: int32 scalar, rounds since the cycle began; `place.round` for the place's own.
        alpha_max: float32, of any shape.

    Returns:
        float32, of the shape of `alpha_max`.
    """
    passed, length = round_.astype(jnp.float32), place.length.astype(jnp.float32)
    if schedule.shape == "cosine":
        share = 0.5 * (1.0 - jnp.cos(2.0 * jnp.pi * passed / length))
    elif schedule.shape == "sawtooth":
        share = passed / (length - 1.0)
    else:
        share = jnp.float32(1)
    return jnp.asarray(alpha_max, jnp.float32) * share


def remember_peak(
    memory: PeakMemory,
    member: jax.Array,
    place: Place,
    alpha: jax.Array,
    highest: jax.Array,
    floor: jax.Array,
) -> tuple[PeakMemory, jax.Array]:
    """Which members' peak models are refreshed after a round.

    A member that meets a new cycle forgets its alpha. In cycle 0, before alpha is largest for the
    first time, every member is refreshed; later those whose alpha is reached again or surpassed.
    After cycle 0 alpha must also be at least `floor` times the largest of the cycle, or a round
    early in a cycle would overwrite a good peak model with a model that has just been taught the
    labels of one client.

    A client that takes part for the first time is refreshed whatever alpha is: its peak model is a
    fresh draw. Both that and the floor are ours.

    Args:
        memory: [K].
        member: bool [K], who took part in the round.
        place: the round's.
        alpha: float32 [K], the round's at each client's study point.
        highest: float32 [K], the largest alpha of the cycle there.
        floor: float32 [K], in [0, 1].

    Returns:
        The new memory, and bool [K], whose peak models become copies of their models.
    """
    newcomer = memory.cycle == NEVER
    forgets = (place.cycle > memory.cycle) & (place.cycle > 0)
    known = jnp.where(forgets | newcomer, NOTHING, memory.alpha)
    first_ascent = (place.cycle == 0) & (place.round < place.peak)
    high_enough = (place.cycle == 0) | (alpha >= floor * highest)
    refreshed = member & (newcomer | first_ascent | ((alpha >= known) & high_enough))
    kept = jnp.where(refreshed, alpha, known)
    return (
        PeakMemory(
            alpha=jnp.where(member, kept, memory.alpha),
            cycle=jnp.where(member, place.cycle, memory.cycle),
        ),
        refreshed,
    )
