"""Frames of results: of finished, running, killed and damaged studies, of grids and of several."""

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import (
    fail,
    finished_run,
    make_grid,
    metric_rows,
    running_run,
    write_batch,
    write_manifest,
)

import fedjax_kd
from fedjax_kd.results.errors import ResultsError, ResultsWarning
from fedjax_kd.results.row_parts import part_file
from fedjax_kd.results.status import row_states

load: Any = fedjax_kd.load_results
LONG_FORM = ["point", "seed", "round", "scope", "metric", "value"]


def as_set(frame):
    return set(frame[LONG_FORM].itertuples(index=False, name=None))


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, fedjax_kd; assert 'load_results' in dir(fedjax_kd); "
        "heavy = {'jax', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules); assert not heavy, heavy;"
        "fedjax_kd.load_results; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'load_result'"):
        fedjax_kd.load_result  # noqa: B018


def test_finished_run(tmp_path):
    folder = finished_run(tmp_path / "run")
    frame = load(folder)
    assert list(frame.columns) == LONG_FORM
    assert as_set(frame) == as_set(metric_rows([(0, 0), (0, 1)], range(1, 7)))
    assert frame["scope"].dtype == "category"
    assert frame["metric"].dtype == "category"
    ledger = load(str(folder), "ledger")
    assert ledger["bits"].tolist() == [8.0, 16.0]
    assert load(folder, "summary")["accuracy"].tolist() == [0.5]
    rows = load(folder, "rows")
    assert rows["seed"].tolist() == [0, 1]
    assert set(rows["state"]) == {"done"}


def test_rows_of_a_killed_run_are_read_and_partial_files_ignored(tmp_path):
    folder = running_run(tmp_path / "run")
    (folder / "rows" / "local" / ".00000009.parquet.partial").write_bytes(b"PAR1 half a file")
    frame = load(folder)
    assert len(frame) == 2 * 4 * (6 + 2)
    assert not frame.duplicated(LONG_FORM[:-1]).any()
    assert frame.query("scope == 'local'")["round"].max() == 2
    assert set(load(folder, "rows")["state"]) == {"pending"}


def test_run_without_rows_yet_is_empty(tmp_path):
    frame = load(write_manifest(tmp_path / "run", "running"))
    assert list(frame.columns) == LONG_FORM
    assert frame.empty


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_part_file_is_left_out_with_a_warning(tmp_path, damage):
    folder = running_run(tmp_path / "run")
    path = part_file(folder, "fedavg", 3)
    content = path.read_bytes()
    changed = {
        "truncated": content[: len(content) // 2],
        "flipped": content[:-3] + bytes([content[-3] ^ 64]) + content[-2:],
        "empty": b"",
    }
    path.write_bytes(changed[damage])
    with pytest.warns(ResultsWarning, match=r"00000003\.parquet is damaged and left out"):
        frame = load(folder)
    assert sorted(frame.query("scope == 'fedavg'")["round"].unique()) == [1, 4, 5, 6]


def test_rows_that_stand_in_two_files_count_once(tmp_path):
    folder = running_run(tmp_path / "run")
    # A process was killed after it had shortened the file of round 6, before it took that away.
    metric_rows([(0, 0), (0, 1)], range(4, 6)).to_parquet(
        part_file(folder, "fedavg", 5), index=False
    )
    # The tables of contestants that have finished are there before the study ends.
    metric_rows([(0, 0), (0, 1)], range(1, 7)).to_parquet(folder / "metrics.parquet", index=False)
    frame = load(folder)
    assert len(frame) == 2 * 4 * (6 + 2)
    assert not frame.duplicated(LONG_FORM[:-1]).any()


def test_rows_left_over_beside_the_tables_of_a_complete_study_do_not_count(tmp_path):
    folder = running_run(tmp_path / "run", "complete")
    whole = metric_rows([(0, 0)], range(1, 3))
    whole.to_parquet(folder / "metrics.parquet", index=False)
    assert as_set(load(folder)) == as_set(whole)


def test_damaged_table_of_an_unfinished_study_falls_back_on_its_rows(tmp_path):
    folder = running_run(tmp_path / "run")
    (folder / "metrics.parquet").write_bytes(b"PAR1")
    with pytest.warns(ResultsWarning, match=r"metrics\.parquet cannot be read"):
        assert len(load(folder)) == 2 * 4 * (6 + 2)


def test_grid(tmp_path):
    grid = make_grid(tmp_path / "grid")
    write_batch(grid, [0, 1, 2, 3])
    write_batch(grid, [4, 5], "running")
    fail(grid, 6)
    frame = load(grid)
    swept = ["training.learning_rate", "contestants"]
    assert list(frame.columns) == ["row", *LONG_FORM, *swept]
    expected = metric_rows([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)], range(1, 4))
    assert as_set(frame) == as_set(expected)
    assert (frame["row"] == 2 * frame["point"] + frame["seed"]).all()
    assert np.allclose(frame["training.learning_rate"], 0.1 * (1 + frame["point"]))
    assert set(frame["contestants"]) == {'["fedavg"]'}
    rows = load(grid, "rows")
    assert rows["state"].tolist() == ["done"] * 4 + ["pending"] * 2 + ["failed", "pending"]
    assert rows["reason"].tolist()[6] == "the loss is not finite"


def test_failed_rows_are_left_out_and_come_back_when_they_are_run_again(tmp_path):
    grid = make_grid(tmp_path / "grid")
    batch = write_batch(grid, [0, 1, 2])
    manifest = json.loads((batch / "manifest.json").read_text())
    manifest |= {"rows": [0, 2], "failed_rows": [1]}  # its tables still have what it came to
    (batch / "manifest.json").write_text(json.dumps(manifest))
    fail(grid, 1)
    assert sorted(load(grid)["row"].unique()) == [0, 2]
    (grid / "failures" / "1.json").unlink()
    write_batch(grid, [1], rounds=5)
    frame = load(grid)
    assert frame.groupby("row")["round"].max().to_dict() == {0: 3, 1: 5, 2: 3}
    assert not frame.duplicated(["row", "round", "scope", "metric"]).any()


def test_batch_that_is_complete_but_not_settled_is_not_done(tmp_path):
    grid = make_grid(tmp_path / "grid")
    batch = write_batch(grid, [0, 1])
    manifest = json.loads((batch / "manifest.json").read_text())
    (batch / "manifest.json").write_text(json.dumps({**manifest, "settled": False}))
    assert row_states(grid)["state"].tolist()[:2] == ["pending"] * 2


def test_row_in_two_batches_is_read_from_the_complete_one(tmp_path):
    grid = make_grid(tmp_path / "grid")
    write_batch(grid, [0, 1, 2, 3], "interrupted", rounds=9)
    write_batch(grid, [2, 3], rounds=3)
    frame = load(grid)
    assert frame.groupby("row")["round"].max().to_dict() == {0: 9, 1: 9, 2: 3, 3: 3}


def test_settings_named_like_columns_and_tables_without_points(tmp_path):
    grid = make_grid(tmp_path / "grid")
    rows = pd.read_csv(grid / "rows.csv").rename(columns={"contestants": "user"})
    rows.to_csv(grid / "rows.csv", index=False)
    batch = write_batch(grid, [0, 1])
    users = pd.DataFrame({"point": [0, 0], "seed": [0, 1], "user": [7, 8]})
    users.to_parquet(batch / "clients.parquet", index=False)
    pd.DataFrame({"part": ["fedavg"]}).to_parquet(batch / "timings.parquet", index=False)
    pd.DataFrame({"seed": [1]}).to_parquet(batch / "partition.parquet", index=False)
    clients = load(grid, "clients")
    assert clients["user"].tolist() == [7, 8]
    assert set(clients["setting.user"]) == {'["fedavg"]'}
    assert load(grid, "timings")["batch"].tolist() == [batch.name]
    # A batch of one point says whose its seeds are.
    assert load(grid, "partition")["row"].tolist() == [1]


def test_several_folders(tmp_path):
    one = finished_run(tmp_path / "a" / "run")
    two = running_run(tmp_path / "b" / "run")
    grid = make_grid(tmp_path / "grid")
    write_batch(grid, [0])
    frame = load([one, two, grid])
    assert frame.columns[0] == "study"
    assert sorted(frame["study"].unique()) == ["a/run", "b/run", f"{tmp_path.name}/grid"]
    assert frame["scope"].dtype == "category"
    assert frame["study"].dtype == "category"
    assert frame.groupby("study")["training.learning_rate"].count().to_dict() == {
        "a/run": 0,
        "b/run": 0,
        f"{tmp_path.name}/grid": 12,
    }
    with pytest.raises(ResultsError, match="is named twice"):
        load([one, one / ".." / "run"])
    with pytest.raises(ResultsError, match="an empty list; allowed: at least one"):
        load([])


REFUSED = {
    "no such folder": ("digit", "metrics", r"no such folder \(did you mean .*/digits\?"),
    "a file": ("digits/metrics.parquet", "metrics", "is a file; name the folder"),
    "folder above": (".", "metrics", "these folders in it do: digits, grid, running"),
    "empty folder": ("empty", "metrics", "it is empty"),
    "other files": ("other", "metrics", "it holds notes.txt"),
    "table of a run": (
        "digits",
        "ledgr",
        r"mean ledger\?\); it has metrics, ledger, summary, rows",
    ),
    "table of a grid": ("grid", "decisions", "has no table 'decisions'; it has metrics, rows"),
    "unfinished": ("running", "ledger", "it has metrics, rows. The study is killed, and some"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    path = tmp_path_factory.mktemp("folders")
    finished_run(path / "digits")
    write_batch(make_grid(path / "grid"), [0, 1])
    running_run(path / "running")
    (path / "empty").mkdir()
    (path / "other").mkdir()
    (path / "other" / "notes.txt").write_text("")
    return path


@pytest.mark.parametrize(("folder", "table", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals_say_what_there_is(folders, folder, table, message):
    with pytest.raises(ResultsError, match=message):
        load(folders / folder, table)


def test_damaged_manifest_of_a_run_is_refused_and_of_a_batch_left_out(tmp_path):
    run = finished_run(tmp_path / "run")
    (run / "manifest.json").write_text('{"settings_hash": ')
    with pytest.raises(ResultsError, match=r"manifest\.json cannot be read"):
        load(run)
    grid = make_grid(tmp_path / "grid")
    write_batch(grid, [0, 1])
    (write_batch(grid, [2, 3]) / "manifest.json").write_text("[]")
    with pytest.warns(ResultsWarning, match=r"the batch is left out.*must hold one JSON object"):
        frame = load(grid)
    assert sorted(frame["row"].unique()) == [0, 1]


def test_a_grid_of_a_thousand_rounds_loads_at_once(tmp_path):
    grid = make_grid(tmp_path / "grid", points=48)
    for first in range(0, 96, 32):
        write_batch(grid, list(range(first, first + 32)), rounds=1000)
    began_s = time.perf_counter()
    frame = load(grid)
    took_s = time.perf_counter() - began_s
    assert len(frame) == 96 * 1000 * 4
    assert frame.memory_usage(deep=True).sum() < 60 * len(frame)
    assert took_s < 2.0  # a fifth of a second on a quiet machine
