"""The words of `fedjax-kd run` and `fedjax-kd resume`, and their help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedjax_kd.command_line_values import add_checkpoint_options, add_run_time_options, form
from fedjax_kd.study.hosts import add_host_options


def add_run(commands: Any) -> argparse.ArgumentParser:
    """Adds the command `run`."""
    run = commands.add_parser(
        "run",
        help="run the study of a settings file",
        description="""\
Run the study that a settings file describes and draw its report.

The settings are checked before anything is computed. The folder DIR then gets settings.yaml (with
every default filled in), manifest.json, tables and report.html. A folder that holds the same study
complete is left as it is; the same one unfinished goes on where it stopped; another is refused.""",
        epilog="""\
examples:
  fedjax-kd run experiments/dt_kd/digits.yaml --out results/digits
  fedjax-kd run study.yaml --set data.users=10 --set data.partition.alpha=0.1 --out results/ten
  fedjax-kd run study.yaml --set 'data.partition={kind: iid}' --set students.0.width=0.5 --check
  fedjax-kd run study.yaml --out results/night --checkpoint-minutes 1 --track tensorboard

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
        "--execution",
        metavar="FORM",
        type=form,
        default="auto",
        help="how clients are trained: sequential, vmap, chunked:WIDTH, or auto (the default), "
        "which times the forms for each architecture; the choice is in manifest.json",
    )
    add_run_time_options(run)
    add_checkpoint_options(run)
    add_host_options(run)
    return run


def add_resume(commands: Any) -> argparse.ArgumentParser:
    """Adds the command `resume`."""
    resume = commands.add_parser(
        "resume",
        help="go on with an interrupted study or grid",
        description="""\
Go on with the study or the grid in the folder DIR where it stopped.

The settings come from DIR, and so do the options that the study was started with; an option given
here replaces the earlier one. The results are those of a study that was never interrupted, bit for
bit, as long as the machine, its devices and the versions are the same; otherwise a warning says
what differs. A damaged checkpoint is passed over for the one before it. A folder whose settings
were changed since is refused; one that is complete is left as it is.""",
        epilog="""\
examples:
  fedjax-kd resume results/digits
  fedjax-kd resume results/digits --checkpoint-minutes 1
  fedjax-kd resume results/grid            the rows of a grid that are neither done nor failed

`fedjax-kd inspect DIR` says how far a folder is and why it stopped.""",
    )
    resume.add_argument("dir", metavar="DIR", type=Path, help="a folder of `run` or `sweep`")
    add_run_time_options(resume)
    add_checkpoint_options(resume)
    add_host_options(resume)
    return resume
