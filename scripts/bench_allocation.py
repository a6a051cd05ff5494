"""Batched allocation in JAX against SciPy's SLSQP and cvxpy one instance at a time.

Every instance divides the server's compute, the uplink and the downlink of N users so that the sum
of their delays is least. Ours returns shares, delays, status and residual of a whole batch in one
compiled call, in float32.

SLSQP is given a fair chance: float64; the three resources as three separate problems (less work
than one of 3 N variables); shares of the budget as variables between 1e-9 and 1; the objective
scaled by its value at the start; analytical gradients of objective and constraint; tolerance 1e-6;
and the square root rule as start, which is where ours starts as well. BLAS runs on one thread,
which is faster for matrices of this size. cvxpy compiles one parametrised programme (disciplined,
so that a solve only sets parameters) and calls Clarabel.

The variants take turns within every round, so that a busy machine slows all of them alike. The gaps
are taken in float64 against the best value that any variant found for the instance.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from fedjax_kd.allocation import AllocationProblem, Method, solve

BATCHED = AllocationProblem(0, 0, 0, 0, 0, None, None, None)  # type: ignore[arg-type]
SERVER_FLOPS_PER_S, BAND_HZ = 3e10, 2e7


def instances(count: int, users: int) -> AllocationProblem:
    """Random instances in the range of a cell: loads over two decades, c / b from 1e2 to 1e8."""
    rng = np.random.default_rng(0)
    shape = count, users

    def spread(low: float, high: float) -> np.ndarray:
        return 10 ** rng.uniform(low, high, shape)

    links = [BAND_HZ / users * spread(2, 8) for _ in range(2)]
    arrays = spread(10, 12), spread(6, 8), spread(5, 7), *links
    budgets = SERVER_FLOPS_PER_S, BAND_HZ, BAND_HZ
    return AllocationProblem(*(jnp.asarray(a, jnp.float32) for a in (*arrays, *budgets)))


def unit_problems(problem: AllocationProblem, i: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Instance i as three problems in shares: seconds per unit share, and c / B for the bands."""
    p = [np.asarray(leaf, np.float64) for leaf in problem if leaf is not None]
    return [
        (p[0][i] / p[5], None),
        (p[1][i] * np.log(2) / p[6], p[3][i] / p[6]),
        (p[2][i] * np.log(2) / p[7], p[4][i] / p[7]),
    ]


def value_s(unit_s: np.ndarray, snr: np.ndarray | None, share: np.ndarray) -> float:
    """Summed delay of one resource in float64."""
    speed = share if snr is None else share * np.log1p(snr / share)
    return float(np.sum(unit_s / speed))


def solve_slsqp(problem: AllocationProblem, i: int) -> float:
    """Summed delay of instance i by SLSQP."""
    total_s = 0.0
    for unit_s, snr in unit_problems(problem, i):
        start = np.sqrt(unit_s) / np.sqrt(unit_s).sum()
        scale_s = value_s(unit_s, snr, start)
        ones = np.ones_like(start)

        def objective(share, unit_s=unit_s, snr=snr, scale_s=scale_s):
            if snr is None:
                return np.sum(unit_s / share) / scale_s, -unit_s / share**2 / scale_s
            ratio = snr / share
            nats = np.log1p(ratio)
            slope = (nats - ratio / (1 + ratio)) / (share * nats) ** 2
            return np.sum(unit_s / (share * nats)) / scale_s, -unit_s * slope / scale_s

        found = minimize(
            objective,
            start,
            jac=True,
            method="SLSQP",
            bounds=[(1e-9, 1.0)] * len(start),
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": lambda x, o=ones: o},
            options={"ftol": 1e-6, "maxiter": 500},
        )
        total_s += value_s(unit_s, snr, np.asarray(found.x) / np.sum(found.x))
    return total_s


def cvxpy_solver(users: int) -> Callable[[AllocationProblem, int], float]:
    """Builds the parametrised programme of one resource pair, and returns its solver."""
    import cvxpy as cp

    def programme(banded: bool):
        share = cp.Variable(users, nonneg=True)
        unit_s, snr = cp.Parameter(users, nonneg=True), cp.Parameter(users, nonneg=True)
        speed = -cp.rel_entr(share, share + snr) if banded else share
        cost = cp.sum(cp.multiply(unit_s, cp.inv_pos(speed)))
        whole = cp.sum(share) <= 1
        task = cp.Problem(cp.Minimize(cost), [whole])  # type: ignore[list-item]
        return task, share, unit_s, snr

    programmes = {True: programme(True), False: programme(False)}

    def run(problem: AllocationProblem, i: int) -> float:
        total_s = 0.0
        for unit_s, snr in unit_problems(problem, i):
            task, share, units, snrs = programmes[snr is not None]
            scale_s = unit_s.max()
            units.value = unit_s / scale_s
            if snr is not None:
                snrs.value = snr
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                task.solve(solver="CLARABEL")
            found = np.maximum(np.asarray(share.value, np.float64), 1e-12)
            total_s += value_s(unit_s, snr, found / found.sum())
        return total_s

    return run


def values_of(problem: AllocationProblem, solution, count: int) -> np.ndarray:
    """Summed delays in float64 of the first `count` instances of a batch that we solved."""
    shares = [
        np.asarray(solution.server_flops_per_s, np.float64) / SERVER_FLOPS_PER_S,
        np.asarray(solution.uplink_hz, np.float64) / BAND_HZ,
        np.asarray(solution.downlink_hz, np.float64) / BAND_HZ,
    ]
    return np.array(
        [
            sum(
                value_s(unit_s, snr, share[i])
                for (unit_s, snr), share in zip(unit_problems(problem, i), shares, strict=True)
            )
            for i in range(count)
        ]
    )


def budget_error(solution) -> float:
    """Largest relative distance of a sum of shares from its budget."""
    pairs = (
        (solution.server_flops_per_s, SERVER_FLOPS_PER_S),
        (solution.uplink_hz, BAND_HZ),
        (solution.downlink_hz, BAND_HZ),
    )
    return max(
        float(np.abs(np.asarray(s, np.float64).sum(axis=1) / budget - 1).max())
        for s, budget in pairs
    )


def measure(arguments: argparse.Namespace) -> tuple[list[dict[str, object]], float]:
    """Times every variant in turn; returns one row per variant and our largest budget error."""
    problem = instances(arguments.instances, arguments.users)
    per_round, rounds = arguments.slsqp // arguments.rounds, arguments.rounds
    count = per_round * rounds

    def batched(method: Method):
        function = jax.vmap(lambda p: solve(p, method), in_axes=(BATCHED,))
        return jax.jit(function).lower(problem).compile()

    ours = {name: batched(name) for name in ("projected_gradient", "closed_form")}
    singles: dict[str, Callable[[AllocationProblem, int], float]] = {"SciPy SLSQP": solve_slsqp}
    if arguments.cvxpy:
        singles["cvxpy with parameters"] = cvxpy_solver(arguments.users)
    for run in ours.values():
        jax.block_until_ready(run(problem))
    for run in singles.values():
        run(problem, 0)

    rates: dict[str, list[float]] = {name: [] for name in (*ours, *singles)}
    found: dict[str, list[float]] = {name: [] for name in singles}
    for index in range(rounds):
        for name, run in singles.items():
            begin_s = time.perf_counter()
            for i in range(index * per_round, (index + 1) * per_round):
                found[name].append(run(problem, i))
            rates[name].append(per_round / (time.perf_counter() - begin_s))
        for name, run in ours.items():
            repeats = arguments.repeats if name == "projected_gradient" else 1
            begin_s = time.perf_counter()
            for _ in range(repeats):
                jax.block_until_ready(run(problem))
            rates[name].append(repeats * arguments.instances / (time.perf_counter() - begin_s))

    solutions = {name: run(problem) for name, run in ours.items()}
    values = {name: values_of(problem, s, count) for name, s in solutions.items()}
    values |= {name: np.array(v) for name, v in found.items()}
    best = np.min(np.stack(list(values.values())), axis=0)
    rows = []
    for name in rates:
        ratios = [a / b for a, b in zip(rates[name], rates["SciPy SLSQP"], strict=True)]
        per_s = statistics.median(rates[name])
        rows.append(
            {
                "variant": f"ours, {name}" if name in ours else name,
                "instances_at_once": arguments.instances if name in ours else 1,
                "users": arguments.users,
                "solves_per_s": round(per_s, 1) if per_s < 1000 else round(per_s),
                "times_slsqp": round(statistics.median(ratios), 1),
                "times_slsqp_lowest": round(min(ratios), 1),
                "largest_gap": f"{np.max(values[name] / best - 1):.1e}",
            }
        )
    return rows, max(budget_error(s) for s in solutions.values())


def markdown(rows: list[dict[str, object]]) -> str:
    """Formats the rows as a table."""
    lines = [
        "| " + " | ".join(rows[0]) + " |",
        "|" + "|".join("---" if name == "variant" else "--:" for name in rows[0]) + "|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(map(str, r.values())) + " |" for r in rows)])


def main() -> None:
    """Runs the bench, prints the table and writes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=30, help="users N (default: 30)")
    parser.add_argument("--instances", type=int, default=4096, help="in a batch (default: 4096)")
    parser.add_argument("--slsqp", type=int, default=50, help="solved singly (default: 50)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--repeats", type=int, default=20, help="batches a round (default: 20)")
    parser.add_argument("--cvxpy", action="store_true", help="measure cvxpy as well")
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder for allocation.csv and allocation.md; nothing is written without it",
    )
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="date to write down")
    parser.add_argument(
        "--machine",
        default=f"{os.cpu_count()} cores, {platform.machine()}, {jax.default_backend()}",
        help="kind of machine to write down",
    )
    arguments = parser.parse_args()
    for name in ("users", "instances", "slsqp", "rounds", "repeats"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if not arguments.rounds <= arguments.slsqp <= arguments.instances:
        parser.error("--slsqp must lie between --rounds and --instances")

    with threadpool_limits(1):  # two BLAS threads only slow down matrices of this size
        rows, worst_budget = measure(arguments)
    table = markdown(rows)
    print(table)
    print(f"largest relative budget error of ours: {worst_budget:.1e}")
    if arguments.out is None:
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "allocation.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    packages = ["jax", "numpy", "scipy"] + (["cvxpy", "clarabel"] if arguments.cvxpy else [])
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    options = (
        f"--users {arguments.users} --instances {arguments.instances} --slsqp {arguments.slsqp} "
        f"--rounds {arguments.rounds} --repeats {arguments.repeats}"
        + (" --cvxpy" if arguments.cvxpy else "")
    )
    (arguments.out / "allocation.md").write_text(
        f"# Allocation: a compiled batch against one instance at a time\n\n{table}\n\n"
        "Medians over interleaved rounds; `times_slsqp` is the median of the rounds' ratios, "
        "`times_slsqp_lowest` the lowest of them. One solve divides compute, uplink and downlink. "
        "Compilation is not counted, nor is building the cvxpy programme. `largest_gap` is "
        f"relative, in float64, to the best value that any variant found, over the first "
        f"{arguments.slsqp // arguments.rounds * arguments.rounds} instances. The shares of ours "
        f"keep their budgets to {worst_budget:.1e} relative in all {arguments.instances}.\n\n"
        "SLSQP works in float64 on three separate problems of normalised shares, with the "
        "objective scaled to one at the start, analytical gradients, tolerance 1e-6, and the "
        "square root rule as start (ours starts there too); BLAS on one thread, which suits it.\n\n"
        f"- Command: `python scripts/bench_allocation.py {options}`\n"
        f"- Date: {arguments.date}\n"
        f"- Machine: {arguments.machine}\n"
        f"- Versions: Python {sys.version.split()[0]}, {versions}\n"
    )


if __name__ == "__main__":
    main()
