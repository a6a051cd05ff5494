"""What a command says: its answer, hints beside it, and last words when it is stopped."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any


class CommandStopped(Exception):
    """The command was asked to stop and has stopped; the message says how to go on.

    Attributes:
      code: the exit code.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


def told(reason: str, folder: Path, arguments: argparse.Namespace) -> str:
    """What a command that was stopped says last."""
    kept = "everything up to there is kept; "
    if arguments.no_checkpoints:
        kept = "without checkpoints, only what had finished is kept; "
    return f"{reason}; {kept}go on with: fedjax-kd resume {shlex.quote(str(folder))}"


def say(arguments: argparse.Namespace, answer: dict[str, Any], text: str) -> None:
    """Prints the command's answer, for a program or for a person."""
    if arguments.hosts.first:
        print(json.dumps(answer) if arguments.json else text, flush=True)


def hint(arguments: argparse.Namespace, text: str) -> None:
    """Prints what a person may want to know beside the answer."""
    if not arguments.quiet and not arguments.json:
        print(text, file=sys.stderr)


def progress_mode(arguments: argparse.Namespace) -> Any:
    """How progress is shown."""
    return "json" if arguments.json else "quiet" if arguments.quiet else "auto"
