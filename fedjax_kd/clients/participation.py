"""Who of the population works in a round: sampling a cohort, dropping out, and moving its rows.

A cohort is a population of its own, the chosen rows of the whole one, so a method that runs on it
cannot tell the difference and costs what the cohort costs. Membership is drawn from (seed, round,
user) by name, like everything else, and cohorts are kept in one canonical order (point by point,
users ascending): neither the order of the population's rows nor the way the draws are ranked shows
in a result.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_kd.clients.population import Population, client_keys
from fedjax_kd.clients.randomness import Purpose

Tree = Any


def sample_cohort(people: Population, round_index: jax.typing.ArrayLike, size: int) -> jax.Array:
    """Draws `size` users of every study point, without replacement, each with equal probability.

    Every user draws a number from its own key, and the `size` smallest numbers of a point win. May
    be called inside a traced loop over rounds as well as on the host.

    Args:
        people: S points with N users each.
        round_index: int scalar, may be traced.
        size: users per study point, static, 1..N.

    Returns:
        int32 [S * size], positions on the client axis of `people`: point by point, users ascending.

    Raises:
        ValueError: if `size` is not an integer in 1..N, or N is not one number for all points.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise ValueError(f"size must be an integer, the users per study point; got {size!r}")
    if people.n_clients % people.n_points:
        raise ValueError(
            f"people: {people.n_clients} clients over {people.n_points} study points; every point "
            "needs the same number of users"
        )
    if not 1 <= size <= people.n_users:
        raise ValueError(
            f"size must be between 1 and the {people.n_users} users of a study point; got {size}"
        )
    keys = client_keys(people, round_index, Purpose.PARTICIPATION)
    draws = jax.vmap(jax.random.bits)(keys)
    by_draw = jnp.lexsort((people.user, draws, people.point))  # equal draws: the lower user wins
    winners = by_draw.reshape(people.n_points, people.n_users)[:, :size].reshape(-1)
    in_order = jnp.lexsort((people.user[winners], people.point[winners]))
    return winners[in_order].astype(jnp.int32)


def drop_out(
    people: Population,
    members: jax.Array,
    round_index: jax.typing.ArrayLike,
    probability: jax.typing.ArrayLike,
) -> jax.Array:
    """Which members of a cohort stay until the round's end.

    Whether a user drops out of a round does not depend on who else was sampled for it.

    Args:
        people: the whole population.
        members: int32 [M], positions on its client axis.
        round_index: int scalar, may be traced.
        probability: of dropping out, in [0, 1]: a float scalar, or [S] with one per study point.

    Returns:
        bool [M], True for the members that stay.

    Raises:
        ValueError: if a probability (that is not traced) is outside [0, 1], or their number is not
            S.
    """
    chance = jnp.asarray(probability, jnp.float32)
    if chance.shape not in ((), (people.n_points,)):
        raise ValueError(
            f"probability must be one number or one per study point ({people.n_points}); got shape "
            f"{chance.shape}"
        )
    if not isinstance(chance, Tracer) and not bool(jnp.all((chance >= 0) & (chance <= 1))):
        raise ValueError(f"probability must be in [0, 1]; got {probability}")
    cohort = select(people, members)
    draws = jax.vmap(jax.random.uniform)(client_keys(cohort, round_index, Purpose.DROP_OUT))
    return draws >= (chance[cohort.point] if chance.ndim else chance)


def draw_roles(
    people: Population, round_index: jax.typing.ArrayLike, size: int, eligible: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draws `size` of the eligible clients of every study point, uniformly, without replacement.

    For roles inside a method, such as who aggregates. A client's draw is its own, so who is drawn
    depends on who is eligible and not on where they stand or who else is in the stack.

    Args:
        people: S points with N users each.
        round_index: int scalar, may be traced.
        size: clients per point, static, at least 1.
        eligible: bool [K].

    Returns:
        int32 [S * size] positions on the client axis, point by point, the first drawn first; and
        bool [S * size], False for places that could not be filled: they hold a client that is not
        eligible, or the last one drawn again.
    """
    keys = client_keys(people, round_index, Purpose.ROLE)
    draws = jax.vmap(jax.random.bits)(keys)
    order = jnp.lexsort((people.user, draws, jnp.logical_not(eligible), people.point))
    by_point = order.reshape(people.n_points, people.n_users)
    missing = max(0, size - people.n_users)
    drawn = jnp.pad(by_point[:, :size], ((0, 0), (0, missing)), mode="edge")
    count = jnp.sum(eligible[by_point], axis=1, dtype=jnp.int32)
    filled = jnp.arange(size, dtype=jnp.int32)[None, :] < count[:, None]
    return drawn.reshape(-1).astype(jnp.int32), filled.reshape(-1)


def select(people: Population, members: jax.Array) -> Population:
    """The population of some clients only; roots and the points' common tables stay as they are.

    Args:
        people: K clients.
        members: int32 [M], positions on the client axis, equally many of each study point.

    Returns:
        M clients in the order of `members`.
    """
    own = people.train, people.validation, people.test, people.unlabelled
    train, validation, test, unlabelled = take_rows(own, members)
    return replace(
        people,
        point=people.point[members],
        user=people.user[members],
        train=train,
        validation=validation,
        test=test,
        unlabelled=unlabelled,
    )


def take_rows(tree: Tree, members: jax.Array) -> Tree:
    """Rows `members` [M] of every array [K, ...] of a pytree."""
    return jax.tree.map(lambda leaf: leaf[members], tree)


def put_rows(tree: Tree, members: jax.Array, rows: Tree, present: jax.Array) -> Tree:
    """Writes a cohort's rows back to where `take_rows` took them from.

    Args:
        tree: pytree of arrays [K, ...].
        members: int32 [M], positions in 0..K-1, no two present ones alike.
        rows: the same pytree with arrays [M, ...].
        present: bool [M]; rows of the others are not written.

    Returns:
        The tree; rows of clients that are no present members are bit for bit what they were.
    """

    def put(leaf, new):
        target = jnp.where(present, members, leaf.shape[0])  # past the end: dropped
        return leaf.at[target].set(new, mode="drop")

    return jax.tree.map(put, tree, rows)
