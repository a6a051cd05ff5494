"""Damaging the latest checkpoint of a killed study, as a bad disk would."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Literal

Damage = Literal["", "truncated", "bit flipped"]


def damage_latest(folder: Path, damage: Damage, chance: random.Random) -> str:
    """Damages the largest file of the checkpoint that was written last.

    Args:
      folder: of the study's results.
      damage: what is done to the file.
      chance: where the place of the bit comes from.

    Returns:
      Which checkpoint it was, as `part/step`; empty if there is none.
    """
    steps = [step for step in (folder / "checkpoints").glob("*/*") if step.name.isdecimal()]
    if not steps:
        return ""
    latest = max(steps, key=lambda step: step.stat().st_mtime_ns)
    files = [path for path in latest.rglob("*") if path.is_file()]
    victim = max(files, key=lambda path: path.stat().st_size)
    size = victim.stat().st_size
    if damage == "truncated":
        os.truncate(victim, size // 2)
    else:
        place = chance.randrange(size)
        with victim.open("r+b") as file:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ (1 << chance.randrange(8))]))
    return f"{latest.parent.name}/{latest.name}"
