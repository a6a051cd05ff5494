"""FedAvg, FD and FedProto in the HtFLlib form against an independent loop in PyTorch or NumPy.

Same data, partition, first weights and batches on both sides: parameters are compared after each of
the first rounds, accuracies after every one. The defaults are the terms of HtFLlib's tables: 20
clients, Dirichlet(0.1), train and test pooled and cut 75 to 25, plain SGD of rate 0.01, batches of
10, one local epoch. PyTorch is not ours: `bench_peers_requirements.txt` says how to install it, and
`--python-torch` where it is. `--loop numpy` does without, for `--model mlp`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from faithful.job import METHODS, Terms
from peers.tables import write_rows
from rich.console import Console

SCRIPTS = Path(__file__).resolve().parent
FOLDER = SCRIPTS.parent / "experiments" / "benchmarks" / "faithful"
SMALL = {"clients": 5, "alpha": 0.5}  # the digits are 1,797, too few for 20 clients


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--source", default="digits", help="a prepared data set (default: digits)")
    made.add_argument("--rounds", type=int, default=20, help="(default: 20)")
    made.add_argument(
        "--checked", type=int, default=3, help="rounds whose parameters are compared (default: 3)"
    )
    made.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    made.add_argument("--model", choices=("fedavg_cnn", "mlp"), default="fedavg_cnn")
    made.add_argument("--loop", choices=("torch", "numpy"), default="torch")
    made.add_argument("--clients", type=int, default=None, help="(default: 20; digits: 5)")
    made.add_argument("--alpha", type=float, default=None, help="(default: 0.1; digits: 0.5)")
    made.add_argument("--seed", type=int, default=1, help="of the partition (default: 1)")
    made.add_argument(
        "--max-train", type=int, default=0, help="of a client; 0 is all that it has (default: 0)"
    )
    made.add_argument("--batch-size", type=int, default=10, help="(default: 10)")
    made.add_argument("--learning-rate", type=float, default=0.01, help="(default: 0.01)")
    made.add_argument("--fd-weight", type=float, default=1.0, help="(default: 1)")
    made.add_argument("--fedproto-weight", type=float, default=10.0, help="(default: 10)")
    made.add_argument("--threads", type=int, default=2, help="of PyTorch (default: 2)")
    made.add_argument(
        "--python-torch", default=sys.executable, help="the Python that has PyTorch (default: this)"
    )
    made.add_argument(
        "--out",
        type=Path,
        default=FOLDER,
        help="folder for SOURCE.csv, SOURCE.svg and SOURCE.md "
        "(default: experiments/benchmarks/faithful)",
    )
    made.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="date to write down")
    made.add_argument(
        "--machine",
        default=f"{os.cpu_count()} cores, {platform.machine()}, no accelerator used",
        help="kind of machine to write down",
    )
    return made


def checked(made: argparse.ArgumentParser, given: list[str]) -> argparse.Namespace:
    """The arguments; ends the program where one is out of range."""
    arguments = made.parse_args(given)
    arguments.given = given
    usual = SMALL if arguments.source == "digits" else {"clients": 20, "alpha": 0.1}
    for name, value in usual.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    for name in ("rounds", "checked", "clients", "batch_size", "threads"):
        if getattr(arguments, name) < 1:
            made.error(f"--{name.replace('_', '-')} must be at least 1")
    if arguments.loop == "numpy" and arguments.model != "mlp":
        made.error("--loop numpy has --model mlp only")
    arguments.checked = min(arguments.checked, arguments.rounds)
    return arguments


def their_outcome(arguments: argparse.Namespace, folder: Path):
    """Runs the other loop in a process of its own: the outcome, and the seconds it took."""
    from faithful.job import load_outcome

    interpreter = arguments.python_torch if arguments.loop == "torch" else sys.executable
    module = f"faithful.{arguments.loop}_loop"
    files = [str(folder / "job.npz"), str(folder / "outcome.npz"), str(arguments.threads)]
    begin_s = time.perf_counter()
    ended = subprocess.run([interpreter, "-m", module, *files], cwd=SCRIPTS, check=False)
    if ended.returncode:
        sys.exit(f"{interpreter} -m {module} ended with {ended.returncode}; see above")
    return load_outcome(folder / "outcome.npz"), time.perf_counter() - begin_s


def compare(arguments: argparse.Namespace, console: Console):
    """Both sides of every method: the lines of the table, and the sizes of the clients."""
    import jax
    from faithful import ours
    from faithful.differences import lines_of
    from faithful.job import save_job
    from faithful.setting import Clients, job_of, setting, split_of

    from fedjax_kd.data import load_source
    from fedjax_kd.training import Execution

    source = load_source(arguments.source)
    execution = Execution("sequential", tuple(jax.local_devices()[:1]))
    numbers = (arguments.clients, arguments.alpha, arguments.seed)
    split = split_of(source, Clients(*numbers, max_train=arguments.max_train))
    weights = {"fedavg": 0.0, "fd": arguments.fd_weight, "fedproto": arguments.fedproto_weight}
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for method in arguments.methods:
            terms = Terms(
                method,
                arguments.model,
                arguments.rounds,
                arguments.checked,
                source.n_classes,
                arguments.batch_size,
                arguments.learning_rate,
                weights[method],
            )
            case = setting(terms, source, split, execution)
            job = job_of(case, source, split)
            save_job(folder / "job.npz", job)
            begin_s = time.perf_counter()
            mine = ours.run(case)
            seconds = time.perf_counter() - begin_s
            console.print(f"{METHODS[method]}: ours took {seconds:.0f} s", style="dim")
            theirs, their_seconds = their_outcome(arguments, folder)
            doubled = None
            if arguments.loop == "torch":
                few = replace(terms, rounds=arguments.checked, precision="float64")
                save_job(folder / "job.npz", job._replace(terms=few))
                doubled, _ = their_outcome(arguments, folder)
            console.print(f"{METHODS[method]}: theirs took {their_seconds:.0f} s", style="dim")
            found = lines_of(job, mine, theirs, (seconds, their_seconds), doubled)
            for line in found[1 : arguments.checked + 1]:
                console.print(
                    f"  round {line.rounds}: parameters {line.largest:.1e} apart at most, "
                    f"{line.relative:.1e} of the way (their float64: {line.rounding:.1e}); "
                    f"accuracy {line.ours:.4f}, {line.theirs:.4f}"
                )
            lines += found
    return lines, [len(rows) for rows in split.train]


def write(arguments: argparse.Namespace, lines, sizes: list[int], minutes: float) -> None:
    """The table, the picture and the page."""
    from faithful.page import OTHERS, page, picture_name
    from faithful.picture import draw

    known = {name: version(name) for name in ("jax", "numpy")}
    if arguments.loop == "torch":
        asked = [arguments.python_torch, "-c", "import torch; print(torch.__version__)"]
        known["torch"] = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_rows(arguments.out / f"{arguments.source}.csv", lines)
    (arguments.out / picture_name(arguments)).write_text(draw(lines, OTHERS[arguments.loop]))
    text = page(lines, arguments, sizes, known, minutes)
    (arguments.out / f"{arguments.source}.md").write_text(text)


def main() -> None:
    """Compares, and writes what was found."""
    arguments = checked(parser(), sys.argv[1:])
    console = Console(width=None if sys.stdout.isatty() else 120)
    begin_s = time.perf_counter()
    lines, sizes = compare(arguments, console)
    minutes = (time.perf_counter() - begin_s) / 60
    write(arguments, lines, sizes, minutes)
    console.print(f"{minutes:.1f} minutes; written to {arguments.out}")


if __name__ == "__main__":
    main()
