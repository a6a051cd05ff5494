"""The words of `fedjax-kd sweep`, and its help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedjax_kd.command_line_values import (
    add_checkpoint_options,
    add_run_time_options,
    count,
    form,
)


def add_sweep(commands: Any) -> argparse.ArgumentParser:
    """Adds the command `sweep`."""
    sweep = commands.add_parser(
        "sweep",
        help="run every row of a grid of settings",
        description="""\
Run a study for every combination of settings in a grid file, with every seed.

Rows (a combination with one seed) that differ in numbers only are stacked and run as one program;
the others are run one after the other. A row that is done is never run again, one that failed is
recorded with its reason and does not take the others with it. Several processes may work on the
same folder at once, started with the same command or each with --rows of its own.""",
        epilog="""\
a grid file:
  study: family/digits.yaml             # beside the grid file; or the settings themselves
  set: {rounds: 10}                     # for every row
  grid:                                 # the product of these
    - product: {contestants: [[local], [local, fd]], training.learning_rate: [0.01, 0.1]}
    - zip: {data.partition.alpha: [0.1, 1.0], data.users: [10, 20]}
    - list: [{evaluation.every: 2}, {evaluation.every: 5, public_set.per_round: 50}]
  seeds: 8                              # 0 to 7, or a list

examples:
  fedjax-kd sweep grid.yaml --dry-run                 what would run: programs, memory, time
  fedjax-kd sweep grid.yaml --out results/grid
  fedjax-kd sweep grid.yaml --out results/grid --rows 0:16
  fedjax-kd sweep grid.yaml --out results/grid --rows $SLURM_ARRAY_TASK_ID
  fedjax-kd sweep grid.yaml --out results/grid --retry-failed
  fedjax-kd report results/grid

The exit code is 0 if all rows asked for are done, 3 if some of them failed.""",
    )
    sweep.add_argument("file", metavar="GRID", help="a grid in YAML")
    sweep.add_argument("--out", metavar="DIR", type=Path, help="folder for the grid's results")
    sweep.add_argument(
        "--rows",
        metavar="R",
        help="which rows, counted from 0: numbers and ranges without their ends, as in 7, 0:16, "
        "0:100:10 or 3,7,9:12",
    )
    sweep.add_argument(
        "--width",
        metavar="W",
        type=count,
        help="most rows that are stacked in one program; by default what memory allows",
    )
    sweep.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    sweep.add_argument("--retry-failed", action="store_true", help="run rows that failed again")
    sweep.add_argument(
        "--force",
        action="store_true",
        help="if DIR holds another grid, rename it to DIR.old-1 (or -2, ...) and start anew",
    )
    sweep.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a setting in every row",
    )
    sweep.add_argument(
        "--execution",
        metavar="FORM",
        type=form,
        default="auto",
        help="how clients are trained, as for `run`",
    )
    add_run_time_options(sweep)
    add_checkpoint_options(sweep)
    return sweep
