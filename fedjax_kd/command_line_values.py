"""What the options of `fedjax-kd` accept, each with the words that it refuses others in."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

MINUTES, KEEP = 5.0, 2  # between checkpoints, and how many of a part stay while it runs


def devices(text: str) -> int | None:
    """A number of devices, None for `auto`."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: auto or a number from 1 on")
    return int(text)


def form(text: str) -> str:
    """A form of execution."""
    name, _, width = text.partition(":")
    known = name in ("auto", "sequential", "vmap") and text == name
    if known or (name == "chunked" and width.isdecimal() and int(width) > 0):
        return text
    raise argparse.ArgumentTypeError(
        f"found {text!r}; allowed: auto, sequential, vmap or chunked:WIDTH"
    )


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a whole number from 1 on")
    return int(text)


def minutes(text: str) -> float:
    """A time above zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a number above 0")
    return value


def add_run_time_options(command: argparse.ArgumentParser) -> None:
    """Adds what says how a study is run, and changes nothing about its results."""
    command.add_argument(
        "--devices",
        metavar="N",
        type=devices,
        help="CPU devices that share the clients; auto (the default) is one per core, 64 at most",
    )
    command.add_argument("--data-dir", metavar="DIR", type=Path, help="where prepared data lie")
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.add_argument("--json", action="store_true", help="write progress as lines of JSON")
    command.add_argument(
        "--no-cache",
        action="store_true",
        help="neither use nor keep compiled programs and outcomes of trials",
    )


def add_checkpoint_options(command: argparse.ArgumentParser) -> None:
    """Adds how often a study that is under way is saved, and who else is told how it goes."""
    group = command.add_argument_group(
        "checkpoints",
        "What is needed to go on after an interruption lies in DIR/checkpoints; SIGTERM and Ctrl-C "
        "add to it before the command ends. It changes no result.",
    )
    group.add_argument(
        "--checkpoint-rounds", metavar="N", type=count, help="save after every N rounds as well"
    )
    group.add_argument(
        "--checkpoint-minutes",
        metavar="M",
        type=minutes,
        help=f"save at the end of a round if the latest is M minutes old ({MINUTES:g} by default)",
    )
    group.add_argument(
        "--keep",
        metavar="N",
        type=count,
        help=f"how many stay of a part that is under way ({KEEP} by default)",
    )
    group.add_argument(
        "--no-checkpoints",
        action="store_true",
        help="save nothing: an interrupted study starts anew, models are not kept",
    )
    group.add_argument(
        "--track",
        metavar="WHERE",
        action="append",
        choices=("tensorboard", "wandb"),
        help="send the curves to tensorboard (DIR/tensorboard) or wandb too; may be repeated",
    )
