"""Random allocation problems and float64 oracles for them."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.allocation import AllocationProblem, AllocationSolution, Method, Objective, solve

BATCHED = AllocationProblem(0, 0, 0, 0, 0, None, None, None, 0)  # type: ignore[arg-type]
MOST_USERS = 50
SERVER_FLOPS_PER_S, BAND_HZ = 3e10, 1e7

solve_one = jax.jit(solve, static_argnames=("method", "objective", "iterations"))


@functools.cache
def _batched(method: Method, objective: Objective):
    return jax.jit(jax.vmap(lambda p: solve(p, method, objective), in_axes=(BATCHED,)))


def solve_batch(
    batch: AllocationProblem, method: Method = "projected_gradient", objective: Objective = "sum"
) -> AllocationSolution:
    """All rows of a batch in one compiled call."""
    return _batched(method, objective)(batch)


def random_batch(
    n_instances: int, seed: int, most_users: int = MOST_USERS, decades: float = 6.0
) -> AllocationProblem:
    """Instances of 1 to `most_users` users: zero loads, empty sets, identical users.

    Loads span `decades` at most, c over an equal share of the band from 1e2 to 10^(2 + decades).
    """
    rng = np.random.default_rng(seed)
    shape = n_instances, most_users
    n_users = rng.integers(1, most_users + 1, n_instances)
    present = np.arange(most_users) < n_users[:, None]
    alike = rng.random(n_instances) < 0.1

    def loads(low: float, high: float, idle: float) -> np.ndarray:
        load = 10 ** rng.uniform(low, min(high, low + decades), shape) * (rng.random(shape) > idle)
        load[rng.random(n_instances) < 0.1] = 0.0  # nobody offloads
        load[alike] = load[alike][:, :1]
        return load * present

    def links() -> np.ndarray:
        snr_hz = BAND_HZ / n_users[:, None] * 10 ** rng.uniform(2, 2 + decades, shape)
        snr_hz[alike] = snr_hz[alike][:, :1]
        return snr_hz

    fixed_s = rng.uniform(0, 5, shape) * (rng.random(shape) < 0.5) * present
    fixed_s[alike] = 0.0
    arrays = loads(8, 12, 0.3), loads(4, 9, 0.3), loads(5, 8, 0.1), links(), links()
    budgets = SERVER_FLOPS_PER_S, BAND_HZ, BAND_HZ
    return AllocationProblem(*(jnp.asarray(a, jnp.float32) for a in (*arrays, *budgets, fixed_s)))


def instance(batch: AllocationProblem, i: int) -> AllocationProblem:
    """One instance of a batch."""
    return AllocationProblem(*(leaf[i] if leaf.ndim else leaf for leaf in jax.tree.leaves(batch)))


def resources(problem: AllocationProblem) -> list[tuple[np.ndarray, np.ndarray | None, float]]:
    """Load, snr_hz and budget of compute, uplink and downlink in float64."""
    p = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(problem)]
    return [(p[0], None, float(p[5])), (p[1], p[3], float(p[6])), (p[2], p[4], float(p[7]))]


def delays_float64(problem: AllocationProblem, shares: list) -> np.ndarray:
    """Each user's delay from first principles, in float64; works on batches."""
    total = np.asarray(problem.fixed_s, np.float64).copy()
    for (load, snr_hz, _), share in zip(resources(problem), shares, strict=True):
        share = np.asarray(share, np.float64)
        busy = load > 0
        safe = np.where(busy, share, 1.0)
        rate = safe if snr_hz is None else safe * np.log2(1 + snr_hz / safe)
        total += np.where(busy, load / rate, 0.0)
    return total


def shares_of(solution) -> list:
    return [solution.server_flops_per_s, solution.uplink_hz, solution.downlink_hz]


def bisect_float64(load: np.ndarray, snr_hz: np.ndarray | None, budget: float) -> np.ndarray:
    """Bandwidths by textbook nested bisection on L R'(b) / R(b)^2 = mu, 60 x 60 halvings."""
    bands = np.zeros_like(load)
    busy = load > 0
    if snr_hz is None or not busy.any():
        return bands
    load, snr_hz = load[busy], snr_hz[busy]

    def slope(b: np.ndarray) -> np.ndarray:
        u = snr_hz / b
        rate = b * np.log2(1 + u)
        return load * (np.log2(1 + u) - u / ((1 + u) * np.log(2))) / rate**2

    def at(log_mu: float) -> np.ndarray:
        low, high = np.full_like(load, -20.0), np.full_like(load, np.log(2 * budget))
        for _ in range(60):
            middle = (low + high) / 2
            steep = slope(np.exp(middle)) > np.exp(log_mu)
            low, high = np.where(steep, middle, low), np.where(steep, high, middle)
        return np.exp((low + high) / 2)

    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() > budget else (low, middle)
    bands[busy] = at((low + high) / 2)
    return bands


def optimum_cvxpy(problem: AllocationProblem, objective: str) -> float:
    """The objective's optimum by an interior-point solver on the original cone programme.

    It loses digits, or fails, where loads and links span many decades: give it tame instances.
    """
    import cvxpy as cp

    equal = solve_one(problem, method="equal", objective=objective)
    scale_s = max(float(equal.total_s), 1e-9)
    fixed_s = np.asarray(problem.fixed_s, np.float64) / scale_s
    delay = [cp.Constant(f) for f in fixed_s]
    constraints = []
    for load, snr_hz, budget in resources(problem):
        users = np.flatnonzero(load > 0)
        if not len(users):
            continue
        share = cp.Variable(len(users), nonneg=True)  # of the budget
        constraints.append(cp.sum(share) <= 1)
        for k, n in enumerate(users):
            if snr_hz is None:
                inverse, unit_s = cp.inv_pos(share[k]), load[n] / budget
            else:
                nats = -cp.rel_entr(share[k], share[k] + snr_hz[n] / budget)
                inverse, unit_s = cp.inv_pos(nats), load[n] / budget * np.log(2)
            delay[n] = delay[n] + unit_s / scale_s * inverse
    value = cp.sum(cp.hstack(delay)) if objective == "sum" else cp.max(cp.hstack(delay))
    programme = cp.Problem(cp.Minimize(value), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        programme.solve(solver="CLARABEL")
    assert programme.status == "optimal"
    return scale_s * float(np.asarray(programme.value))
