"""A run of `test_store_journal.py` that saves at every chunk and ends when it is killed.

Words: folder, rounds in all, the round after which it kills itself in the middle of a write, or 0.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from fedjax_kd.clients.store import BEING_WRITTEN
from fedjax_kd.clients.store_journal import journalled

N_CLIENTS, COHORT, CHUNK = 40, 6, 3
TEMPLATE = {"a": np.zeros((1, 5), np.float32), "n": np.zeros((1,), np.int64)}


def rounds(folder: Path, total: int, kill_in: int, saved) -> None:
    """Rounds whose rows depend on what the rows were before, so that a stale one would be seen."""
    journal = journalled(folder, TEMPLATE, N_CLIENTS)
    done = saved()
    journal.roll_back(done)
    for index in range(done, total):
        members = np.random.default_rng(index).choice(N_CLIENTS, COHORT, replace=False)
        rows, made = journal.store.read(members)
        rows["n"] = rows["n"] * 3 + index + made
        rows["a"] = rows["a"] * np.float32(0.7) + members[:, None].astype(np.float32)
        if index == kill_in:
            os.pwritev = _killing(os.pwritev)
        journal.store.write(members, rows)
        if (index + 1) % CHUNK == 0:
            journal.mark(index + 1)
            saved(index + 1)
    journal.store.close()


def _killing(write):
    """Kills the process where a row that was whole is half written, or else at the 7th write."""
    before = []

    def killing(file, buffers, offset):
        if before[-1:] == [BEING_WRITTEN] or len(before) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        before.append(b"".join(buffers))
        return write(file, buffers, offset)

    return killing


def saved_in(folder: Path):
    """Stands for the checkpoint of everything else: how many rounds are done."""

    def saved(done: int | None = None) -> int:
        path = folder / "done"
        if done is not None:
            path.with_suffix(".new").write_text(str(done))
            path.with_suffix(".new").replace(path)
        return int(path.read_text()) if path.exists() else 0

    return saved


if __name__ == "__main__":
    place = Path(sys.argv[1])
    rounds(place / "clients", int(sys.argv[2]), int(sys.argv[3]), saved_in(place))
