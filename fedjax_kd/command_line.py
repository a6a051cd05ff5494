"""The words that the command `fedjax-kd` takes, and its help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedjax_kd import __version__
from fedjax_kd.command_line_grid import add_sweep
from fedjax_kd.command_line_results import add_inspect, add_report
from fedjax_kd.command_line_run import add_resume, add_run

KINDS = ("methods", "contestants", "models", "sources", "partitions", "profiles", "policies")
Command = Callable[[argparse.Namespace], int]


def command_line(commands_by_name: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of `fedjax-kd`.

    Args:
      commands_by_name: what runs each command; gets the parsed arguments, among them `parser`.

    Returns:
      The parser; `command` of what it parses is the function to call.
    """
    parser = argparse.ArgumentParser(
        prog="fedjax-kd",
        description="Simulate knowledge distillation in heterogeneous federated learning.",
        epilog="""\
the usual order:
  fedjax-kd list                                        see what a settings file can name
  fedjax-kd run experiments/dt_kd/digits.yaml --check   check a settings file in a second
  fedjax-kd run experiments/dt_kd/digits.yaml --out results/digits
                                                        run the study and draw its report
  fedjax-kd inspect results/digits                      how far it is; why it stopped
  fedjax-kd resume results/digits                       go on where it stopped
  fedjax-kd sweep grid.yaml --out results/grid          many settings and seeds at once

A folder of experiments/ is a study: dt_kd, on_device_kd, dfml, pfedafm or family.

`fedjax-kd COMMAND --help` explains a command with examples.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fedjax-kd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    adders = {
        "run": add_run,
        "resume": add_resume,
        "sweep": add_sweep,
        "inspect": add_inspect,
        "report": add_report,
        "list": _add_list,
        "prepare-data": _add_prepare_data,
        "doctor": _add_doctor,
    }
    for name, add in adders.items():
        command = add(commands)
        command.set_defaults(command=commands_by_name[name], parser=command)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_argument("--debug", action="store_true", help="show the traceback of any error")
    return parser


def _add_list(commands: Any) -> argparse.ArgumentParser:
    listing = commands.add_parser(
        "list",
        help="list what a settings file can name",
        description="List the methods and their contestants, models, data sources, partitions, "
        "profiles and policies.",
        epilog="""\
examples:
  fedjax-kd list
  fedjax-kd list models""",
    )
    listing.add_argument("kind", nargs="?", choices=KINDS, help="list one kind only")
    return listing


def _add_prepare_data(commands: Any) -> argparse.ArgumentParser:
    prepare = commands.add_parser(
        "prepare-data",
        help="make a data set of raw files readable, without internet",
        description="""\
Write the raw files of a data set (IDX files, CIFAR's archives, ...) in the format of
tensorflow-datasets, under the stock name and version; TensorFlow is not needed.""",
        epilog="""\
examples:
  fedjax-kd prepare-data fashion_mnist --from /usr/share/datasets/fashion-mnist
  fedjax-kd prepare-data cifar10 --from downloads/cifar-10-python.tar.gz --data-dir data""",
    )
    prepare.add_argument("name", metavar="NAME", help="a source, as `fedjax-kd list sources` says")
    prepare.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder or archive of raw files",
    )
    prepare.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        help="where to write; $TFDS_DATA_DIR or ~/tensorflow_datasets by default",
    )
    prepare.add_argument(
        "--no-verify", action="store_true", help="take files whose checksums are not the known ones"
    )
    return prepare


def _add_doctor(commands: Any) -> argparse.ArgumentParser:
    return commands.add_parser(
        "doctor",
        help="say what this machine will use, and why",
        description="""\
Print what a study on this machine would run with: devices, the form of the numeric kernels and why,
the compiler, caches and prepared data. Builds the native kernels if that has not been done.""",
        epilog="""\
examples:
  fedjax-kd doctor
  FEDJAX_KD_KERNELS=canonical fedjax-kd doctor""",
    )
