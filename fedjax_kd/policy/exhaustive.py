"""Exact search over every feasible joint decision, for few users.

Decisions are numbered in mixed radix: digit n of a number chooses among the feasible actions of
user n. So only feasible decisions are evaluated, in chunks of one `vmap` each, and memory does not
grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from fedjax_kd.policy.checks import check_feasible
from fedjax_kd.policy.exploration import FeasibleActions, pack_feasible


class ExhaustiveResult(NamedTuple):
    """The best of all feasible decisions.

    Attributes:
        actions: int32 [N], joint actions; of decisions equally good, that with the lowest number.
        utility: float32 [], its utility; -inf if every utility was NaN.
        evaluated: int32 [], the number of feasible decisions, all of which were evaluated.
    """

    actions: jax.Array
    utility: jax.Array
    evaluated: jax.Array


def count_decisions(feasible: jax.Array) -> int:
    """Returns how many decisions `exhaustive` would go through.

    The number of feasible ones where `feasible` bool [N, A] is concrete, A^N where it is traced.
    """
    users, n_actions = check_feasible(feasible)
    if isinstance(feasible, Tracer):
        return n_actions**users
    return math.prod(int(count) for count in np.asarray(feasible).sum(axis=-1))


def decision(number: jax.Array, packed: FeasibleActions) -> jax.Array:
    """Returns the joint actions int32 [N] of decision `number` int32 []; user 0 varies fastest."""
    place_value = jnp.cumprod(packed.count, dtype=jnp.int32) // packed.count
    digit = (number // place_value) % packed.count
    return jnp.take_along_axis(packed.order, digit[:, None], axis=-1)[:, 0]


def exhaustive(
    utility: Callable[[jax.Array], jax.Array],
    feasible: jax.Array,
    *,
    limit: int = 300_000,
    chunk: int = 1024,
) -> ExhaustiveResult:
    """Finds the decision of highest utility by trying them all.

    Works inside `jax.jit` and under `jax.vmap` over instances (arrays that `utility` closes over,
    and `feasible`); a traced `feasible` costs A^N numbers, whatever it forbids.

    Args:
        utility: int32 [N] -> float32 [], U of a decision.
        feasible: bool [N, A].
        limit: the most decisions to go through, below 2^31.
        chunk: decisions evaluated together; the memory needed grows with it.

    Returns:
        ExhaustiveResult.

    Raises:
        ValueError: before any evaluation, if there are more than `limit` decisions, or for a bad
            mask, chunk or limit.
    """
    users, n_actions = check_feasible(feasible)
    if chunk < 1 or not 1 <= limit < 2**31 - chunk:
        raise ValueError(
            f"chunk is {chunk} and limit {limit}: chunk must be at least 1 and limit in "
            f"1..2^31 - 1 - chunk"
        )
    total = count_decisions(feasible)
    if total > limit:
        raise ValueError(
            f"{users} users with up to {n_actions} actions make {total} decisions: "
            f"exhaustive search is limited to {limit}"
        )
    packed = pack_feasible(feasible)
    evaluated = jnp.prod(packed.count, dtype=jnp.int32)

    def evaluate(number):
        value = utility(decision(number, packed))
        worthless = (number >= evaluated) | jnp.isnan(value)
        return jnp.where(worthless, -jnp.inf, value)

    def search(best, first):
        best_number, best_value = best
        values = jax.vmap(evaluate)(first + jnp.arange(chunk, dtype=jnp.int32))
        at = jnp.argmax(values).astype(jnp.int32)
        better = values[at] > best_value
        number = jnp.where(better, first + at, best_number)
        return (number, jnp.where(better, values[at], best_value)), None

    firsts = jnp.arange(0, total, chunk, dtype=jnp.int32)
    start = (jnp.int32(0), jnp.asarray(-jnp.inf, jnp.float32))
    (number, value), _ = lax.scan(search, start, firsts)
    return ExhaustiveResult(decision(number, packed), value, evaluated)
