"""What a folder of results is (a run, a grid or neither), and the small JSON files that say so."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from fedjax_kd.results.errors import ResultsError

try:
    import fcntl
except ImportError:  # Windows: folders are not locked there
    fcntl = None

MANIFEST = "manifest.json"
GRID = "grid.json"
BATCHES = "batches"
LOCK_FILE = ".lock"


def kind_of(folder: Path | str) -> Literal["run", "grid"]:
    """Says whether a folder holds a run (a batch of a grid is one too) or a grid.

    Raises:
      ResultsError: it holds neither; the message names folders nearby that do.
    """
    path = Path(folder)
    if (path / GRID).is_file():
        return "grid"
    if (path / MANIFEST).is_file():
        return "run"
    if path.is_file():
        raise ResultsError(f"{folder} is a file; name the folder that `run` or `sweep` has filled")
    if not path.is_dir():
        raise ResultsError(f"{folder}: there is no such folder{_similar(path)}")
    within = [each.name for each in _folders(path) if _holds_results(each)]
    if within:
        raise ResultsError(
            f"{folder} holds no results itself; these folders in it do: {enumeration(within)}"
        )
    found = sorted(each.name for each in path.iterdir())
    there = f"it holds {enumeration(found)}" if found else "it is empty"
    raise ResultsError(
        f"{folder} holds no results: there is neither {MANIFEST} nor {GRID} in it; {there}"
    )


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """Returns what `manifest.json` of a run says.

    Raises:
      ResultsError: there is none, it cannot be read or it is not a study's.
    """
    path = Path(folder) / MANIFEST
    manifest = read_json(path)
    if "settings_hash" not in manifest:
        raise ResultsError(f"{path} is not the manifest of a study: it lacks settings_hash")
    return manifest


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Raises:
      ResultsError: the file is not there, cannot be read or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ResultsError(f"{path} must hold one JSON object, holds a {type(value).__name__}")
    return value


def lock_held(folder: Path | str) -> bool:
    """Says whether a running process holds the folder; False where there are no locks.

    The lock is tried for a moment and in shared mode, so that looking does not get in the way of
    others who look.
    """
    if fcntl is None:
        return False
    try:
        descriptor = os.open(Path(folder) / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def enumeration(names: Sequence[str], most: int = 8) -> str:
    """Names in a row, e.g. `a, b and 3 more`."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def meant(name: str, names: Sequence[str]) -> str:
    """A guess at what was meant, e.g. ` (did you mean ledger?)`; empty without a good one."""
    guess = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {guess[0]}?)" if guess else ""


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    names = {each.name: each for each in _folders(path.parent)}
    guess = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean {path.parent / guess[0]}?)" if guess else ""


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir())


def _holds_results(path: Path) -> bool:
    return (path / MANIFEST).is_file() or (path / GRID).is_file()
