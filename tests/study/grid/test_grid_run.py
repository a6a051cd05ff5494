"""A tiny grid that is really trained: rows equal solo runs, and poison stays with its row."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from family_tiny import FAMILY

from fedjax_kd.results.status import row_states
from fedjax_kd.study.folder import open_folder
from fedjax_kd.study.grid.rows import rows_of
from fedjax_kd.study.grid.run import sweep
from fedjax_kd.study.grid.settings import load_grid
from fedjax_kd.study.progress import Progress, quiet
from fedjax_kd.study.run_rounds_study import run_rounds_study

TINY = {key: value for key, value in FAMILY.items() if key not in ("seeds", "title")}
GRID = {
    "title": "tiny grid",
    "study": {**TINY, "contestants": ["fd"], "rounds": 2, "evaluation": {"every": 1}},
    "grid": [
        {
            "list": [
                {"training.learning_rate": 0.05},
                {"training.learning_rate": 0.2, "data.partition": {"kind": "iid"}},
                {"training.learning_rate": 1e9},
                {"data.partition.min_examples": 1000},
                {"data.source": "cifar100"},
            ]
        }
    ],
    "seeds": 2,
}


@pytest.fixture(scope="module")
def grid_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid") / "grid.yaml"
    path.write_text(json.dumps(GRID))
    return path


@pytest.fixture(scope="module")
def swept(grid_path):
    out = grid_path.parent / "out"
    notes = []
    progress = Progress(lambda event: notes.append(event.note))
    found = sweep(grid_path, out, progress=progress, form="sequential", data_dir=grid_path.parent)
    return found, out


def test_poisoned_rows_fail_by_themselves(swept):
    found, out = swept
    assert (found.done, found.failed, found.running, found.pending) == (4, 6, 0, 0)
    states = row_states(out)
    assert states["state"].tolist() == ["done"] * 4 + ["failed"] * 6
    assert states["kind"].tolist() == [""] * 4 + ["diverged"] * 2 + ["settings"] * 2 + ["data"] * 2
    reasons = states["reason"].tolist()
    assert "the training loss is not finite" in reasons[4]
    assert "data.partition" in reasons[6]
    assert "cifar100 is not on this machine" in reasons[8]


def test_a_row_of_a_batch_equals_its_solo_run(swept, grid_path, tmp_path):
    _, out = swept
    row: Any = rows_of(load_grid(grid_path), grid_path.parent)[3]
    folder = open_folder(tmp_path / "solo", row.settings)
    run_rounds_study(row.settings, folder, progress=Progress(quiet()), form="sequential")
    folder.close()
    solo = pd.read_parquet(tmp_path / "solo" / "metrics.parquet")
    tables = [pd.read_parquet(path) for path in out.glob("batches/*/metrics.parquet")]
    whole = pd.concat(tables, ignore_index=True)
    stacked = whole[(whole["point"] == row.point) & (whole["seed"] == row.seed)]
    names = ["scope", "metric", "round"]
    pair: Any = [frame.set_index(names)["value"].sort_index() for frame in (stacked, solo)]
    assert len(pair[0]) == len(pair[1]) > 10
    pd.testing.assert_series_equal(*pair, rtol=1e-4)


def test_a_batch_says_what_it_holds(swept):
    _, out = swept
    manifests = [json.loads(path.read_text()) for path in out.glob("batches/*/manifest.json")]
    (whole,) = [m for m in manifests if m["status"] == "complete"]
    assert (whole["kind"], whole["rows"], whole["failed_rows"]) == ("batch", [0, 1, 2, 3], [4, 5])
    assert (whole["points"], whole["seeds"]) == ([0, 0, 1, 1, 2, 2], [0, 1] * 3)
    partition = pd.read_parquet(next(out.glob("batches/*/metrics.parquet")))
    assert np.isfinite(partition["value"]).any()


def test_a_second_sweep_has_nothing_to_do(swept, grid_path):
    found, out = swept
    before = sorted(path.name for path in (out / "batches").iterdir())
    assert sweep(grid_path, out, data_dir=grid_path.parent) == found
    assert sorted(path.name for path in (out / "batches").iterdir()) == before


def test_a_dry_run_shows_the_plan_and_writes_nothing(swept, grid_path, tmp_path):
    tables = []
    found = sweep(
        grid_path,
        tmp_path / "new",
        dry_run=True,
        form="sequential",
        data_dir=grid_path.parent,
        show=tables.append,
    )
    assert (found.done, found.failed, found.pending) == (0, 2, 8)
    assert not (tmp_path / "new").exists()
    (table,) = tables
    assert "10 rows, 0 done, 2 failed or refused, 8 to run in 1 batches" in table.title
    cells = {column.header: list(column.cells) for column in table.columns}
    assert (cells["rows"], cells["width"], cells["batches"]) == (["8"], ["8"], ["1"])
    assert cells["memory"][0].endswith("MiB")
    assert cells["time, about"][0].endswith(" s")
    assert cells["the same in all its rows"] == ["all that is not swept"]


def test_a_dry_run_of_what_is_done_has_nothing_to_plan(swept, grid_path):
    found, out = swept
    tables = []
    again = sweep(grid_path, out, dry_run=True, data_dir=grid_path.parent, show=tables.append)
    assert again == found
    assert "4 done, 6 failed or refused, 0 to run in 0 batches" in tables[0].title
