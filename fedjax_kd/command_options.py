"""The run-time options of a folder, kept in it so that nothing is typed again to resume.

They say how a study is run and never what comes out, so they are no part of its settings.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from fedjax_kd.command_line_values import KEEP, MINUTES
from fedjax_kd.study.folder import OPTIONS

_CADENCE = ("checkpoint_rounds", "checkpoint_minutes", "keep")
_EMPTY: dict[str, Any] = {
    "devices": None,
    "data_dir": None,
    "execution": "auto",
    "no_cache": False,
    "checkpoint_rounds": None,
    "checkpoint_minutes": MINUTES,
    "keep": KEEP,
    "no_checkpoints": False,
    "track": [],
    "width": None,
}


class OptionsError(ValueError):
    """The options that a folder was run with cannot be read."""


def complete_options(arguments: argparse.Namespace, folder: Path | None = None) -> None:
    """Fills in the options that were not given.

    Args:
      arguments: of `run`, `resume` or `sweep`; gets every option of `OPTIONS`.
      folder: whose options count where none is given; None takes the defaults.

    Raises:
      OptionsError: the folder's options cannot be read.
      SystemExit: options contradict each other.
    """
    cadence = [name for name in _CADENCE if getattr(arguments, name)]
    if cadence and arguments.no_checkpoints:
        option = "--" + cadence[0].replace("_", "-")
        arguments.parser.error(f"--no-checkpoints: found together with {option}; allowed: one")
    earlier = _read(folder) if folder is not None else {}
    if cadence:
        earlier["no_checkpoints"] = False
    for name, empty in _EMPTY.items():
        given = getattr(arguments, name, None)
        setattr(arguments, name, given or earlier.get(name, empty))
    if arguments.data_dir is not None:
        arguments.data_dir = Path(arguments.data_dir)


def keep_options(arguments: argparse.Namespace, folder: Path) -> None:
    """Writes the options of a command into its folder.

    Several processes may do so at once: the last one's file stays, whole.
    """
    told = {name: getattr(arguments, name) for name in _EMPTY}
    if told["data_dir"] is not None:
        told["data_dir"] = str(told["data_dir"].absolute())
    descriptor, partial = tempfile.mkstemp(".partial", ".options-", folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(told, indent=2) + "\n")
        os.chmod(partial, 0o644)
        os.replace(partial, folder / OPTIONS)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _read(folder: Path) -> dict[str, Any]:
    path = folder / OPTIONS
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise OptionsError(
            f"{path} cannot be read: {error}; without the file the defaults are taken"
        ) from error
    if not isinstance(told, dict):
        raise OptionsError(f"{path} does not hold options; without it the defaults are taken")
    return {name: told[name] for name in _EMPTY if name in told}
