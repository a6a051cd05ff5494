"""What it costs to lose nothing: rows on the disk as they come, and a checkpoint every minute.

One study in rounds runs again and again in this process, in three variants that take turns, in an
order that rotates, so that a busy moment of the machine hits all alike:

    nothing      no file is written at all
    results      rows of metrics as they come, tables and manifest: what every study writes
    checkpoints  results, and a checkpoint every minute and at the end of each part

Results are held against nothing, checkpoints against results, both within a repeat. The study runs
once before, unmeasured, for its programs to be compiled. Beside the whole time, the seconds that
the study itself waits for rows and checkpoints are taken, which other work on the machine blurs
less.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_kd.study.checkpoint import Cadence, Keeper, Part, no_keeper, open_keeper
from fedjax_kd.study.environment import prepare_backend
from fedjax_kd.study.folder import ResultFolder, open_folder
from fedjax_kd.study.load import load_settings, settings_hash
from fedjax_kd.study.outlet import Outlet, no_outlet, open_outlet
from fedjax_kd.study.progress import Progress, quiet
from fedjax_kd.study.run_rounds_study import run_rounds_study

VARIANTS = ("nothing", "results", "checkpoints")
STUDY = Path("experiments/pfedafm/fashion_mnist.yaml")
SET = ("contestants=[pfedafm, local]", "rounds=48")
QUICK = Path("experiments/pfedafm/digits.yaml")
PAUSE_S = 1.0  # before every run, for the disk to settle


class Comparison(NamedTuple):
    """Two variants, and by how much the first may be the slower one."""

    variant: str
    against: str
    target_percent: float


COMPARISONS = (Comparison("results", "nothing", 1.0), Comparison("checkpoints", "results", 3.0))


class Run(NamedTuple):
    """One run of the study.

    Attributes:
        repeat: from 1.
        variant: of `VARIANTS`.
        seconds: from settings to tables.
        row_files: written while it ran.
        rows_s: seconds that it waited for them.
        checkpoints: written.
        checkpoints_s: seconds that it waited for them, with copies from the device.
        megabytes: that it left on the disk.
    """

    repeat: int
    variant: str
    seconds: float
    row_files: int
    rows_s: float
    checkpoints: int
    checkpoints_s: float
    megabytes: float


class Meter:
    """Adds up the seconds in functions, and how often something happened."""

    def __init__(self) -> None:
        self.seconds, self.count = 0.0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, on this meter."""

        def call(*words: Any) -> Any:
            begin_s = time.perf_counter()
            try:
                return function(*words)
            finally:
                self.seconds += time.perf_counter() - begin_s

        return call

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, every call of which counts."""

        def call(*words: Any) -> Any:
            self.count += 1
            return function(*words)

        return call


def metered_outlet(outlet: Outlet, meter: Meter) -> Outlet:
    """An outlet whose work is timed and whose chunks are counted."""
    return outlet._replace(
        rows=meter.timed(meter.counted(outlet.rows)),
        rejoin=meter.timed(outlet.rejoin),
        close=meter.timed(outlet.close),
    )


def metered_keeper(keeper: Keeper, meter: Meter) -> Keeper:
    """A keeper whose work is timed and whose checkpoints are counted."""

    def part(name: str, total: int) -> Part:
        found = keeper.part(name, total)

        def offer(step: int, make_tree: Callable[[], Any]) -> None:
            found.offer(step, meter.counted(make_tree))

        return found._replace(offer=meter.timed(offer))

    return keeper._replace(part=part, close=meter.timed(keeper.close))


def run_once(
    settings: Any, variant: str, repeat: int, scratch: Path, arguments: argparse.Namespace
) -> Run:
    """Runs the study into a folder of its own, which goes again."""
    time.sleep(PAUSE_S)
    rows, saves = Meter(), Meter()
    with tempfile.TemporaryDirectory(dir=scratch) as temporary:
        path = Path(temporary) / "results"
        begin_s = time.perf_counter()
        if variant == "nothing":
            folder = ResultFolder(path, "new", writes=False)
        else:
            folder = open_folder(path, settings)
        outlet = no_outlet() if variant == "nothing" else metered_outlet(open_outlet(folder), rows)
        keeper = no_keeper()
        if variant == "checkpoints":
            keeper = open_keeper(
                folder,
                Cadence(every_minutes=arguments.minutes),
                settings_hash=settings_hash(settings),
                form=arguments.execution,
                points=len(settings.seeds),
                note=print,
            )
            keeper = metered_keeper(keeper, saves)
        try:
            run_rounds_study(
                settings,
                folder,
                progress=Progress(quiet()),
                form=arguments.execution,
                data_dir=arguments.data_dir,
                keeper=keeper,
                outlet=outlet,
                trials=scratch / "trials.json",
            )
        finally:
            folder.close()
        seconds = time.perf_counter() - begin_s
        left = [each.stat().st_size for each in path.rglob("*") if each.is_file()]
    return Run(
        repeat,
        variant,
        round(seconds, 3),
        rows.count,
        round(rows.seconds, 4),
        saves.count,
        round(saves.seconds, 4),
        round(sum(left) / 1e6, 2),
    )


def measure(settings: Any, arguments: argparse.Namespace) -> list[Run]:
    """All repeats of all variants, in turns."""
    runs = []
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as temporary:
        scratch = Path(temporary)
        print(f"warm-up: {run_once(settings, 'checkpoints', 0, scratch, arguments).seconds:.1f} s")
        for repeat in range(1, arguments.repeats + 1):
            begin = (repeat - 1) % len(VARIANTS)
            for variant in VARIANTS[begin:] + VARIANTS[:begin]:
                run = run_once(settings, variant, repeat, scratch, arguments)
                runs.append(run)
                print(f"{repeat} {variant}: {run.seconds:.1f} s", flush=True)
    return runs


def extra_percent(runs: Sequence[Run], comparison: Comparison) -> list[float]:
    """By how much the variant was slower, repeat by repeat."""
    seconds = {(run.repeat, run.variant): run.seconds for run in runs}
    repeats = sorted({run.repeat for run in runs})
    return [
        100 * (seconds[each, comparison.variant] / seconds[each, comparison.against] - 1)
        for each in repeats
    ]


def waited_percent(runs: Sequence[Run], comparison: Comparison) -> list[float]:
    """Which part of its time the variant waited for what it has beside the other one."""
    return [
        100 * (run.checkpoints_s if run.variant == "checkpoints" else run.rows_s) / run.seconds
        for run in runs
        if run.variant == comparison.variant
    ]


def summary(runs: Sequence[Run]) -> str:
    """The comparisons as a table."""
    lines = [
        "| comparison | slower by, median [%] | lowest to highest [%] | of it waited for [%] "
        "| target [%] |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for each in COMPARISONS:
        extra, waited = extra_percent(runs, each), waited_percent(runs, each)
        lines.append(
            f"| {each.variant} against {each.against} | {statistics.median(extra):+.2f} "
            f"| {min(extra):+.2f} to {max(extra):+.2f} | {statistics.median(waited):.2f} "
            f"| {each.target_percent:g} |"
        )
    return "\n".join(lines)


def write(out: Path, runs: Sequence[Run], text: str) -> None:
    """Writes the runs and the page."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "durability.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Run._fields)
        writer.writerows(runs)
    (out / "durability.md").write_text(text)


def page(settings: Any, runs: Sequence[Run], arguments: argparse.Namespace) -> str:
    """The page that goes beside the numbers."""
    saved = [run for run in runs if run.variant == "checkpoints"]
    each_s = statistics.median(run.seconds for run in saved)
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "orbax-checkpoint"))
    command = " ".join(["python scripts/bench_durability.py", *map(_quoted, sys.argv[1:])])
    return (
        f"# What it costs to lose nothing\n\n{summary(runs)}\n\n"
        f"{settings.title}: {settings.rounds} rounds of {len(settings.contestants)} contestants, "
        f"{len(settings.seeds)} seeds, {each_s:.0f} s a run. A run wrote "
        f"{statistics.median(run.row_files for run in saved):.0f} files of rows and "
        f"{statistics.median(run.checkpoints for run in saved):.0f} checkpoints (every "
        f"{arguments.minutes:g} minutes and at the end of each contestant), and left "
        f"{statistics.median(run.megabytes for run in saved):.1f} MB. "
        f"{arguments.repeats} repeats, in which the variants took turns; a ratio is taken within a "
        "repeat. *Nothing* writes no file, *results* what every study writes, *checkpoints* these "
        "as well. *Of it waited for* is the part of the time that the study spent in the calls "
        "that keep rows, or checkpoints; what is done beside it on another core is not in there.\n"
        "\n"
        f"- Command: `{command}`\n"
        f"- Date: {arguments.date}\n"
        f"- Machine: {arguments.machine}\n"
        f"- Versions: Python {platform.python_version()}, {packages}\n"
    )


def _quoted(word: str) -> str:
    return f"'{word}'" if set(word) & set(" []{}") else word


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--study", type=Path, default=STUDY, help=f"(default: {STUDY})")
    made.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=None,
        help=f"change a setting (default: {' and '.join(SET)})",
    )
    made.add_argument("--repeats", type=int, default=5, help="of each variant (default: 5)")
    made.add_argument("--minutes", type=float, default=1.0, help="between checkpoints (default: 1)")
    made.add_argument("--execution", default="auto", help="as for `run` (default: auto)")
    made.add_argument("--data-dir", type=Path, default=None, help="where prepared data sets lie")
    made.add_argument(
        "--scratch", type=Path, default=None, help="folder on the disk that is to be measured"
    )
    made.add_argument(
        "--quick",
        action="store_true",
        help="digits, two repeats, a checkpoint every two seconds, to see that all works; the "
        "times mean nothing",
    )
    made.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder for durability.csv and durability.md; nothing is written without it",
    )
    made.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="date to write down")
    made.add_argument(
        "--machine",
        default=f"{os.cpu_count()} cores, {platform.machine()}, no accelerator used",
        help="kind of machine to write down",
    )
    return made


def main() -> None:
    """Runs the bench, prints its table and writes it."""
    made = parser()
    arguments = made.parse_args()
    if arguments.repeats < 1 or arguments.minutes <= 0:
        made.error("--repeats must be at least 1 and --minutes above 0")
    if arguments.quick:
        arguments.study, arguments.repeats, arguments.minutes = QUICK, 2, 2 / 60
        arguments.set = ["contestants=[pfedafm, local]", *(arguments.set or ())]
    prepare_backend(None, None)
    settings = load_settings(arguments.study, SET if arguments.set is None else arguments.set)
    runs = measure(settings, arguments)
    print(summary(runs))
    if arguments.out is not None:
        write(arguments.out, runs, page(settings, runs, arguments))
        print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
