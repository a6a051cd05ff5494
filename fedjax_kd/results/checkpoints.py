"""What lies in `checkpoints/` of a run, from names, sizes and the JSON of each checkpoint.

Whether the JSON is as it was written is checked here; whether the arrays are, `resume` checks when
it reads them.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

FOLDER = "checkpoints"
_ABOUT = Path("about", "metadata")
_UNFINISHED = ("orbax-checkpoint-tmp", ".half-written")


class Checkpoint(NamedTuple):
    """One checkpoint.

    Attributes:
      part: of the study.
      step: after which it was saved; None of one that was never finished.
      path: its folder.
      size_bytes: of all its files.
      state: `sound`: its description is as it was written; `damaged`: it is not, or `resume` has
        set the checkpoint aside; `unfinished`: it is being written, or its writer was killed.
      total: steps of the part; None where the description cannot be read.
      saved_at: in ISO format; empty where the description does not say.
    """

    part: str
    step: int | None
    path: Path
    size_bytes: int
    state: str
    total: int | None
    saved_at: str


def read_checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints of a run, by part and step.

    Args:
      folder: of the run.
    """
    found = []
    for part in sorted(path for path in (folder / FOLDER).glob("*") if path.is_dir()):
        each = [_read(unquote(part.name), path) for path in part.iterdir() if path.is_dir()]
        found += sorted(each, key=lambda one: (one.step is None, one.step or 0, one.path.name))
    return found


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; files that vanish in the meantime count as nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _read(part: str, path: Path) -> Checkpoint:
    size = size_of(path)
    if any(word in path.name for word in _UNFINISHED):
        return Checkpoint(part, None, path, size, "unfinished", None, "")
    number = path.name.partition(".")[0]
    step = int(number) if number.isdecimal() else None
    about = _about(path)
    total, saved_at = about.get("total"), str(about.get("saved_at") or "")
    of_this = (about.get("part"), about.get("step")) == (part, step)
    sound = path.name.isdecimal() and of_this and _has_arrays(path, about)
    return Checkpoint(part, step, path, size, "sound" if sound else "damaged", total, saved_at)


def _about(path: Path) -> dict[str, Any]:
    """What a checkpoint's JSON says; nothing if it is not as it was written."""
    try:
        told = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
        about = {key: value for key, value in told.items() if key != "checksum"}
        text = json.dumps(about, sort_keys=True)
        return about if zlib.crc32(text.encode()) == told["checksum"] else {}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def _has_arrays(path: Path, about: dict[str, Any]) -> bool:
    """Whether there is something where the arrays should be."""
    leaves = about.get("leaves") or {}
    stored = any(0 not in leaf.get("shape", ()) for leaf in leaves.values())
    return not stored or size_of(path / "state") > 0
