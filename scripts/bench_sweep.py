"""A grid in one process against the same rows with a process each, on the wall clock.

Both sides run `fedjax-kd sweep` on one grid file: once with all rows, which the planner stacks by
what is static, and once as a loop over `--rows I`, as a script around a simulator without sweeps
does it. Either side begins with an empty folder of compiled programs; the loop's processes share
theirs, so that only the first of them compiles. The loop is run in two ways: one process after the
other, each with all cores, and as many at once as there are cores, each with one device.

Afterwards the results are compared: a row of the stack against the same row by itself.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import fedjax_kd
from fedjax_kd.study.environment import available_cpus, versions
from fedjax_kd.study.grid.rows import rows_of
from fedjax_kd.study.grid.settings import load_grid

ROOT = Path(__file__).resolve().parents[1]
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


def stacked(grid: Path, scratch: Path) -> Measured:
    """All rows in one process."""
    began_s = time.perf_counter()
    sweep(grid, scratch / "stacked", scratch / "stacked-cache", ())
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
        SystemExit: if one side has rows that the other has not.
    """
    both = one.merge(other, on=KEYS, how="outer", suffixes=("_one", "_other"), indicator=True)
    if (both["_merge"] != "both").any():
        raise SystemExit("the two sides have different rows of results")
    scale = both.groupby("metric", observed=True)["value_one"].transform(lambda v: v.abs().max())
    return float(((both["value_one"] - both["value_other"]).abs() / scale).max())


def page(table: list[dict[str, object]], difference: float, command: str, machine: str) -> str:
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
        "Stacked rows against the same rows by themselves: the largest difference of any metric "
        f"at any round is {difference:.1e} of the metric's largest value.\n\n"
        f"- Command: `{command}`\n- Date: {time.strftime('%Y-%m-%d')}\n- Machine: {machine}\n"
        f"- Versions: {packages}\n"
    )


def main() -> None:
    """Runs both sides, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--grid", type=Path, default=ROOT / "experiments/grids/digits.yaml")
    parser.add_argument("--rows", type=int, help="only the first so many rows of the loop")
    parser.add_argument("--out", type=Path, help="folder for sweep.csv and sweep.md")
    parser.add_argument(
        "--machine", default=f"{available_cpus()} cores, {platform.machine()}, no accelerator"
    )
    arguments = parser.parse_args()
    grid = arguments.grid.resolve()
    rows = [row.index for row in rows_of(load_grid(grid))][: arguments.rows]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        ours = stacked(grid, scratch)
        print(f"{ours.name}: {ours.seconds:.1f} s", flush=True)
        loops = []
        for at_once in dict.fromkeys((1, available_cpus())):
            loops.append(one_by_one(grid, rows, at_once, scratch))
            print(f"{loops[-1].name}: {loops[-1].seconds:.1f} s", flush=True)
    mine = ours.results[ours.results["row"].isin(rows)]
    difference = max(largest_difference(mine, loop.results) for loop in loops)
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
    shown = f" --rows {arguments.rows}" if arguments.rows else ""
    where = f" --out {arguments.out}" if arguments.out else ""
    text = page(
        table, difference, f"python scripts/bench_sweep.py{shown}{where}", arguments.machine
    )
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
