"""The commands `fedjax-kd inspect` and `fedjax-kd report`."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path


def inspect(arguments: argparse.Namespace) -> int:
    """Says what a folder holds."""
    from fedjax_kd.results.inspect import inspect_folder, inspection_text

    found = inspect_folder(arguments.dir)
    print(json.dumps(found) if arguments.json else inspection_text(found), flush=True)
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Draws the report of folders of results."""
    from fedjax_kd.report import render_report

    for folder in arguments.dir:
        _require_drawable(folder)
    path = render_report(
        arguments.dir,
        arguments.output,
        targets=arguments.targets,
        tables=arguments.tables,
        pictures=arguments.pictures,
    )
    print(f"Report: {path}")
    return 0


def _require_drawable(folder: Path) -> None:
    """Checks that a folder holds a grid or a finished study.

    Raises:
      ResultsError: it does not; the message says how to get there.
    """
    from fedjax_kd.results.errors import ResultsError
    from fedjax_kd.results.folders import kind_of
    from fedjax_kd.results.status import run_standing

    if kind_of(folder) == "grid":
        return
    standing = run_standing(folder)
    if standing.state == "complete":
        return
    if standing.state == "running":
        raise ResultsError(f"{folder}: the study is still running; a report needs a finished one")
    why = f" ({standing.reason})" if standing.reason else ""
    raise ResultsError(
        f"{folder}: the study is not finished{why}; a report needs a finished one. Go on with: "
        f"fedjax-kd resume {shlex.quote(str(folder))}"
    )
