"""Policies that do not learn: what Q-learning is compared with.

All take ``feasible`` bool [N, A] and all but `uniform` take ``solo_utility`` float32 [N, A]: what
each joint action would be worth to a user judged alone, with every resource shared equally among
the N users. The caller computes it; only its order within a user matters. All return joint
actions int32 [N].

A policy that is forced to one place or one student may find nothing feasible there for some user.
That user then takes its best feasible action, wherever it is. Ties go to the lowest action, and
a NaN utility counts as the worst.

Reference: baselines for Wang et al. 2023, arXiv:2303.06155; the list is our assumption.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_kd.policy.actions import DEVICE, SERVER, decode, n_students
from fedjax_kd.policy.checks import check_feasible
from fedjax_kd.policy.exploration import pack_feasible, uniform_feasible


def _checked(solo_utility: jax.Array, feasible: jax.Array) -> None:
    check_feasible(feasible)
    if solo_utility.shape != feasible.shape:
        raise ValueError(
            f"solo_utility has shape {solo_utility.shape}: it must be that of feasible, "
            f"{feasible.shape}"
        )


def _best_of(solo_utility: jax.Array, allowed: jax.Array) -> jax.Array:
    """Best allowed action per user, int32 [N]; an allowed NaN still beats what is not allowed."""
    worst = jnp.finfo(solo_utility.dtype).min
    value = jnp.where(jnp.isnan(solo_utility), worst, jnp.maximum(solo_utility, worst))
    return jnp.argmax(jnp.where(allowed, value, -jnp.inf), axis=-1).astype(jnp.int32)


def _forced(solo_utility: jax.Array, feasible: jax.Array, wanted: jax.Array) -> jax.Array:
    """Best feasible action among `wanted` bool [A], or the best feasible one where none is."""
    allowed = feasible & wanted[None, :]
    allowed = jnp.where(jnp.any(allowed, axis=-1, keepdims=True), allowed, feasible)
    return _best_of(solo_utility, allowed)


def uniform(key: jax.Array, feasible: jax.Array) -> jax.Array:
    """Every user draws one of its feasible actions with equal probability.

    Args:
        key: typed key.
        feasible: bool [N, A].

    Returns:
        int32 [N].
    """
    users, _ = check_feasible(feasible)
    return uniform_feasible(jax.random.uniform(key, (users,)), pack_feasible(feasible))


def greedy(solo_utility: jax.Array, feasible: jax.Array) -> jax.Array:
    """Every user takes the action that is best for it alone under an equal split."""
    _checked(solo_utility, feasible)
    return _best_of(solo_utility, feasible)


def fixed_place(solo_utility: jax.Array, feasible: jax.Array, place: int) -> jax.Array:
    """Every user trains at one place, with the student that is best for it there.

    Args:
        solo_utility: float32 [N, A].
        feasible: bool [N, A].
        place: `DEVICE` (0) or `SERVER` (1).

    Returns:
        int32 [N].

    Raises:
        ValueError: for another place or shapes that disagree.
    """
    _checked(solo_utility, feasible)
    if place not in (DEVICE, SERVER):
        raise ValueError(f"place is {place}: allowed are {DEVICE} (device) and {SERVER} (server)")
    n_actions = feasible.shape[1]
    _, places = decode(jnp.arange(n_actions, dtype=jnp.int32), n_students(n_actions))
    return _forced(solo_utility, feasible, places == place)


def all_device(solo_utility: jax.Array, feasible: jax.Array) -> jax.Array:
    """Every user trains at its device, with the student that is best for it there."""
    return fixed_place(solo_utility, feasible, DEVICE)


def all_server(solo_utility: jax.Array, feasible: jax.Array) -> jax.Array:
    """Every user trains at the server, with the student that is best for it there."""
    return fixed_place(solo_utility, feasible, SERVER)


def fixed_student(
    solo_utility: jax.Array, feasible: jax.Array, student: jax.typing.ArrayLike
) -> jax.Array:
    """Every user trains one student, at the better of its feasible places.

    Args:
        solo_utility: float32 [N, A].
        feasible: bool [N, A].
        student: index in 0..M-1, a number or int32 [].

    Returns:
        int32 [N].

    Raises:
        ValueError: for a student out of range (where it is a number) or shapes that disagree.
    """
    _checked(solo_utility, feasible)
    n_actions = feasible.shape[1]
    students = n_students(n_actions)
    if isinstance(student, int) and not 0 <= student < students:
        raise ValueError(f"student is {student}: it must be in 0..{students - 1}")
    of_action, _ = decode(jnp.arange(n_actions, dtype=jnp.int32), students)
    return _forced(solo_utility, feasible, of_action == jnp.asarray(student, jnp.int32))


def smallest(
    solo_utility: jax.Array, feasible: jax.Array, students_by_cost: jax.Array
) -> jax.Array:
    """Every user trains the cheapest student.

    Args:
        solo_utility: float32 [N, A].
        feasible: bool [N, A].
        students_by_cost: int32 [M], students from the cheapest to the dearest.

    Returns:
        int32 [N].
    """
    return fixed_student(solo_utility, feasible, students_by_cost[0])


def largest(solo_utility: jax.Array, feasible: jax.Array, students_by_cost: jax.Array) -> jax.Array:
    """Every user trains the dearest student; arguments as for `smallest`."""
    return fixed_student(solo_utility, feasible, students_by_cost[-1])
