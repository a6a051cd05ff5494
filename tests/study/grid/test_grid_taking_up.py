"""What is taken up of others, and what is left to them; nothing is trained here."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest

from fedjax_kd.results.status import count_states, row_states
from fedjax_kd.study.checkpoint import Cadence, open_keeper
from fedjax_kd.study.checkpoint_files import CheckpointError, CheckpointMisfit
from fedjax_kd.study.grid.claims import Claims
from fedjax_kd.study.grid.folder import open_grid_folder
from fedjax_kd.study.grid.outcome import DeviceLost, outcome_of
from fedjax_kd.study.grid.rows import rows_of
from fedjax_kd.study.grid.run import Swept, sweep
from fedjax_kd.study.grid.settings import grid_from_dict
from fedjax_kd.study.memory import StudyTooLarge

SAID = {
    "study": {"method": "family", "contestants": ["local"]},
    "grid": {"training.learning_rate": [0.1, 0.2], "rounds": [1, 2]},
    "seeds": 2,
}
IN_FIRST, IN_SECOND = (0, 1, 4, 5), (2, 3, 6, 7)  # rows of the two programs


@pytest.fixture
def place(tmp_path):
    """The grid's file and its folder, and claims on it as another process has them."""
    (tmp_path / "grid.yaml").write_text(json.dumps(SAID))
    grid = grid_from_dict(SAID)
    rows = rows_of(grid)
    folder = open_grid_folder(tmp_path / "out", grid, rows)
    return tmp_path / "grid.yaml", folder.path, Claims(folder, rows)


def begun(claims, rows) -> Any:
    """A batch that another process holds."""
    return claims.next((), lambda covered: rows)


def recorded(seen, error: Exception | None = None):
    """A runner that notes which rows it is given; the first call fails if there is an error."""

    def run(settings, folder, points, progress):
        seen.append(tuple(folder.read_manifest()["rows"]))
        if error is not None and len(seen) == 1:
            raise error
        folder.update_manifest(status="complete")

    return run


@pytest.mark.parametrize("asked", ["0:2", "0,2,3"])
def test_a_batch_that_reaches_past_the_rows_asked_for(place, asked):
    grid, out, other = place
    begun(other, (5, 0, 1)).folder.close()  # its first row is not asked for
    begun(other, (6, 2)).folder.close()
    seen = []
    found = sweep(grid, out, rows=asked, runner=recorded(seen, StudyTooLarge("it needs more")))
    assert found.pending == found.running == found.failed == 0
    assert seen[0] == (5, 0, 1)
    assert all(len(rows) == 1 or rows == (6, 2) for rows in seen[1:])  # halved, then the rest


@pytest.fixture
def without_data(monkeypatch):
    """The first point's data set is not on this machine."""
    plain = rows_of

    def without(grid, data_dir=None):
        rows = plain(grid, data_dir)
        gone: dict[str, Any] = {"settings": None, "problem": "not here", "kind": "data"}
        gone_point = dataclasses.replace(rows[0].of, **gone)
        return [dataclasses.replace(row, of=gone_point) if row.point == 0 else row for row in rows]

    monkeypatch.setattr("fedjax_kd.study.grid.run.rows_of", without)


def test_only_free_rows_are_refused_for_data_that_is_not_here(place, without_data):
    grid, out, other = place
    done, held = begun(other, (0, 2)), begun(other, (1, 4))
    other.settle(done, {})
    seen = []
    found = sweep(grid, out, runner=recorded(seen))
    assert (found.done, found.failed, found.running) == (6, 0, 2)
    held.folder.close()
    assert sweep(grid, out, runner=recorded(seen)).failed == 0  # its first row cannot run here
    assert (1, 4) not in seen
    assert sorted(row for rows in seen for row in rows) == [3, 5, 6, 7]


def test_rows_that_nobody_has_are_refused_for_data_that_is_not_here(place, without_data):
    grid, out, _ = place
    found = sweep(grid, out, runner=recorded([]))
    assert (found.done, found.failed) == (6, 2)
    assert found.reasons[0] == "row 0: data: not here"
    assert sweep(grid, out, runner=recorded([]), retry_failed=True) == found


def test_a_batch_wider_than_asked_for_is_planned_anew(place):
    grid, out, other = place
    wide = begun(other, IN_FIRST)
    wide.folder.close()
    seen = []
    assert sweep(grid, out, width=2, runner=recorded(seen)) == Swept(8, 0, 0, 0)
    assert seen == [(0, 1), (4, 5), (2, 3), (6, 7)]
    told = json.loads((wide.folder.path / "manifest.json").read_text())
    assert (told["settled"], told["rows"]) == (True, [])
    assert told["stopped"]["reason"] == "re-formed in smaller batches, of at most 2 rows"


def test_a_checkpoint_that_fits_no_more_frees_its_batch(place):
    grid, out, other = place
    old = begun(other, IN_FIRST)
    old.folder.close()
    seen = []
    run = recorded(seen, CheckpointMisfit("leaf ['x']: found int32; allowed: float32"))
    assert sweep(grid, out, runner=run) == Swept(8, 0, 0, 0)
    assert seen == [IN_FIRST, IN_FIRST, IN_SECOND]
    told = json.loads((old.folder.path / "manifest.json").read_text())
    assert "its checkpoints cannot be taken up: leaf ['x']" in told["stopped"]["reason"]


@pytest.mark.parametrize(("settings", "n"), [("other", 3), ("same", 4)])
def test_checkpoints_of_other_settings_or_another_tree_do_not_fit(place, settings, n):
    folder = begun(place[2], IN_FIRST).folder

    def part(settings_hash):
        about: Any = {"settings_hash": settings_hash, "form": "vmap", "points": 4}
        keeper = open_keeper(folder, Cadence(every_minutes=5), **about, note=lambda text: None)
        return keeper, keeper.part("fd", 2)

    keeper, written = part("same")
    written.offer(2, lambda: {"x": np.zeros(3, np.float32)})
    keeper.close()
    keeper, found = part(settings)
    with pytest.raises(CheckpointMisfit):
        found.restore({"x": np.zeros(n, np.float32)})
    keeper.close()
    folder.close()


def test_a_checkpoint_that_cannot_be_written_ends_the_sweep():
    with pytest.raises(CheckpointError, match="no space"):
        outcome_of(CheckpointError("cannot write: no space"), (0, 1), "batch", True)
    with pytest.raises(CheckpointMisfit):  # of a batch that has just begun: it would never end
        outcome_of(CheckpointMisfit("another tree"), (0, 1), "batch")


@pytest.mark.parametrize("word", ["INTERNAL", "UNAVAILABLE", "ABORTED", "DATA_LOSS", "UNKNOWN"])
def test_a_lost_device_ends_the_sweep_and_leaves_the_batch_free(place, word):
    grid, out, _ = place
    error = jax.errors.JaxRuntimeError(f"{word}: the stream has failed")
    with pytest.raises(DeviceLost, match=f"the device has failed: {word}: the stream"):
        sweep(grid, out, runner=recorded([], error))
    assert count_states(row_states(out)) == {"done": 0, "failed": 0, "running": 0, "pending": 8}


def test_what_a_device_refuses_by_itself_is_the_rows_own(place):
    error = jax.errors.JaxRuntimeError("INVALID_ARGUMENT: of another shape")
    assert outcome_of(error, (3,), "batch").failures[3].kind == "defect"
