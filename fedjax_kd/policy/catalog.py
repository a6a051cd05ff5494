"""The policies that do not learn, by name, behind one signature."""

from __future__ import annotations

from collections.abc import Callable

import jax

from fedjax_kd.policy import fixed

# (key, solo_utility float32 [N, A], feasible bool [N, A], students_by_cost int32 [M]) -> int32 [N]
FixedPolicy = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]

FIXED_POLICIES: dict[str, FixedPolicy] = {
    "greedy": lambda key, solo, feasible, by_cost: fixed.greedy(solo, feasible),
    "all_device": lambda key, solo, feasible, by_cost: fixed.all_device(solo, feasible),
    "all_server": lambda key, solo, feasible, by_cost: fixed.all_server(solo, feasible),
    "random": lambda key, solo, feasible, by_cost: fixed.uniform(key, feasible),
    "smallest": lambda key, solo, feasible, by_cost: fixed.smallest(solo, feasible, by_cost),
    "largest": lambda key, solo, feasible, by_cost: fixed.largest(solo, feasible, by_cost),
}
