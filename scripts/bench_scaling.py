"""How rounds scale: with clients, cohorts, participation, stacked seeds and devices.

Every point is a process of its own, so that its peak of memory is its own. The processes of a part
stay alive and take turns in an order that rotates, so that a busy moment of the machine hits all
alike, and ratios are taken turn by turn. The model is LeNet on Fashion-MNIST (61,706 parameters,
0.25 MB a client), one local epoch of plain SGD in batches of 32. Where clients are many they hold
96 images each, drawn for each client from all 60,000: at 10,000 clients they share images.

Prints a table for each part, and with `--out` writes CSV files, a picture and a README.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from scaling.parts import PARTS, QUICK, Found, Sizes
from scaling.picture import draw
from scaling.tables import markdown, print_found, write_files

from fedjax_kd.report.drawing import picture_style, png_bytes, svg_document

NOTES = """Medians over the turns, with the least and the most in brackets. Ratios are medians of \
the turns' own ratios, since the cases of a part take turns. A process's peak is its largest \
resident set from start to end (VmHWM): the interpreter, the libraries, the data set and the \
compiler are in it; what the operating system caches of files is not.

- Clients: FD's clients keep their models; those streamed from disk are read and written by the \
cohort, and every client has a row on disk before the first round, except where it says "all new": \
there, every round draws the initial models of its cohort. FedAvg's clients keep nothing. The \
reference is the same cohort out of 100.
- Cohorts: drawn from 1,000 clients with 192 images each; every turn trains 256 clients. The \
reference is the largest cohort.
- Participation: all 60,000 images divided equally among 100 clients; the reference is a round of \
all. Executed over useful FLOPs: as `RoundReport` has them, and, for the other forms of execution, \
as `executed_examples` has them.
- Seeds: FedAvg with 10 clients of 300 images, 20 rounds; a fresh process for each study without a \
cache of compiled programs, timed from the loaded data set to the last round.
- Devices: a cohort of 50 of 100 clients with 192 images each.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    made.add_argument("--quick", action="store_true", help="small sizes, as a trial")
    made.add_argument("--turns", type=int, help="measured turns of each case (default: 7)")
    made.add_argument(
        "--folder",
        type=Path,
        help="for clients' state, on a disk with 3 GB to spare (default: tmp)",
    )
    made.add_argument(
        "--out", type=Path, help="folder for the files; without it nothing is written"
    )
    made.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="date to write down")
    made.add_argument(
        "--machine",
        default=f"{os.cpu_count()} cores, {platform.machine()}, {_processor()}",
        help="kind of machine to write down",
    )
    return made


def main() -> None:
    """Runs the parts, prints their tables and writes the files."""
    reader = parser()
    arguments = reader.parse_args()
    if arguments.turns is not None and arguments.turns < 1:
        reader.error(f"--turns is {arguments.turns}: it must be at least 1")
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.turns is not None:
        sizes = sizes._replace(turns=arguments.turns)
    console = Console(width=None if sys.stdout.isatty() else 160)
    found: dict[str, Found] = {}
    begin_s = time.perf_counter()
    for part in dict.fromkeys(arguments.only):
        with (
            tempfile.TemporaryDirectory(prefix="scaling-", dir=arguments.folder) as folder,
            console.status(f"{part} …") as status,
        ):
            found[part] = PARTS[part](
                sizes, Path(folder), lambda text, part=part: status.update(f"{part}: {text}")
            )
        print_found(console, part, found[part])
        if arguments.out is not None:
            arguments.out.mkdir(parents=True, exist_ok=True)
            write_files(arguments.out, part, found[part])
    minutes = (time.perf_counter() - begin_s) / 60
    console.print(f"{minutes:.1f} minutes")
    if arguments.out is not None:
        write_page(arguments, found, minutes)


def write_page(arguments: argparse.Namespace, found: dict[str, Found], minutes: float) -> None:
    """The picture and the README."""
    with picture_style():
        figure = draw(found)
        (arguments.out / "scaling.svg").write_text(svg_document(figure))
        (arguments.out / "scaling.png").write_bytes(png_bytes(figure))
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "flax", "numpy"))
    given = shlex.join(sys.argv[1:])
    (arguments.out / "README.md").write_text(
        "# How rounds scale\n\n"
        "![Speed, memory and cost as clients, cohorts, seeds and devices grow](scaling.png)\n\n"
        + "\n".join(markdown(part, one) for part, one in found.items())
        + f"\n## How it was measured\n\n{NOTES}\n"
        f"- Command: `python scripts/bench_scaling.py {given}` ({minutes:.1f} minutes)\n"
        f"- Date: {arguments.date}\n- Machine: {arguments.machine}\n"
        f"- Versions: Python {platform.python_version()}, {versions}\n"
    )


def _processor() -> str:
    names = (
        [
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        if Path("/proc/cpuinfo").exists()
        else []
    )
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
