"""Q-learning in JAX against the same algorithm as a NumPy loop, in user-steps per second.

One user-step is one user decided once and its table entry updated once. Both sides learn on the
same instance with the same rates; the NumPy loop is the oracle of the tests, the instance theirs
as well. The runs are interleaved, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.policy import QLearningRates, q_learning

ROOT = Path(__file__).resolve().parents[1]
# The defaults, stated because the NumPy loop below draws by the same schedule.
RATES = QLearningRates(epsilon_start=1.0, epsilon_end=0.02, epsilon_decay=0.7)


def load_test_module(name: str) -> ModuleType:
    """Imports a module of tests/policy by its path."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "policy" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"tests/policy/{name}.py is missing: run from a checkout")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def numpy_run(instance, users: int, n_actions: int, episodes: int) -> Callable[[], object]:
    """The NumPy loop over one seed, exploration drawn in blocks as in JAX."""
    toy = load_test_module("toy_instances")
    oracle = load_test_module("numpy_q_learning")

    def explored():
        rng = np.random.default_rng(0)
        for first in range(0, episodes, 64):
            episode = np.arange(first, min(first + 64, episodes))
            epsilon = 1 - 0.98 * np.minimum(1, episode / (0.7 * episodes))
            number = rng.random((episode.size, users)) / epsilon[:, None]
            yield from np.where(number < 1, (number * n_actions).astype(np.int64), -1)

    utility = partial(toy.prefix_utility_numpy, instance)
    feasible = np.ones((users, n_actions), bool)
    return lambda: oracle.numpy_q_learning(explored(), utility, feasible)


def jax_run(utility, users: int, n_actions: int, episodes: int, seeds: int):
    """Q-learning compiled ahead of time, over one seed or `seeds` of them at once."""
    feasible = jnp.ones((users, n_actions), bool)

    def learn(key):
        return q_learning(key, utility, feasible, RATES, episodes=episodes)

    if seeds == 1:
        keys, function = jax.random.key(0), learn
    else:
        keys, function = jax.random.split(jax.random.key(0), seeds), jax.vmap(learn)
    compiled = jax.jit(function).lower(keys).compile()
    return lambda: jax.block_until_ready(compiled(keys))


def measure(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Times every variant `repeats` times in turn and returns one row per variant."""
    users, n_actions = arguments.users, arguments.actions
    toy = load_test_module("toy_instances")
    instance = toy.toy_instance(0, users=users, students=n_actions // 2)
    utility = partial(toy.prefix_utility, toy.on_device(instance))

    def free_utility(actions):
        return jnp.zeros(users + 1) + actions[0].astype(jnp.float32)

    jax_episodes, numpy_episodes = arguments.episodes, arguments.numpy_episodes
    variants: list[tuple[str, int, int, Callable[[], object]]] = [
        (
            "NumPy loop, one seed",
            1,
            numpy_episodes,
            numpy_run(instance, users, n_actions, numpy_episodes),
        )
    ]
    cases = [("JAX", utility, 1), ("JAX", utility, arguments.seeds), ("JAX", free_utility, 1)]
    for label, function, seeds in cases:
        name = f"{label}, {'one seed' if seeds == 1 else f'{seeds} seeds at once'}"
        name += ", utility free of cost" if function is free_utility else ""
        run = jax_run(function, users, n_actions, jax_episodes, seeds)
        variants.append((name, seeds, jax_episodes, run))

    times_s: list[list[float]] = [[] for _ in variants]
    processor_s: list[list[float]] = [[] for _ in variants]
    for _, _, _, run in variants:
        run()
    for _ in range(arguments.repeats):
        for index, (_, _, _, run) in enumerate(variants):
            begin_s, begin_processor_s = time.perf_counter(), time.process_time()
            run()
            processor_s[index].append(time.process_time() - begin_processor_s)
            times_s[index].append(time.perf_counter() - begin_s)

    def rates_per_s(spent_s: list[list[float]]) -> list[list[float]]:
        return [
            [users * episodes * seeds / t for t in row]
            for (_, seeds, episodes, _), row in zip(variants, spent_s, strict=True)
        ]

    def ratios(per_s: list[list[float]], index: int) -> list[float]:
        return [ours / theirs for ours, theirs in zip(per_s[index], per_s[0], strict=True)]

    per_s, per_processor_s = rates_per_s(times_s), rates_per_s(processor_s)
    rows = []
    for index, (name, seeds, episodes, _) in enumerate(variants):
        steps_per_s = statistics.median(per_s[index])
        rows.append(
            {
                "variant": name,
                "users": users,
                "actions": n_actions,
                "seeds": seeds,
                "episodes": episodes,
                "user_steps_per_s": round(steps_per_s),
                "us_per_episode_and_seed": round(1e6 * users / steps_per_s, 2),
                "times_numpy": round(statistics.median(ratios(per_s, index)), 1),
                "times_numpy_lowest": round(min(ratios(per_s, index)), 1),
                "times_numpy_processor_time": round(
                    statistics.median(ratios(per_processor_s, index)), 1
                ),
            }
        )
    return rows


def markdown(rows: list[dict[str, object]]) -> str:
    """Formats the rows as a table."""
    lines = [
        "| " + " | ".join(rows[0]) + " |",
        "|" + "|".join("---" if name == "variant" else "--:" for name in rows[0]) + "|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(map(str, r.values())) + " |" for r in rows)])


def main() -> None:
    """Runs the bench, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=30, help="users N (default: 30)")
    parser.add_argument(
        "--actions", type=int, default=8, help="joint actions A, an even number (default: 8)"
    )
    parser.add_argument(
        "--seeds", type=int, default=16, help="seeds learned at once in JAX, >= 2 (default: 16)"
    )
    parser.add_argument(
        "--episodes", type=int, default=20_000, help="episodes of a JAX run (default: 20000)"
    )
    parser.add_argument(
        "--numpy-episodes", type=int, default=1_000, help="of a NumPy run (default: 1000)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder for policy.csv and policy.md; nothing is written without it",
    )
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="date to write down")
    parser.add_argument(
        "--machine",
        default=f"{os.cpu_count()} cores, {platform.machine()}, {jax.default_backend()}",
        help="kind of machine to write down",
    )
    arguments = parser.parse_args()
    if arguments.actions < 2 or arguments.actions % 2:
        parser.error(f"--actions is {arguments.actions}: it must be an even number from 2 on")
    for name in ("users", "episodes", "numpy_episodes", "repeats"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if arguments.seeds < 2:
        parser.error(f"--seeds is {arguments.seeds}: it must be at least 2")

    rows = measure(arguments)
    table = markdown(rows)
    print(table)
    if arguments.out is None:
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "policy.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    versions = f"Python {platform.python_version()}, jax {jax.__version__}, numpy {np.__version__}"
    command = (
        f"python scripts/bench_policy.py --users {arguments.users} --actions {arguments.actions} "
        f"--seeds {arguments.seeds} --episodes {arguments.episodes} "
        f"--numpy-episodes {arguments.numpy_episodes} --repeats {arguments.repeats}"
    )
    (arguments.out / "policy.md").write_text(
        "# Tabular Q-learning: JAX against a NumPy loop\n\n"
        f"{table}\n\n"
        "Medians over interleaved rounds; `times_numpy` is the median of the rounds' ratios, "
        "`times_numpy_lowest` the lowest of them, `times_numpy_processor_time` the same ratio in "
        "processor time, which other work on the machine disturbs less. Compilation is not "
        "counted. Both sides learn on the same instance, whose utility is a few cumulative sums; "
        "the last row gives the learning alone.\n\n"
        f"- Command: `{command}`\n- Date: {arguments.date}\n- Machine: {arguments.machine}\n"
        f"- Versions: {versions}\n"
    )


if __name__ == "__main__":
    main()
