"""Sends a grid to Slurm as an array of jobs, each with its share of the rows.

    pip install 'fedjax-kd[slurm]'
    python scripts/submit_slurm.py grid.yaml --out results/grid --jobs 8 --partition gpu --gpus 1
    python scripts/submit_slurm.py grid.yaml --out results/grid --jobs 2 --executor local --wait
    python scripts/submit_slurm.py grid.yaml --out results/grid -- --width 8 --checkpoint-minutes 5

The folder of results and the grid file must be reachable from every node. A job that is pre-empted
or out of time stops with a checkpoint and is queued again; a grid that was not finished, for
whatever reason, is sent again with the same command: rows that are done are not run twice. Words
after `--` go to `fedjax-kd sweep` as they are; --out, --rows and --force are not among them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit

from fedjax_kd.cli import COMMANDS
from fedjax_kd.command_line import command_line
from fedjax_kd.study.grid.job import SweepJob
from fedjax_kd.study.grid.rows import rows_of
from fedjax_kd.study.grid.settings import load_grid
from fedjax_kd.study.problems import SettingsError


def shares(n_rows: int, n_jobs: int) -> list[str]:
    """Neighbouring rows for each job, as `--rows` takes them, in shares as equal as can be."""
    count = min(n_jobs, n_rows)
    bounds = [place * n_rows // count for place in range(count + 1)]
    return [f"{bounds[place]}:{bounds[place + 1]}" for place in range(count)]


def submit(arguments: argparse.Namespace) -> list[Any]:
    """Sends the jobs; returns them.

    Raises:
        SettingsError: the grid cannot be used, or a word that is passed on is not a job's to have.
    """
    swept = _passed_on(arguments)
    grid = load_grid(arguments.grid, swept.set)
    n_rows = len(rows_of(grid, swept.data_dir or arguments.data_dir))
    words = [str(arguments.grid.absolute()), "--out", str(arguments.out.absolute())]
    if arguments.data_dir is not None:
        words += ["--data-dir", str(arguments.data_dir.absolute())]
    words += arguments.sweep
    jobs = [SweepJob([*words, "--rows", share]) for share in shares(n_rows, arguments.jobs)]
    logs = arguments.logs or arguments.out.with_name(f"{arguments.out.name}.jobs")
    executor = submitit.AutoExecutor(logs, arguments.executor)
    executor.update_parameters(
        name=arguments.name, timeout_min=arguments.minutes, cpus_per_task=arguments.cpus
    )
    if arguments.gpus:
        executor.update_parameters(gpus_per_node=arguments.gpus)
    if arguments.memory_gb:
        executor.update_parameters(mem_gb=arguments.memory_gb)
    if arguments.partition:
        executor.update_parameters(slurm_partition=arguments.partition)
    with executor.batch():
        return [executor.submit(job) for job in jobs]


def main(argv: Sequence[str] | None = None) -> int:
    """Submits a grid; 0 if all is well, 3 if rows failed, 2 if the grid was refused, 1 if a job."""
    words = list(sys.argv[1:] if argv is None else argv)
    own, passed = _divided(words)
    arguments = _parser().parse_args(own)
    arguments.sweep = passed
    try:
        jobs = submit(arguments)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(jobs)} jobs: {', '.join(str(job.job_id) for job in jobs)}", flush=True)
    if not arguments.wait:
        return 0
    codes = []
    for job in jobs:
        try:
            codes.append(job.result())
        except Exception as error:  # of the job: submitit brings home its output
            print(f"job {job.job_id} failed: {error}\n{job.stderr() or ''}", file=sys.stderr)
            codes.append(1)
    return 1 if 1 in codes else max(codes)


def _passed_on(arguments: argparse.Namespace) -> argparse.Namespace:
    """What `fedjax-kd sweep` makes of the words after `--`."""
    words = ["sweep", str(arguments.grid), *arguments.sweep]
    swept = command_line(COMMANDS).parse_args(words)
    problems = []
    if swept.rows is not None:
        problems.append("--rows: found after --; allowed: --jobs, which divides the rows")
    if swept.out is not None:
        problems.append("--out: found after --; allowed: before it")
    if swept.force:
        problems.append(
            "--force: found after --; allowed: nowhere, as every job would move the results of the "
            "others aside; name another --out"
        )
    if problems:
        raise SettingsError(problems)
    return swept


def _divided(words: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in words:
        return words, []
    place = words.index("--")
    return words[:place], words[place + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", type=Path, metavar="GRID", help="a grid file")
    parser.add_argument("--out", type=Path, required=True, help="the grid's folder")
    parser.add_argument("--jobs", type=_count, default=4, help="how many jobs share the rows")
    parser.add_argument("--executor", choices=("slurm", "local", "debug"), default="slurm")
    parser.add_argument("--partition", help="of Slurm")
    parser.add_argument("--minutes", type=_count, default=240, help="wall-clock limit of a job")
    parser.add_argument("--gpus", type=int, default=0, help="of each job")
    parser.add_argument("--cpus", type=_count, default=4, help="of each job")
    parser.add_argument("--memory-gb", type=_count, help="of each job")
    parser.add_argument("--name", default="fedjax-kd", help="of the jobs")
    parser.add_argument("--logs", type=Path, help="where output of jobs goes; default OUT.jobs")
    parser.add_argument("--data-dir", type=Path, help="where prepared data sets are")
    parser.add_argument("--wait", action="store_true", help="wait until all jobs have ended")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
