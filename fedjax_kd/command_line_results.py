"""The words of `fedjax-kd inspect` and `fedjax-kd report`, and their help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_inspect(commands: Any) -> argparse.ArgumentParser:
    """Adds the command `inspect`."""
    inspect = commands.add_parser(
        "inspect",
        help="say what a folder holds, how far it is and why it stopped",
        description="""\
Say what lies in a folder of results: which study or grid, how far it is, the latest figures, why it
stopped, and how to go on. The folder may be in use by a run; nothing in it is changed.""",
        epilog="""\
examples:
  fedjax-kd inspect results/digits
  fedjax-kd inspect results/grid
  fedjax-kd inspect results/grid --json | jq .status""",
    )
    inspect.add_argument("dir", metavar="DIR", type=Path, help="a folder of `run` or `sweep`")
    inspect.add_argument("--json", action="store_true", help="write one line of JSON")
    return inspect


def add_report(commands: Any) -> argparse.ArgumentParser:
    """Adds the command `report`."""
    report = commands.add_parser(
        "report",
        help="draw the report of finished results again",
        description="""\
Draw one HTML file from the tables of one study, of a grid or of several studies. It needs nothing
from the network; nothing is trained. Of a grid that is still running it shows what there is.""",
        epilog="""\
examples:
  fedjax-kd report results/digits
  fedjax-kd report results/digits --output digits.html
  fedjax-kd report results/grid --target 0.8           what reaching 80 % cost
  fedjax-kd report results/a results/b --output both.html
  fedjax-kd report results/grid --tables tables --pictures pictures""",
    )
    report.add_argument(
        "dir", metavar="DIR", type=Path, nargs="+", help="a folder that `run` or `sweep` has filled"
    )
    report.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="where to; DIR/report.html by default, required for several folders",
    )
    report.add_argument(
        "--tables", metavar="DIR", type=Path, help="write each table as CSV and LaTeX too"
    )
    report.add_argument(
        "--pictures", metavar="DIR", type=Path, help="write each picture as SVG too"
    )
    report.add_argument(
        "--target",
        dest="targets",
        metavar="ACCURACY",
        action="append",
        default=[],
        type=accuracy,
        help="an accuracy, above 0 and at most 1, that costs are compared at; may be repeated",
    )
    return report


def accuracy(text: str) -> float:
    """A number above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a number above 0, at most 1")
    return value
