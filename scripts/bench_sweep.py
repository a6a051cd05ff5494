"""A grid in one process against the same rows with a process each, on the wall clock.

Both sides run `fedjax-kd sweep` on one grid file: once with all rows, which the planner stacks by
what is static, and once as a loop over `--rows I`, as a script around a simulator without sweeps
does it. Either side begins with an empty folder of compiled programs; the loop's processes share
theirs, so that only the first of them compiles. The loop is run with one process after the other,
each with all cores, and with as many at once as there are cores, each with one device; or with as
many at once as `--at-once` says.

Afterwards the results are compared: a row of the stack against the same row by itself.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import fedjax_kd
from fedjax_kd.command_line_values import count
from fedjax_kd.study.environment import available_cpus, versions
from fedjax_kd.study.grid.rows import rows_of
from fedjax_kd.study.grid.settings import load_grid

ROOT = Path(__file__).resolve().parents[1]
GRID = ROOT / "experiments/grids/digits.yaml"
CLOSE = 1e-4  # of a metric's largest value
KEYS = ["row", "round", "scope", "metric"]


class Measured(NamedTuple):
    """One way of running the rows: what it is called, processes, seconds and its results."""

    name: str
    processes: int
    seconds: float
    results: pd.DataFrame


def sweep(grid: Path, out: Path, cache: Path, options: Sequence[str]) -> None:
    """Runs one process of the command, silently.

    Raises:
        SystemExit: if it fails; shows what it said.
    """
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-m", "fedjax_kd.cli", "sweep", str(grid), "--out", str(out)]
    command += ["--quiet", "--execution", "sequential", *options]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {ended.returncode}:\n{ended.stderr}")


def stacked(grid: Path, n_rows: int | None, scratch: Path) -> Measured:
    """The first so many rows, or all, in one process."""
    options = () if n_rows is None else ("--rows", f"0:{n_rows}")
    began_s = time.perf_counter()
    sweep(grid, scratch / "stacked", scratch / "stacked-cache", options)
    seconds = time.perf_counter() - began_s
    return Measured("one sweep", 1, seconds, fedjax_kd.load_results(scratch / "stacked"))


def one_by_one(grid: Path, rows: Sequence[int], at_once: int, scratch: Path) -> Measured:
    """A process for every row, each with a folder of its own."""
    name = f"alone-{at_once}"
    devices = ("--devices", "1") if at_once > 1 else ()

    def run(row: int) -> None:
        options = ("--rows", str(row), *devices)
        sweep(grid, scratch / name / str(row), scratch / f"{name}-cache", options)

    began_s = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, rows))
    seconds = time.perf_counter() - began_s
    frames = [fedjax_kd.load_results(scratch / name / str(row)) for row in rows]
    label = "a process for each row" + (f", {at_once} at once" if at_once > 1 else "")
    return Measured(label, len(rows), seconds, pd.concat(frames, ignore_index=True))


def largest_difference(one: Any, other: Any) -> float:
    """The largest difference of any metric of any row, relative to the metric's largest value.

    Raises:
        SystemExit: if one side has rows that the other has not, or a number where the other has
            none (NaN, or an infinity).
    """
    both = one.merge(other, on=KEYS, how="outer", suffixes=("_one", "_other"), indicator=True)
    if (both["_merge"] != "both").any():
        raise SystemExit("the two sides have different rows of results")
    first, second = both["value_one"].to_numpy(float), both["value_other"].to_numpy(float)
    finite = np.isfinite(first)
    missing = np.isnan(first) & np.isnan(second)
    alike = (finite & np.isfinite(second)) | missing | (first == second)
    if not alike.all():
        odd = both.loc[~alike, [*KEYS, "value_one", "value_other"]].head(3)
        raise SystemExit(f"a value is not finite on one side only:\n{odd.to_string(index=False)}")
    if not finite.any():
        raise SystemExit("there is no finite value to compare")
    both = both[finite]
    scale = both.groupby("metric", observed=True)["value_one"].transform(lambda v: v.abs().max())
    apart = (both["value_one"] - both["value_other"]).abs()
    return float((apart / scale).where(apart > 0, 0.0).max())


def agreement(one: Any, other: Any) -> str:
    """How far rows agree: in the first rounds, in how many rows to the end, and at the most."""
    begun = one["round"] == one["round"].min(), other["round"] == other["round"].min()
    at_first = largest_difference(one[begun[0]], other[begun[1]])
    rows = sorted(one["row"].unique())
    apart = [largest_difference(one[one["row"] == r], other[other["row"] == r]) for r in rows]
    within = sum(value <= CLOSE for value in apart)
    equal = sum(value == 0 for value in apart)
    return (
        f"after the first round they differ by {at_first:.1e} of a metric's largest value at most. "
        f"To the end {equal} of {len(rows)} rows are equal bit for bit and {within} within "
        f"{CLOSE:g}; in the others, whose training is unstable, sums in another order grow into "
        f"other courses (the largest difference is {max(apart):.1e})."
    )


def command_of(arguments: argparse.Namespace, machine: str) -> str:
    """The words that measure the same again; `machine` is what is said if nothing is given."""
    words = ["python", "scripts/bench_sweep.py"]
    if arguments.grid.resolve() != GRID:
        words += ["--grid", str(arguments.grid)]
    if arguments.rows is not None:
        words += ["--rows", str(arguments.rows)]
    if arguments.at_once is not None:
        words += ["--at-once", *map(str, arguments.at_once)]
    if arguments.out is not None:
        words += ["--out", str(arguments.out)]
    if arguments.machine != machine:
        words += ["--machine", arguments.machine]
    return shlex.join(words)


def page(table: list[dict[str, object]], agreed: str, command: str, machine: str) -> str:
    """The benchmark's page."""
    head = list(table[0])
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in table]
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return (
        "# A grid in one process against a process for each row\n\n"
        + "\n".join(lines)
        + "\n\nSeconds on the wall clock from an empty folder of compiled programs to the last "
        "result; `times_sweep` is how many times as long as the sweep it took. The processes of a "
        "loop share their compiled programs.\n\n"
        f"Stacked rows against the same rows by themselves: {agreed}\n\n"
        f"- Command: `{command}`\n- Date: {time.strftime('%Y-%m-%d')}\n- Machine: {machine}\n"
        f"- Versions: {packages}\n"
    )


def parser_of(machine: str) -> argparse.ArgumentParser:
    """The words of this script; `machine` is said on the page if nothing is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--grid", type=Path, default=GRID)
    parser.add_argument("--rows", type=count, help="only the first so many rows")
    parser.add_argument(
        "--at-once",
        type=count,
        nargs="+",
        metavar="N",
        help="how many processes of the loop run at once; default: 1, and the number of cores",
    )
    parser.add_argument("--out", type=Path, help="folder for sweep.csv and sweep.md")
    parser.add_argument("--machine", default=machine, help="what it was measured on")
    return parser


def main() -> None:
    """Runs both sides, prints the table and writes it."""
    machine = f"{available_cpus()} cores, {platform.machine()}, no accelerator"
    arguments = parser_of(machine).parse_args()
    grid = arguments.grid.resolve()
    rows = [row.index for row in rows_of(load_grid(grid))][: arguments.rows]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        ours = stacked(grid, None if arguments.rows is None else len(rows), scratch)
        print(f"{ours.name}: {ours.seconds:.1f} s", flush=True)
        loops = []
        for at_once in dict.fromkeys(arguments.at_once or (1, available_cpus())):
            loops.append(one_by_one(grid, rows, at_once, scratch))
            print(f"{loops[-1].name}: {loops[-1].seconds:.1f} s", flush=True)
    agreed = agreement(ours.results, loops[-1].results)
    table: list[dict[str, object]] = [
        {
            "way": each.name,
            "rows": each.results["row"].nunique(),
            "processes": each.processes,
            "seconds": round(each.seconds, 1),
            "times_sweep": round(each.seconds / ours.seconds, 1),
        }
        for each in (ours, *loops)
    ]
    text = page(table, agreed, command_of(arguments, machine), arguments.machine)
    print(text)
    if arguments.out is None:
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "sweep.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    (arguments.out / "sweep.md").write_text(text)


if __name__ == "__main__":
    main()
