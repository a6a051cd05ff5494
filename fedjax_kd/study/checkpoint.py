"""Saving a running study so that it can go on later exactly where it was.

A study consists of parts, each with a number of steps. Between two chunks it offers a part's whole
state; when a checkpoint is due, the state is copied to the host at once, since the next chunk takes
its memory, and written while the study goes on:

    keeper = open_keeper(folder, Cadence(every_minutes=10), settings_hash=..., form=..., points=...)
    part = keeper.part("fedavg", total=500)
    found = part.restore(like)         (step, tree), or None to start from the beginning
    part.offer(done, lambda: state)    after every chunk
    keeper.finish()                    once the results are written: only final states stay
    keeper.close()                     in any case

With several processes all make the same calls; process 0 writes, reads and decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fedjax_kd.study.checkpoint_contract import Keeper as Keeper
from fedjax_kd.study.checkpoint_contract import Part as Part
from fedjax_kd.study.checkpoint_contract import Stopped as Stopped
from fedjax_kd.study.checkpoint_contract import no_keeper as no_keeper
from fedjax_kd.study.checkpoint_contract import nobody
from fedjax_kd.study.checkpoint_files import CHECKPOINTS
from fedjax_kd.study.checkpoint_files import CheckpointError as CheckpointError
from fedjax_kd.study.checkpoint_schedule import Cadence as Cadence
from fedjax_kd.study.checkpoint_session import Session, once
from fedjax_kd.study.environment import machine, versions
from fedjax_kd.study.folder import ResultFolder


def open_keeper(
    folder: ResultFolder,
    cadence: Cadence,
    *,
    settings_hash: str,
    form: str,
    points: int,
    note: Callable[[str], None],
    requested: Callable[[], int | None] = nobody,
    clock: Callable[[], float] = time.monotonic,
) -> Keeper:
    """Opens the checkpoints of a folder of results.

    Args:
      folder: the folder, which this run holds.
      cadence: when to save and how much to keep.
      settings_hash: checkpoints of other settings are refused.
      form: how clients are run; checkpoints of another form are taken with a note.
      points: how many study points run side by side; checkpoints of others are refused.
      note: told what the user should know, a line at a time.
      requested: returns the number of the signal that asked for a stop, or None.
      clock: seconds from any moment on.
    """
    about = {
        "settings_hash": settings_hash,
        "form": form,
        "points": points,
        "versions": versions(),
        "machine": machine(),
    }
    root = folder.path / CHECKPOINTS
    session = Session(root, cadence, about, folder.writes, once(note), requested, clock)

    def part(name: str, total: int) -> Part:
        if isinstance(total, bool) or not isinstance(total, int) or total < 1:
            raise ValueError(f"total: found {total!r}; allowed: a whole number, at least 1")
        return session.part(name, total)

    return Keeper(part, session.drop, session.finish, session.close)
