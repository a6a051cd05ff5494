"""What `inspect` says of runs and grids, however they ended."""

import json
import os
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from synthetic import fail, finished_run, make_grid, running_run, write_batch, write_manifest

from fedjax_kd.results.errors import ResultsError
from fedjax_kd.results.inspect import inspect_folder, inspection_text
from fedjax_kd.results.row_parts import part_file
from fedjax_kd.results.status import row_states, run_standing
from fedjax_kd.study.folder import FolderError, locked

STOPPED = {"reason": "Ctrl-C", "signal": "SIGINT", "at": "2026-11-23T10:00:00+00:00"}


def checkpoint(run, part, step, total=6, flip=False):
    """A checkpoint as far as names, sizes and JSON go."""
    folder = run / "checkpoints" / part / str(step)
    (folder / "state").mkdir(parents=True)
    (folder / "about").mkdir()
    (folder / "state" / "array").write_bytes(bytes(400))
    about = {"part": part, "step": step, "total": total, "saved_at": "2026-11-23T10:00:00+00:00"}
    about |= {"leaves": {"w": {"shape": [100], "dtype": "float32", "crc32": 0}}}
    sealed = {**about, "checksum": zlib.crc32(json.dumps(about, sort_keys=True).encode())}
    sealed["step"] += int(flip)
    (folder / "about" / "metadata").write_text(json.dumps(sealed))
    return folder


def said(folder, **later):
    """The JSON, which must be such, and the text."""
    found = json.loads(json.dumps(inspect_folder(folder), allow_nan=False))
    now = datetime.fromisoformat("2026-11-23T10:00:00+00:00") + timedelta(**later)
    return found, inspection_text(found, now)


def test_finished_run(tmp_path):
    run = finished_run(tmp_path / "run")
    checkpoint(run, "fedavg", 6)
    found, text = said(run)
    assert found["status"] == "complete"
    assert found["next"] == f"fedjax-kd report {run}"
    assert found["tables"] == {"metrics": 48, "ledger": 2, "summary": 1}
    assert found["settings_hash"] == "0123456789abcdef"
    assert found["parts"][0] == {
        "part": "fedavg",
        "saved": 6,
        "logged": 6,
        "total": 6,
        "latest": {
            "round": 6,
            "accuracy_common": pytest.approx(56.1),
            "accuracy_personal": pytest.approx(56.0),
            "loss": pytest.approx(56.2),
        },
    }
    assert "  family, 2 seeds, settings 0123456789abcdef\n  complete\n" in text
    assert "  fedavg  6 of 6              saved at 6  accuracy_common 56.100, accuracy_p" in text
    assert "  local   not begun, 6 to do" in text


def test_running_run_and_the_same_after_a_kill(tmp_path):
    run = running_run(tmp_path / "run")
    lock = locked(run)
    assert lock is not None
    found, text = said(run)
    assert found["status"] == "running"
    assert "running: a process holds the folder" in text
    assert "next: wait" in text
    with pytest.raises(FolderError, match="another run is writing"):
        locked(run)
    lock.release()
    checkpoint(run, "fedavg", 4)
    found, text = said(run, minutes=3)
    assert found["status"] == "killed"
    assert "killed: it stopped without recording a reason" in text
    assert f"next: fedjax-kd resume {run}" in text
    assert [(each["part"], each["saved"], each["logged"]) for each in found["parts"]] == [
        ("fedavg", 4, 6),
        ("local", 0, 2),
    ]
    assert "fedavg  4 of 6  " in text
    assert "sound  3 minutes ago" in text


def test_looking_at_a_folder_does_not_keep_a_run_from_it(tmp_path):
    run = running_run(tmp_path / "run")
    for _ in range(20):
        assert run_standing(run).state == "killed"
        lock = locked(run)
        assert lock is not None
        assert run_standing(run).state == "running"
        lock.release()


@pytest.mark.parametrize(
    ("status", "stopped", "line"),
    [
        ("interrupted", STOPPED, "  interrupted by SIGINT 2 hours ago: Ctrl-C\n"),
        ("failed", {"reason": "No space left on device"}, "  failed: No space left on device\n"),
        ("interrupted", None, "  interrupted\n"),
    ],
)
def test_why_it_stopped(tmp_path, status, stopped, line):
    run = running_run(tmp_path / "run", status, stopped=stopped)
    found, text = said(run, hours=2)
    assert found["status"] == status
    assert line in text
    assert text.endswith(f"next: fedjax-kd resume {run}")


def test_status_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="status: found 'done'; allowed: running, interrupted"):
        inspect_folder(write_manifest(tmp_path / "run", "done"))


def test_checkpoints_that_do_not_verify(tmp_path):
    run = running_run(tmp_path / "run")
    checkpoint(run, "fedavg", 2)
    checkpoint(run, "fedavg", 3, flip=True)
    (checkpoint(run, "fedavg", 4) / "about" / "metadata").write_text('{"part"')
    (checkpoint(run, "fedavg", 5) / "state" / "array").unlink()
    checkpoint(run, "fedavg", 6).rename(run / "checkpoints" / "fedavg" / "6.damaged")
    (run / "checkpoints" / "fedavg" / "7.orbax-checkpoint-tmp").mkdir()
    found, text = said(run)
    states = [(each["name"], each["state"]) for each in found["checkpoints"]]
    assert states == [
        ("2", "sound"),
        *((name, "damaged") for name in ("3", "4", "5", "6.damaged")),
        ("7.orbax-checkpoint-tmp", "unfinished"),
    ]
    assert found["checkpoints"][0]["size_bytes"] > 400
    assert found["parts"][0]["saved"] == 2
    assert "unfinished" in text


def test_damaged_table_and_diverged_contestants_are_said(tmp_path):
    run = finished_run(tmp_path / "run")
    (run / "ledger.parquet").write_bytes(b"PAR1")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["diverged"] = [{"name": "local", "reason": "the loss is not finite in round 2"}]
    (run / "manifest.json").write_text(json.dumps(manifest))
    found, text = said(run)
    assert found["tables"]["ledger"] is None
    assert "  ledger   cannot be read\n" in text
    assert "diverged:\n  local: the loss is not finite in round 2\n" in text


def test_grid(tmp_path):
    grid = make_grid(tmp_path / "grid", points=6)
    write_batch(grid, [0, 1, 2])
    under_way = running_run(grid / "batches" / "000004-ab", kind="batch", rows=[4, 5])
    running_run(
        grid / "batches" / "000006-cd", "interrupted", kind="batch", rows=[6], stopped=STOPPED
    )
    for row in (3, 8, 9):
        fail(grid, row)
    fail(grid, 10, "data", "data.source: 'nothing' is not on this machine")
    lock = locked(under_way)
    assert lock is not None
    found, text = said(grid)
    assert found["status"] == "running"
    assert found["rows"] == {"done": 3, "failed": 4, "running": 2, "pending": 3}
    assert found["failures"][0]["rows"] == [3, 8, 9]
    assert found["swept"] == {"training.learning_rate": 6, "contestants": 1}
    assert [each["status"] for each in found["batches"]] == ["complete", "running", "interrupted"]
    assert found["next"][0].startswith("wait")
    assert "12 rows = 6 points x 2 seeds" in text
    assert "3 done, 4 failed, 2 running, 3 pending" in text
    assert "diverged, rows 3, 8, 9:\n    the loss is not finite\n" in text
    assert "data, row 10:\n    data.source: 'nothing' is not on this machine\n" in text
    assert "1 of 2 contestants, local 2 of 6" in text
    assert "SIGINT Ctrl-C" in text
    assert f"next: fedjax-kd sweep {grid / 'grid.yaml'} --out {grid} --retry-failed" in text
    lock.release()
    found, text = said(grid)
    assert found["status"] == "pending"
    assert found["rows"] == {"done": 3, "failed": 4, "running": 0, "pending": 5}
    assert f"next: fedjax-kd resume {grid}\n" in text


def test_grid_that_is_done_and_one_that_has_not_begun(tmp_path):
    grid = make_grid(tmp_path / "grid", points=60)
    found, _ = said(grid)
    assert found["status"] == "pending"
    assert found["next"] == [f"fedjax-kd resume {grid}"]
    for first in range(0, 120, 4):
        write_batch(grid, list(range(first, first + 4)), rounds=1)
    found, text = said(grid)
    assert found["status"] == "complete"
    assert found["next"] == [f"fedjax-kd report {grid}"]
    assert "and 10 more: 10 complete" in text
    assert "000004-abcd4  4:8" in text


def test_batch_names_its_grid(tmp_path):
    grid = make_grid(tmp_path / "grid")
    found, _ = said(write_batch(grid, [0, 1]))
    assert found["kind"] == "batch"
    assert found["next"].startswith(f"fedjax-kd inspect {grid} ")


def test_failures_and_rows_that_cannot_be_read(tmp_path):
    grid = make_grid(tmp_path / "grid")
    fail(grid, 2)
    (grid / "failures" / "2.json").write_text("{")
    with pytest.warns(UserWarning, match=r"2\.json: the reason of the failure is left out"):
        states = row_states(grid)
    assert states["state"].tolist()[2] == "failed"
    assert states["kind"].tolist()[2] == "unknown"
    (grid / "rows.csv").write_text("row,point\n0,0\n")
    with pytest.raises(ResultsError, match="lacks the column 'seed'"):
        inspect_folder(grid)
    (grid / "rows.csv").unlink()
    with pytest.raises(ResultsError, match=r"rows\.csv: there is no such file"):
        inspect_folder(grid)


def test_times_are_told_from_now(tmp_path):
    run = finished_run(tmp_path / "run")
    os.utime(run / "metrics.parquet", (2e9, 2e9))
    later = datetime.fromtimestamp(2e9, UTC) + timedelta(days=3)
    assert "last written 3 days ago; " in inspection_text(inspect_folder(run), later)


def test_files_of_a_part_that_is_gone_do_not_count(tmp_path):
    run = running_run(tmp_path / "run")
    part_file(run, "local", 2).unlink()
    found, text = said(run)
    assert found["parts"][1] == {
        "part": "local",
        "saved": 0,
        "logged": 0,
        "total": 6,
        "latest": None,
    }
    assert "local   not begun, 6 to do" in text
