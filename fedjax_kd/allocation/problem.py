"""The allocation problem and its solution: what one decision needs, and what it gets.

Given which student each user trains and where (reconstruction of Wang et al. 2023,
arXiv:2303.06155), the server's compute and both bands are divided among the users. The arrays below
say how much each user has to compute and to send; how it is divided is `solve`'s business.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.system.fleet import Fleet
from fedjax_kd.system.workload import Workload, device_training_s, teacher_inference_s


class AllocationProblem(NamedTuple):
    """One instance. A user without a load takes no part in that resource and gets none of it.

    Leaves may be batched with `jax.vmap`; a leaf that all instances share is mapped with `None`.
    """

    compute_flops: jax.Array  # (N,) float32, work at the server
    uplink_bits: jax.Array  # (N,) float32
    downlink_bits: jax.Array  # (N,) float32
    uplink_snr_hz: jax.Array  # (N,) float32, transmit power x gain / noise density
    downlink_snr_hz: jax.Array  # (N,) float32
    server_flops_per_s: jax.Array  # () float32, budget
    uplink_hz: jax.Array  # () float32, budget
    downlink_hz: jax.Array  # () float32, budget
    fixed_s: jax.Array | None = None  # (N,) float32, delay that no share changes; None is zero


class AllocationSolution(NamedTuple):
    """Shares, the delays that follow from them, and how good they are."""

    server_flops_per_s: jax.Array  # (N,) float32, sums to the budget unless nobody has work
    uplink_hz: jax.Array  # (N,) float32, likewise
    downlink_hz: jax.Array  # (N,) float32, likewise
    compute_s: jax.Array  # (N,) float32
    uplink_s: jax.Array  # (N,) float32
    downlink_s: jax.Array  # (N,) float32
    delay_s: jax.Array  # (N,) float32, the three above plus fixed_s
    total_s: jax.Array  # () float32, the objective: sum or maximum of delay_s
    status: jax.Array  # () int32, a `Status`
    iterations: jax.Array  # () int32
    residual: jax.Array  # () float32, bound on (total_s - optimum) / total_s, without rounding


class Status(IntEnum):
    """What became of a solve."""

    CONVERGED = 0  # the residual is within the tolerance
    ITERATION_LIMIT = 1  # it is not: more iterations would help
    NOT_OPTIMISED = 2  # an equal split whose residual exceeds the tolerance; feasible all the same
    INFEASIBLE = 3  # somebody has a load and can get nothing: a zero budget or a dead link
    INVALID = 4  # a negative or undefined number went in


_PER_USER = (
    "compute_flops",
    "uplink_bits",
    "downlink_bits",
    "uplink_snr_hz",
    "downlink_snr_hz",
    "fixed_s",
)
_NEEDS = (
    ("compute_flops", "server_flops_per_s", None),
    ("uplink_bits", "uplink_hz", "uplink_snr_hz"),
    ("downlink_bits", "downlink_hz", "downlink_snr_hz"),
)


def problem_for(
    workload: Workload, fleet: Fleet, decided: jax.Array | None = None
) -> AllocationProblem:
    """States the allocation problem of a priced choice.

    The fixed delay of a user is the teacher's inference plus the training on the device.

    Args:
        workload: what every user has to do, arrays (N,).
        fleet: devices, links and budgets, N users.
        decided: (N,) bool; users that are not decided yet get no load and no fixed delay.

    Returns:
        The problem, whose objective `sum` is the total delay of the DT-KD reconstruction.
    """
    at_server_flops = jnp.where(workload.at_server, workload.training_flops, 0.0)
    loads = (at_server_flops, workload.uplink_bits, workload.downlink_bits)
    fixed_s = teacher_inference_s(workload, fleet) + device_training_s(workload, fleet)
    if decided is not None:
        loads = tuple(jnp.where(decided, load, 0.0) for load in loads)
        fixed_s = jnp.where(decided, fixed_s, 0.0)
    return AllocationProblem(
        *loads,
        uplink_snr_hz=fleet.uplink_snr_hz,
        downlink_snr_hz=fleet.downlink_snr_hz,
        server_flops_per_s=fleet.server_flops_per_s,
        uplink_hz=fleet.uplink_hz,
        downlink_hz=fleet.downlink_hz,
        fixed_s=fixed_s,
    )


def validate(problem: AllocationProblem) -> AllocationProblem:
    """Checks one instance on the host, before anything is compiled.

    Args:
        problem: concrete (not traced) arrays or Python numbers, not batched.

    Returns:
        The same problem as float32 JAX arrays, with `fixed_s` filled in.

    Raises:
        ValueError: naming the field, its value and what is allowed, for a wrong shape, a negative
            or non-finite number, or a load that no budget or no link can serve.
    """
    values = {
        name: np.asarray(value) for name, value in problem._asdict().items() if value is not None
    }
    n_users = values["compute_flops"].size
    values.setdefault("fixed_s", np.zeros(n_users))
    for name, value in values.items():
        if not (np.issubdtype(value.dtype, np.integer) or np.issubdtype(value.dtype, np.floating)):
            raise ValueError(f"{name}: {value.dtype} is not a number type")
        expected = (n_users,) if name in _PER_USER else ()
        if value.shape != expected:
            raise ValueError(
                f"{name}: shape {value.shape}; must be {expected}, as compute_flops says"
            )
        wrong = ~np.isfinite(value) | (value < 0)
        if wrong.any():
            raise ValueError(f"{name}{_where(wrong)} = {value[wrong][0]}; must be finite and >= 0")
    for load, budget, snr in _NEEDS:
        busy = values[load] > 0
        if busy.any() and values[budget] == 0:
            raise ValueError(f"{budget} = 0 while {load}{_where(busy)} > 0; the budget must be > 0")
        if snr is not None and (dead := busy & (values[snr] == 0)).any():
            raise ValueError(f"{snr}{_where(dead)} = 0 while {load} > 0 there; must be > 0")
    return AllocationProblem(**{k: jnp.asarray(v, jnp.float32) for k, v in values.items()})


def _where(mask: np.ndarray) -> str:
    """The first position at which the mask holds, as an index to put behind a field's name."""
    return f"[{int(np.argmax(mask))}]" if mask.ndim else ""
