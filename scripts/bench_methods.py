"""Cost of one round of on-device KD, DFML and pFedAFM: ours, a loop in JAX, a loop in PyTorch.

A round is everything: roles, batches, training, what is sent and what becomes of it. All
contestants train the same architectures from the same weights, with the same roles, batches and
optimiser steps, which is checked after the first round: steps and examples as counted, losses and
parameters as they came out. Whoever differs is left out, with a line that says so.

Each contestant has a process of its own that stays alive; they take turns round by round, in an
order that rotates, so that a busy moment of the machine hits all alike. Ratios are taken within a
repeat. PyTorch is not ours: `bench_peers_requirements.txt` says how to install it, and
`--python-torch` where it is.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from method_rounds.agreement import agreement, complaint
from method_rounds.contestants import CONTESTANTS, METHODS, OURS, SIZES, quick
from method_rounds.job import Job, Terms, save_job
from method_rounds.summary import Line, Measurement, Outcome, lines_of
from method_rounds.tables import print_tables
from peers.process import ContestantFailed, Process
from peers.tables import write_rows
from rich.console import Console

WIDTH = 132  # columns, where there is no terminal
PAUSE_S = 0.05  # before every measurement, for the previous one's threads to go to sleep
QUICK = (OURS, "jax_loop", "torch_loop")
RESNET_OF_OTHER_PADDING = "torch_loop"


class Results(NamedTuple):
    """What a run of the benchmark found.

    Attributes:
        measurements: every repeat.
        outcomes: by contestant and method.
        versions: of the packages, by interpreter.
        left_out: contestant and reason, one line each.
    """

    measurements: list[Measurement]
    outcomes: dict[tuple[str, str], Outcome]
    versions: dict[str, dict[str, str]]
    left_out: list[str]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    made.add_argument("--contestants", nargs="+", choices=list(CONTESTANTS), default=None)
    made.add_argument("--repeats", type=int, default=5, help="measured rounds (default: 5)")
    made.add_argument(
        "--warm-up",
        type=int,
        default=2,
        help="rounds not measured, the first of which is checked (default: 2)",
    )
    made.add_argument("--test-examples", type=int, default=500, help="(default: 500)")
    made.add_argument("--threads", type=int, default=2, help="of PyTorch (default: 2)")
    made.add_argument(
        "--python-torch", default=sys.executable, help="the Python that has PyTorch (default: this)"
    )
    made.add_argument(
        "--quick",
        action="store_true",
        help="small sizes and three contestants, to see that all works; the times mean nothing",
    )
    made.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder for tables, picture and README.md; nothing is written without it",
    )
    made.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="date to write down")
    made.add_argument(
        "--machine",
        default=f"{os.cpu_count()} cores, {platform.machine()}, no accelerator used",
        help="kind of machine to write down",
    )
    return made


def checked(made: argparse.ArgumentParser, arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments with `--quick` applied; ends the program where one is out of range."""
    if arguments.contestants is None:
        arguments.contestants = list(QUICK if arguments.quick else CONTESTANTS)
    if arguments.quick:
        arguments.repeats, arguments.warm_up, arguments.test_examples = 2, 1, 250
    for name in ("repeats", "warm_up", "test_examples", "threads"):
        if getattr(arguments, name) < 1:
            made.error(f"--{name.replace('_', '-')} must be at least 1")
    if arguments.test_examples % 250:
        made.error("--test-examples must be a multiple of 250")
    if OURS not in arguments.contestants:
        made.error(f"--contestants must have {OURS!r}, which the others are held against")
    return arguments


def sizes_of(arguments: argparse.Namespace) -> dict[str, Terms]:
    """The terms of every method that is asked for."""
    sizes = {method: SIZES[method] for method in METHODS if method in arguments.methods}
    return {method: quick(terms) for method, terms in sizes.items()} if arguments.quick else sizes


def run(arguments: argparse.Namespace, console: Console) -> Results:
    """Makes the jobs and lets the contestants take turns at each."""
    from method_rounds.make_job import divide, make_job
    from method_rounds.setting import SOURCE

    from fedjax_kd.data import load_source

    source = load_source(SOURCE)
    results = Results([], {}, {}, [])
    names = [OURS, *(name for name in arguments.contestants if name != OURS)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        started = start(names, arguments, folder, results, console)
        try:
            for terms in sizes_of(arguments).values():
                rows = divide(source, terms, arguments.test_examples)
                job = make_job(terms, source, rows, arguments.warm_up + arguments.repeats)
                save_job(folder / "job.npz", job)
                np.savez(folder / "rows.npz", **rows._asdict())
                play(job, dict(started), arguments, folder, results, console)
        finally:
            for process in started.values():
                process.stop()
    return results


def start(
    names: list[str],
    arguments: argparse.Namespace,
    folder: Path,
    results: Results,
    console: Console,
) -> dict[str, Process]:
    """The contestants' processes, those that start."""
    interpreters = {"ours": sys.executable, "torch": arguments.python_torch}
    started: dict[str, Process] = {}
    for name in names:
        entry = CONTESTANTS[name]
        try:
            process = Process(
                interpreters[entry.interpreter],
                f"method_rounds.{entry.module}",
                entry.environment,
                folder / f"{name}.log",
            )
            started[name] = process
            known = results.versions.setdefault(entry.interpreter, {})
            known |= process.ask("about")[0]["versions"] | known
        except ContestantFailed as error:
            if name in started:
                started.pop(name).stop()
            drop(f"{entry.label}: {error}", results, console)
    return started


def play(
    job: Job,
    alive: dict[str, Process],
    arguments: argparse.Namespace,
    folder: Path,
    results: Results,
    console: Console,
) -> None:
    """One job: a checked first round, warm-up, measured turns, test losses; adds to `results`."""
    method = job.terms.method
    firsts: dict[str, tuple[dict[str, Any], Any]] = {}
    notes: dict[str, str] = {}

    def attempt(name: str, what) -> None:
        try:
            what(name, alive[name])
        except ContestantFailed as error:
            alive.pop(name)
            drop(f"{CONTESTANTS[name].label} ({METHODS[method]}): {error}", results, console)

    def first(name: str, process: Process) -> None:
        options = {
            **CONTESTANTS[name].options,
            "threads": arguments.threads,
            "rows": str(folder / "rows.npz"),
        }
        notes[name] = process.ask("prepare", job=str(folder / "job.npz"), options=options)[0][
            "note"
        ]
        told, _ = process.ask("round", number=0)
        path = folder / f"{name}.npz"
        process.ask("weights", path=str(path))
        with np.load(path) as file:
            weights = dict(file)
        ours, our_weights = firsts.get(OURS, (told, weights))
        found = agreement(told, ours, weights, our_weights, job.weights)
        wrong = complaint(
            found,
            job.terms.model_steps,
            job.terms.model_steps * job.terms.batch_size,
            other_padding=method == "on_device_kd"
            and CONTESTANTS[name].group == RESNET_OF_OTHER_PADDING,
        )
        if wrong:
            raise ContestantFailed(f"does other work than ours: {wrong}")
        firsts[name] = told | {"found": found}, weights
        for number in range(1, arguments.warm_up):
            process.ask("round", number=number)

    def turn(name: str, process: Process, repeat: int) -> None:
        time.sleep(PAUSE_S)
        told, waited_s = process.ask("round", number=arguments.warm_up + repeat)
        loss = float(np.mean([loss for loss in told["losses"] if loss != 0.0]))
        results.measurements.append(
            Measurement(name, method, repeat, told["seconds"], waited_s, loss)
        )

    def score(name: str, process: Process) -> None:
        answer, _ = process.ask("evaluate")
        told = firsts[name][0]
        results.outcomes[name, method] = Outcome(
            told["found"], told["seconds"], answer["loss"], answer["accuracy"], notes[name]
        )

    for name in list(alive):
        attempt(name, first)
        if OURS not in alive:
            return
        console.print(f"{METHODS[method]}: {CONTESTANTS[name].label} is ready", style="dim")
    for repeat in range(arguments.repeats):
        names = list(alive)
        begin = repeat % max(len(names), 1)
        for name in names[begin:] + names[:begin]:
            attempt(name, lambda name, process, r=repeat: turn(name, process, r))
    for name in list(alive):
        attempt(name, score)


def drop(line: str, results: Results, console: Console) -> None:
    """Notes that a contestant is left out, and says so."""
    results.left_out.append(line)
    console.print(f"left out: {line}", style="yellow", markup=False, highlight=False)


def write(
    lines: list[Line], results: Results, arguments: argparse.Namespace, minutes: float
) -> None:
    """Writes tables, picture and page to the folder that was asked for."""
    from method_rounds.page import page, plain_command
    from method_rounds.picture import draw

    arguments.out.mkdir(parents=True, exist_ok=True)
    write_rows(arguments.out / "rounds.csv", results.measurements)
    write_rows(arguments.out / "summary.csv", lines)
    draw(arguments.out / "rounds.png", lines)
    text = page(
        lines=lines,
        versions=results.versions,
        left_out=results.left_out,
        sizes=sizes_of(arguments),
        command=plain_command(sys.argv[1:]),
        arguments=arguments,
        minutes=minutes,
    )
    (arguments.out / "README.md").write_text(text)


def main() -> None:
    """Runs the bench, prints its tables and writes them."""
    made = parser()
    arguments = checked(made, made.parse_args())
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    begin_s = time.perf_counter()
    results = run(arguments, console)
    minutes = (time.perf_counter() - begin_s) / 60
    lines = lines_of(results.measurements, results.outcomes)
    if not lines:
        sys.exit("nothing was measured: every contestant was left out")
    print_tables(console, lines)
    console.print(f"{minutes:.1f} minutes")
    if arguments.out is not None:
        write(lines, results, arguments, minutes)
        console.print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
