"""The words that the command `fedjax-kd` takes, and its help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedjax_kd import __version__
from fedjax_kd.study.hosts import add_host_options

KINDS = ("methods", "contestants", "models", "sources", "partitions", "profiles", "policies")
Command = Callable[[argparse.Namespace], int]


def _devices(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: auto or a number from 1 on")
    return int(text)


def _form(text: str) -> str:
    name, _, width = text.partition(":")
    known = name in ("auto", "sequential", "vmap") and text == name
    if known or (name == "chunked" and width.isdecimal() and int(width) > 0):
        return text
    raise argparse.ArgumentTypeError(
        f"found {text!r}; allowed: auto, sequential, vmap or chunked:WIDTH"
    )


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

A folder of experiments/ is a study: dt_kd, on_device_kd, dfml, pfedafm or family.

`fedjax-kd COMMAND --help` explains a command with examples.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fedjax-kd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    adders = {
        "run": _add_run,
        "report": _add_report,
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


def _add_run(commands: Any) -> argparse.ArgumentParser:
    run = commands.add_parser(
        "run",
        help="run the study of a settings file",
        description="""\
Run the study that a settings file describes and draw its report.

The settings are checked before anything is computed. The folder DIR then gets settings.yaml (with
every default filled in), manifest.json, tables and report.html. A folder that holds the same study
complete is left as it is; one that holds another study is refused.""",
        epilog="""\
examples:
  fedjax-kd run experiments/dt_kd/digits.yaml --out results/digits
  fedjax-kd run study.yaml --set data.users=10 --set data.partition.alpha=0.1 --out results/ten
  fedjax-kd run study.yaml --set 'data.partition={kind: iid}' --set students.0.width=0.5 --check

A key of --set is the path of a setting, with numbers from 0 on for the items of lists; a value is
YAML, and replaces what the file says.""",
    )
    run.add_argument("file", metavar="FILE", help="settings in YAML")
    run.add_argument("--out", metavar="DIR", type=Path, help="folder for the results")
    run.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="change a setting"
    )
    run.add_argument("--check", action="store_true", help="check the settings and stop")
    run.add_argument(
        "--force",
        action="store_true",
        help="if DIR holds results, rename it to DIR.old-1 (or -2, ...) and start anew",
    )
    run.add_argument(
        "--devices",
        metavar="N",
        type=_devices,
        help="CPU devices that share the clients; auto (the default) is one per core, 64 at most",
    )
    run.add_argument(
        "--execution",
        metavar="FORM",
        type=_form,
        default="auto",
        help="how clients are trained: sequential, vmap, chunked:WIDTH, or auto (the default), "
        "which times the forms for each architecture; the choice is in manifest.json",
    )
    run.add_argument("--data-dir", metavar="DIR", type=Path, help="where prepared data sets lie")
    run.add_argument("--quiet", action="store_true", help="show no progress")
    run.add_argument("--json", action="store_true", help="write progress as lines of JSON")
    run.add_argument(
        "--no-cache",
        action="store_true",
        help="neither use nor keep compiled programs and outcomes of trials",
    )
    add_host_options(run)
    return run


def _add_report(commands: Any) -> argparse.ArgumentParser:
    report = commands.add_parser(
        "report",
        help="draw the report of finished results again",
        description="Draw report.html from the tables in a folder of results; nothing is trained.",
        epilog="""\
examples:
  fedjax-kd report results/digits
  fedjax-kd report results/digits --output digits.html""",
    )
    report.add_argument("dir", metavar="DIR", type=Path, help="a folder that `run` has filled")
    report.add_argument(
        "--output", metavar="FILE", type=Path, help="where to; DIR/report.html by default"
    )
    return report


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
