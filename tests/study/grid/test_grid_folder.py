"""A grid's folder, and processes that share it; nothing is trained here."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fedjax_kd.results.status import count_states, row_states
from fedjax_kd.study.diverged import Diverged
from fedjax_kd.study.folder import FolderError, locked
from fedjax_kd.study.grid.claims import Claims
from fedjax_kd.study.grid.folder import Failure, open_grid_folder, read_grid
from fedjax_kd.study.grid.rows import rows_of
from fedjax_kd.study.grid.run import Swept, sweep
from fedjax_kd.study.grid.settings import grid_from_dict
from fedjax_kd.study.memory import StudyTooLarge
from fedjax_kd.study.points import PointRefused
from fedjax_kd.study.yaml_text import read_yaml

SAID = {
    "title": "first",
    "study": {"method": "family", "contestants": ["local"]},
    "grid": {"training.learning_rate": [0.1, 0.2], "rounds": [1, 2]},
    "seeds": 2,
}
PROCESS = Path(__file__).with_name("sweep_process.py")


def opened(path, said=SAID, force=False) -> tuple[Any, Any]:
    grid = grid_from_dict(said)
    rows = rows_of(grid)
    return open_grid_folder(path, grid, rows, force), rows


def written(path, said=SAID):
    path.write_text(json.dumps(said))
    return path


def states(out):
    frame = row_states(out)
    return dict(zip(frame["row"], frame["state"], strict=True))


def finishing(settings, folder, points, progress):
    folder.update_manifest(status="complete")


# ------------------------------------------------------------------------------- the folder


def test_a_new_folder_says_what_the_grid_is(tmp_path):
    folder, _ = opened(tmp_path / "deep" / "out")
    told = read_grid(folder.path)
    assert (told["kind"], told["title"], told["n_rows"], told["seeds"]) == (
        "grid",
        "first",
        8,
        [0, 1],
    )
    assert told["swept"] == ["training.learning_rate", "rounds"]
    table = pd.read_csv(folder.path / "rows.csv")
    assert list(table) == ["row", "point", "seed", "training.learning_rate", "rounds"]
    assert table.loc[5].tolist() == [5, 2, 1, 0.2, 1]
    again = grid_from_dict(read_yaml((folder.path / "grid.yaml").read_text()))
    assert [r.settings for r in rows_of(again)] == [
        r.settings for r in rows_of(grid_from_dict(SAID))
    ]


def test_the_same_grid_goes_on_and_its_title_does_not_count(tmp_path):
    opened(tmp_path)
    before = (tmp_path / "grid.json").read_bytes()
    opened(tmp_path, {**SAID, "title": "renamed"})
    assert (tmp_path / "grid.json").read_bytes() == before


def test_another_grid_is_refused_with_what_differs(tmp_path):
    opened(tmp_path)
    other = {**SAID, "title": "second", "set": {"data.users": 9}}
    with pytest.raises(FolderError) as error:
        opened(tmp_path, other)
    for part in ("'first'", "'second'", "data.users 5 there, 9 here", "--out", "--force"):
        assert part in str(error.value)
    folder, _ = opened(tmp_path, other, force=True)
    assert folder.moved == tmp_path.with_name(f"{tmp_path.name}.old-1")
    assert read_grid(folder.moved)["title"] == "first"


def test_force_leaves_a_folder_alone_that_is_being_worked_on(tmp_path):
    opened(tmp_path)
    batch = tmp_path / "batches" / "000000-0"
    batch.mkdir(parents=True)
    lock: Any = locked(batch)
    with pytest.raises(FolderError, match="another process is working on"):
        opened(tmp_path, force=True)
    lock.release()
    opened(tmp_path, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_other_files_are_never_touched(tmp_path, force):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"not a grid's \(thesis.txt\)"):
        opened(tmp_path, force=force)
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="is a file"):
        opened(tmp_path / "file", force=force)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "is not the description of a grid"),
        ('{"hash": "0", "format": 9}', "found format 9; this version reads format 1"),
    ],
)
def test_descriptions_that_are_not_ours(tmp_path, text, message):
    (tmp_path / "grid.json").write_text(text)
    with pytest.raises(FolderError, match=message):
        opened(tmp_path)


def test_what_a_killed_process_began_is_written_again(tmp_path):
    opened(tmp_path)
    (tmp_path / "grid.json").unlink()
    (tmp_path / "rows.csv").write_text("half")
    opened(tmp_path)
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 8


# ------------------------------------------------------------------------- one process at a time


def first_free(n):
    return lambda covered: tuple(row for row in range(8) if covered.free(row))[:n]


def test_a_batch_is_held_until_it_is_closed_and_taken_up_by_the_next(tmp_path):
    folder, rows = opened(tmp_path)
    one: Any = Claims(folder, rows)
    other: Any = Claims(folder, rows)
    work: Any = one.next(range(8), first_free(3))
    assert (work.rows, work.resumed) == ((0, 1, 2), False)
    assert other.next(range(3), lambda covered: ()) is None
    assert states(tmp_path) == dict.fromkeys(range(3), "running") | dict.fromkeys(
        range(3, 8), "pending"
    )
    work.folder.close()  # as the end of a process does
    assert states(tmp_path)[0] == "pending"
    again: Any = other.next([2], first_free(3))
    assert (again.rows, again.resumed, again.name) == ((0, 1, 2), True, work.name)
    other.settle(again, {1: Failure("diverged", "not finite", again.name)})
    assert states(tmp_path)[0] == "done"
    assert states(tmp_path)[1] == "failed"
    assert one.covered().done == {0, 2}
    assert one.next(range(8), first_free(8)).rows == (3, 4, 5, 6, 7)


def test_a_damaged_batch_is_left_out_and_said_so(tmp_path):
    folder, rows = opened(tmp_path)
    work: Any = Claims(folder, rows).next(range(8), first_free(8))
    work.folder.close()
    (work.folder.path / "manifest.json").write_text("{")
    notes = []
    again: Any = Claims(folder, rows, notes.append).next(range(8), first_free(8))
    assert again.name != work.name
    assert "is left out, and its rows are run again" in notes[0]


def test_failures_end_up_with_their_rows(tmp_path):
    """Every kind of failure, in one sweep; the rows it does not concern are done."""
    seen = []

    def run(settings, folder, points, progress):
        rows = tuple(folder.read_manifest()["rows"])
        seen.append(rows)
        if settings.rounds == 2:
            raise RuntimeError("a hole")
        if 0 in rows:
            raise PointRefused(rows.index(0), "data.partition: cannot exist")
        if 1 in rows:
            raise Diverged({rows.index(1): "not finite"})
        folder.update_manifest(status="complete")
        return {rows.index(4): "lost"}

    out = tmp_path / "out"
    found = sweep(written(tmp_path / "grid.yaml"), out, runner=run)
    assert seen == [(0, 1, 4, 5), (1, 4, 5), (4, 5), (2, 3, 6, 7)]
    assert (found.done, found.failed, found.running, found.pending) == (1, 7, 0, 0)
    assert found.reasons[:3] == (
        "row 0: settings: data.partition: cannot exist",
        "row 1: diverged: not finite",
        "row 2: defect: RuntimeError: a hole",
    )
    defect = json.loads((out / "failures" / "3.json").read_text())
    assert "a hole" in defect["traceback"]
    assert defect["where"].startswith("000002-")
    assert states(out) == dict.fromkeys([0, 1, 2, 3, 4, 6, 7], "failed") | {5: "done"}
    assert sweep(tmp_path / "grid.yaml", out, runner=run) == found  # nothing is run again
    assert len(seen) == 4
    again = sweep(out / "grid.yaml", out, runner=finishing, retry_failed=True)
    assert again == Swept(8, 0, 0, 0)
    assert count_states(row_states(out))["done"] == 8
    assert len(list((out / "failures" / "retried").iterdir())) == 7


def test_too_wide_batches_are_halved(tmp_path):
    widths = []

    def run(settings, folder, points, progress):
        widths.append(points.count)
        if points.count > 1 or settings.rounds == 2:
            raise StudyTooLarge("it needs more")
        folder.update_manifest(status="complete")

    found = sweep(written(tmp_path / "grid.yaml"), tmp_path / "out", runner=run)
    assert widths == [4, 2, 1, 1, 1, 1, 4, 2, 1, 1, 1, 1]
    assert (found.done, found.failed) == (4, 4)
    assert found.reasons[0] == "row 2: memory: it needs more"


def test_refused_rows_are_recorded_and_the_others_run(tmp_path):
    said = {**SAID, "grid": {"rounds": [0, 1], "data.source": ["digits", "cifar100"]}}
    found = sweep(
        written(tmp_path / "grid.yaml", said), tmp_path / "out", runner=finishing, data_dir=tmp_path
    )
    assert (found.done, found.failed) == (2, 6)
    kinds = row_states(tmp_path / "out")["kind"].tolist()
    assert kinds == ["settings"] * 4 + ["", ""] + ["data"] * 2


def test_only_the_rows_asked_for_are_run(tmp_path):
    grid, out = written(tmp_path / "grid.yaml"), tmp_path / "out"
    assert sweep(grid, out, rows="0:3", runner=finishing) == Swept(3, 0, 0, 0)
    assert count_states(row_states(out)) == {"done": 3, "failed": 0, "running": 0, "pending": 5}
    assert sweep(grid, out, rows="7", runner=finishing) == Swept(1, 0, 0, 0)
    assert sweep(grid, out, runner=finishing) == Swept(8, 0, 0, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FolderError("the disk is full")])
def test_what_ends_a_sweep_leaves_the_batch_free(tmp_path, error):
    def run(settings, folder, points, progress):
        raise error

    grid, out = written(tmp_path / "grid.yaml"), tmp_path / "out"
    with pytest.raises(type(error)):
        sweep(grid, out, runner=run)
    assert count_states(row_states(out)) == {"done": 0, "failed": 0, "running": 0, "pending": 8}
    assert sweep(grid, out, runner=finishing) == Swept(8, 0, 0, 0)


# ------------------------------------------------------------------------- several processes


def start(*words):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen([sys.executable, str(PROCESS), *map(str, words)], env=environment)


def lines_of(log, word):
    text = log.read_text().splitlines() if log.exists() else []
    return [line.split(" ", 3) for line in text if line.startswith(word)]


def test_two_processes_do_each_row_once(tmp_path):
    said = {**SAID, "seeds": 20}
    grid, out, log = written(tmp_path / "grid.yaml", said), tmp_path / "out", tmp_path / "log"
    processes = [start(grid, out, log, 0.01) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    rows = [row for line in lines_of(log, "end") for row in json.loads(line[3])]
    assert sorted(rows) == list(range(80))
    assert len(lines_of(log, "begin")) == len(list((out / "batches").iterdir())) == 40
    assert len(Counter(line[1] for line in lines_of(log, "end"))) == 2  # both had work
    assert count_states(row_states(out))["done"] == 80


def test_what_a_killed_process_held_is_taken_up_by_the_other(tmp_path):
    grid, out, log = written(tmp_path / "grid.yaml"), tmp_path / "out", tmp_path / "log"
    killed = start(grid, out, log, 60)
    until = time.monotonic() + 60
    while not lines_of(log, "begin") and time.monotonic() < until:
        time.sleep(0.01)
    assert count_states(row_states(out))["running"] == 2
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert count_states(row_states(out))["running"] == 0
    other = start(grid, out, log, 0.01)
    assert other.wait(timeout=120) == 0
    begun = [line[2] for line in lines_of(log, "begin")]
    assert begun[0] == begun[1]  # the same batch, taken up
    rows = [row for line in lines_of(log, "end") for row in json.loads(line[3])]
    assert sorted(rows) == list(range(8))
    assert count_states(row_states(out))["done"] == 8
