"""Running a tiny study, interrupting it, going on, and comparing folders bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedjax_kd.study.carry_out import Conduct, carry_out
from fedjax_kd.study.checkpoint import Cadence
from fedjax_kd.study.checkpoint_contract import nobody
from fedjax_kd.study.checkpoint_files import (
    part_folder,
    parts_in,
    read_about,
    read_leaves,
    steps_in,
)
from fedjax_kd.study.folder import open_folder
from fedjax_kd.study.progress import Event, Progress

NOT_RESULTS = {"timings.parquet"}


class Killed(BaseException):
    """What a process does not come back from, as far as a test in one process can have it."""


def run(
    settings: Any,
    path: Path,
    *,
    every_rounds: int = 1,
    kill_after: int | None = None,
    requested: Callable[[], int | None] = nobody,
) -> list[str]:
    """Runs a study into a folder; returns the notes that a user would have seen.

    Args:
        settings: the study.
        path: its folder, which may hold an interrupted run.
        every_rounds: from one checkpoint to the next.
        kill_after: number of the progress event at which the run ends without a word.
        requested: as `carry_out` takes it.

    Raises:
        Killed: where it was to.
    """
    notes: list[str] = []
    seen = 0

    def show(event: Event) -> None:
        nonlocal seen
        if event.kind == "note":
            notes.append(event.note)
        if event.kind == "advance":
            seen += 1
            if seen == kill_after:
                raise Killed

    conduct = Conduct(cadence=Cadence(every_rounds, None), form="sequential")
    folder = open_folder(path, settings)
    try:
        carry_out(settings, folder, conduct, progress=Progress(show), requested=requested)
    finally:
        folder.close()
    return notes


def same_results(one: Path, other: Path) -> None:
    """Asserts that two folders hold the same tables and the same final states, bit for bit."""
    names = {path.name for path in one.glob("*.parquet")} - NOT_RESULTS
    assert names == {path.name for path in other.glob("*.parquet")} - NOT_RESULTS
    assert "metrics.parquet" in names
    for name in names:
        mine, theirs = pd.read_parquet(one / name), pd.read_parquet(other / name)
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True, obj=name)
    assert (one / "summary.csv").read_bytes() == (other / "summary.csv").read_bytes()
    mine, theirs = final_states(one), final_states(other)
    assert mine.keys() == theirs.keys()
    for part, leaves in mine.items():
        assert leaves.keys() == theirs[part].keys()
        for name, numbers in leaves.items():
            np.testing.assert_array_equal(numbers, theirs[part][name], err_msg=f"{part}{name}")


def final_states(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Part -> leaf -> numbers of the last checkpoint of each part."""
    root = folder / "checkpoints"
    found = {}
    for part in parts_in(root):
        last = part_folder(root, part) / str(steps_in(part_folder(root, part))[-1])
        leaves = read_leaves(last, read_about(last))
        found[part] = {name: leaf.numbers for name, leaf in leaves.items()}
    assert found
    return found
