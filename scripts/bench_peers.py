"""Whole rounds of FedAvg and of federated distillation: ours against its peers, on Fashion-MNIST.

A round is everything: batches, local training, what clients send, what the server makes of it. All
contestants train the same model from the same weights, on the same clients, with plain SGD, the
same batch size and as many steps. Each has a process of its own that stays alive; they take turns
round by round, in an order that rotates, so that a busy moment of the machine hits all alike. The
ratios are taken within a repeat. After the last round everybody's accuracy is taken on the same
test examples: nobody wins by doing less.

The peers' packages are not ours: `bench_peers_requirements.txt` says how to install them, and
`--python-peers` where they are. A contestant whose packages are missing is left out, with a line
that says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from peers.contestants import CONTESTANTS, METHODS, MODELS, OURS, options_for
from peers.job import Job, Terms, save_job
from peers.process import ContestantFailed, Process
from peers.summary import Line, Measurement, Outcome, lines_of
from peers.tables import print_tables, write_rows
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

DEFAULT_EXAMPLES = {"cnn1": 320, "lenet": 320, "mlp": 320, "resnet8": 96}
DEFAULT_ROUNDS = {"cnn1": 1, "lenet": 2, "mlp": 5, "resnet8": 1}
LEARNING_RATE = 0.1
PEER_INTERPRETERS = ("torch", "fedjax", "pfl", "flower")
WIDTH = 132  # columns, where there is no terminal
PAUSE_S = 0.05  # before every measurement, for the previous one's threads to go to sleep


class Results(NamedTuple):
    """What a run of the benchmark found.

    Attributes:
        measurements: every repeat.
        lines: one per contestant, model, method and sitting.
        versions: of the packages, by interpreter.
        left_out: contestant and reason, one line each.
        parameters: of each model, as the job has it.
    """

    measurements: list[Measurement]
    lines: list[Line]
    versions: dict[str, dict[str, str]]
    left_out: list[str]
    parameters: dict[str, int]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    made.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    made.add_argument(
        "--contestants", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS)
    )
    made.add_argument("--clients", type=int, default=16, help="K (default: 16)")
    made.add_argument(
        "--examples",
        type=int,
        default=None,
        help="of each client (default: 320, for ResNet-8 96); a multiple of the batch size",
    )
    made.add_argument("--batch-size", type=int, default=32, help="(default: 32)")
    made.add_argument("--repeats", type=int, default=9, help="measured turns (default: 9)")
    made.add_argument(
        "--rounds",
        type=int,
        default=None,
        help="in a turn (default: 1; 2 for LeNet and 5 for the MLP, whose rounds are short)",
    )
    made.add_argument("--warm-up", type=int, default=2, help="rounds not measured (default: 2)")
    made.add_argument("--test-examples", type=int, default=2000, help="(default: 2000)")
    made.add_argument("--kl-weight", type=float, default=1.0, help="of FD (default: 1)")
    made.add_argument("--seed", type=int, default=1, help="(default: 1)")
    made.add_argument(
        "--threads", type=int, default=2, help="of peers that take a number (default: 2)"
    )
    made.add_argument(
        "--python-peers",
        default=sys.executable,
        help="the Python that has the peers' packages (default: the one that runs this)",
    )
    for peer in PEER_INTERPRETERS:
        made.add_argument(f"--python-{peer}", default=None, help=f"another one for {peer}")
    made.add_argument("--quick", action="store_true", help="small sizes, to see that all works")
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
    if arguments.quick:
        arguments.clients, arguments.repeats, arguments.warm_up = 4, 2, 1
        arguments.examples, arguments.rounds = 2 * arguments.batch_size, 1
        arguments.test_examples = 500
    for name in ("clients", "batch_size", "repeats", "warm_up", "test_examples", "threads"):
        if getattr(arguments, name) < 1:
            made.error(f"--{name.replace('_', '-')} must be at least 1")
    if arguments.test_examples % 250:
        made.error("--test-examples must be a multiple of 250")
    if arguments.rounds is not None and arguments.rounds < 1:
        made.error("--rounds must be at least 1")
    for model in arguments.models:
        examples = examples_of(arguments, model)
        if examples < 1 or examples % arguments.batch_size:
            made.error(f"--examples must be a multiple of --batch-size; got {examples}")
    if arguments.clients < 2:
        made.error("--clients must be at least 2, so that there is something to exchange")
    return arguments


def examples_of(arguments: argparse.Namespace, model: str) -> int:
    """Examples of a client."""
    return DEFAULT_EXAMPLES[model] if arguments.examples is None else arguments.examples


def rounds_of(arguments: argparse.Namespace, model: str) -> int:
    """Rounds in a turn."""
    return DEFAULT_ROUNDS[model] if arguments.rounds is None else arguments.rounds


def run(arguments: argparse.Namespace, console: Console) -> Results:
    """Makes the jobs and lets the contestants take turns at each."""
    from peers.make_job import divide, make_job
    from peers.ours_setting import SOURCE

    from fedjax_kd.data import load_source

    source = load_source(SOURCE)
    results = Results([], [], {}, [], {})
    outcomes: dict[tuple[str, str, str, int], Outcome] = {}
    sittings = sorted({CONTESTANTS[name].sitting for name in arguments.contestants})
    with tempfile.TemporaryDirectory() as folder, progress_bar(console) as progress:
        for sitting in sittings:
            names = [
                name
                for name in arguments.contestants
                if CONTESTANTS[name].sitting == sitting or name == OURS
            ]
            with processes(names, sitting, arguments, Path(folder), results, console) as started:
                for model in arguments.models:
                    examples = examples_of(arguments, model)
                    rows, test_rows = divide(
                        source, arguments.clients, examples, arguments.test_examples, arguments.seed
                    )
                    for method in arguments.methods:
                        able = [
                            name
                            for name in started
                            if method in CONTESTANTS[name].methods
                            and model in CONTESTANTS[name].models
                        ]
                        if not any(CONTESTANTS[name].sitting == sitting for name in able):
                            continue
                        terms = Terms(
                            model=model,
                            method=method,
                            batch_size=arguments.batch_size,
                            learning_rate=LEARNING_RATE,
                            kl_weight=arguments.kl_weight,
                            n_classes=source.n_classes,
                            seed=arguments.seed,
                        )
                        per_turn = rounds_of(arguments, model)
                        total = arguments.warm_up + arguments.repeats * per_turn
                        job = make_job(terms, source, rows, test_rows, total)
                        results.parameters[model] = job.n_parameters
                        match = {name: started[name] for name in able}
                        outcomes |= play(
                            job, match, sitting, arguments, Path(folder), results, console, progress
                        )
    results.lines[:] = lines_of(results.measurements, outcomes)
    return results


def play(
    job: Job,
    contestants: dict[str, Process],
    sitting: int,
    arguments: argparse.Namespace,
    folder: Path,
    results: Results,
    console: Console,
    progress: Progress,
) -> dict[tuple[str, str, str, int], Outcome]:
    """One job: warm-up, measured turns, accuracies. Adds to `results.measurements`."""
    model, method = job.terms.model, job.terms.method
    title = f"{MODELS[model]}, {METHODS[method]}"
    path = folder / "job.npz"
    save_job(path, job)
    per_turn = rounds_of(arguments, model)
    task = progress.add_task(title, total=len(contestants) * (arguments.repeats + 2))
    prepared: dict[str, dict] = {}
    alive = dict(contestants)

    def attempt(name: str, what) -> None:
        try:
            what(alive[name])
        except ContestantFailed as error:
            alive.pop(name)
            drop(f"{CONTESTANTS[name].label} ({title}): {error}", results, console)
        progress.advance(task)

    def warm_up(name: str, process: Process) -> None:
        options = options_for(name, model, arguments.threads)
        prepared[name], _ = process.ask("prepare", job=str(path), options=options)
        for index in range(arguments.warm_up):
            process.ask("round", index=index)

    def turn(name: str, process: Process, repeat: int) -> None:
        time.sleep(PAUSE_S)
        own_s = waited_s = 0.0
        for i in range(per_turn):
            index = arguments.warm_up + repeat * per_turn + i
            answer, seconds = process.ask("round", index=index)
            own_s, waited_s = own_s + answer["seconds"], waited_s + seconds
        examples = job.n_clients * job.n_examples * per_turn
        results.measurements.append(
            Measurement(
                contestant=name,
                model=model,
                method=method,
                sitting=sitting,
                repeat=repeat,
                rounds=per_turn,
                round_s=own_s / per_turn,
                waited_s=waited_s / per_turn,
                examples_per_s=examples / own_s,
            )
        )

    outcomes: dict[tuple[str, str, str, int], Outcome] = {}

    def score(name: str, process: Process) -> None:
        answer, _ = process.ask("evaluate")
        told = prepared[name]
        outcome = Outcome(told["parameters"], answer["accuracy"], told["note"])
        outcomes[name, model, method, sitting] = outcome

    for name in list(alive):
        attempt(name, lambda process, name=name: warm_up(name, process))
    for repeat in range(arguments.repeats):
        names = list(alive)
        first = repeat % max(len(names), 1)
        for name in names[first:] + names[:first]:
            attempt(name, lambda process, name=name, r=repeat: turn(name, process, r))
    for name in list(alive):
        attempt(name, lambda process, name=name: score(name, process))
    return outcomes


@contextmanager
def processes(
    names: Sequence[str],
    sitting: int,
    arguments: argparse.Namespace,
    folder: Path,
    results: Results,
    console: Console,
) -> Iterator[dict[str, Process]]:
    """The contestants' processes, those that start; ended at the end of the block."""
    interpreters = {"ours": sys.executable} | {
        peer: getattr(arguments, f"python_{peer}") or arguments.python_peers
        for peer in PEER_INTERPRETERS
    }
    started: dict[str, Process] = {}
    try:
        for name in names:
            entry = CONTESTANTS[name]
            try:
                process = Process(
                    interpreters[entry.interpreter],
                    f"peers.{entry.module}",
                    entry.environment,
                    folder / f"{name}-{sitting}.log",
                )
                started[name] = process
                answer, _ = process.ask("about")
            except ContestantFailed as error:
                if name in started:
                    started.pop(name).stop()
                drop(f"{entry.label}: {error}", results, console)
                continue
            results.versions[entry.interpreter] = answer["versions"]
        yield started
    finally:
        for process in started.values():
            process.stop()


def drop(line: str, results: Results, console: Console) -> None:
    """Notes that a contestant is left out, and says so."""
    results.left_out.append(line)
    console.print(f"left out: {line}", style="yellow", markup=False, highlight=False)


@contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """A bar per model and method."""
    with Progress(
        TextColumn("{task.description:18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        yield progress


def main() -> None:
    """Runs the bench, prints its tables and writes them."""
    made = parser()
    arguments = checked(made, made.parse_args())
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    begin_s = time.perf_counter()
    results = run(arguments, console)
    minutes = (time.perf_counter() - begin_s) / 60
    if not results.lines:
        sys.exit("nothing was measured: every contestant was left out")
    print_tables(console, results.lines)
    console.print(f"{minutes:.1f} minutes")
    if arguments.out is None:
        return
    from peers.page import page, plain_command
    from peers.picture import draw

    arguments.out.mkdir(parents=True, exist_ok=True)
    write_rows(arguments.out / "rounds.csv", results.measurements)
    write_rows(arguments.out / "summary.csv", results.lines)
    draw(arguments.out / "speed.png", results.lines)
    text = page(
        lines=results.lines,
        versions=results.versions,
        left_out=results.left_out,
        parameters=results.parameters,
        sizes={m: (examples_of(arguments, m), rounds_of(arguments, m)) for m in arguments.models},
        command=plain_command(sys.argv[1:]),
        arguments=arguments,
        minutes=minutes,
    )
    (arguments.out / "README.md").write_text(text)
    console.print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
