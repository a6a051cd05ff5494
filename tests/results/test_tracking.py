"""Curves elsewhere: event files read back, runs of an offline service, trackers that fail."""

import importlib.util
import os
import struct
import subprocess
import sys
from typing import Any

import pytest
from synthetic import metric_rows
from tensorboardX.proto import event_pb2
from wandb.proto import wandb_internal_pb2

from fedjax_kd.study.tracking import (
    Tracked,
    TrackingError,
    Writer,
    all_of,
    forgiving,
    no_writer,
    open_trackers,
    require_tracker,
)

ROWS = ((0, 0), (0, 1))


def tracked(folder):
    settings = {row: {"method": "family", "rounds": 4} for row in ROWS}
    return Tracked(folder, "tiny", "family", "0123456789abcdef", settings)


def frame(first, last):
    rows = metric_rows(list(ROWS), range(first, last + 1))
    return rows.assign(step=rows["round"])


def events(path) -> list[Any]:
    """The events of a file of TensorBoard's: length, its checksum, event, its checksum."""
    content, found, place = path.read_bytes(), [], 0
    while place < len(content):
        (length,) = struct.unpack("<Q", content[place : place + 8])
        event = event_pb2.Event()  # pyright: ignore[reportAttributeAccessIssue]
        event.ParseFromString(content[place + 12 : place + 12 + length])
        found.append(event)
        place += 16 + length
    return found


def scalars(folder):
    return [
        (value.tag, event.step, round(value.simple_value, 3))
        for path in sorted(folder.glob("*tfevents*"))
        for event in events(path)
        for value in event.summary.value
    ]


def test_tensorboard_files_hold_what_was_written(tmp_path):
    for first, last in ((1, 2), (3, 4)):  # twice, as an interrupted study does
        writer = open_trackers(["tensorboard", "tensorboard"], tracked(tmp_path), pytest.fail)
        writer.rows(frame(first, last))
        writer.flush()
        writer.close()
        writer.close()
    runs = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert runs == ["point-0-seed-0", "point-0-seed-1"]
    expected = metric_rows([(0, 1)], range(1, 5))
    told = zip(expected["metric"], expected["round"], expected["value"].round(3), strict=True)
    found = scalars(tmp_path / "tensorboard" / "point-0-seed-1")
    assert sorted(found) == sorted(
        (f"fedavg/{metric}", step, value) for metric, step, value in told
    )
    assert len(list((tmp_path / "tensorboard" / runs[0]).iterdir())) == 2


def records(path) -> list[Any]:
    """The records of a run's file: blocks of 32 KiB, in which a record may come in pieces."""
    content, place, pieces, found = path.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # too little room for another piece
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        pieces += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = wandb_internal_pb2.Record()  # pyright: ignore[reportAttributeAccessIssue]
            record.ParseFromString(pieces)
            found.append(record)
            pieces = b""
    return found


OFFLINE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_tracking import frame, tracked
from fedjax_kd.study.tracking import open_trackers
writer = open_trackers(["wandb"], tracked(Path(sys.argv[1])), lambda note: sys.exit(note))
writer.rows(frame(1, 3))
writer.flush()
writer.close()
"""


def test_wandb_keeps_runs_offline(tmp_path):
    environment = {**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path)}
    here = os.path.dirname(__file__)
    words = [sys.executable, "-c", OFFLINE, str(tmp_path), here]
    subprocess.run(words, check=True, env=environment, timeout=100)
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    for path in files:
        config, history = {}, []
        for record in records(path):
            config |= {each.key: each.value_json for each in record.run.config.update}
            items = {
                (*each.nested_key, each.key)[0]: each.value_json for each in record.history.item
            }
            history += [items] if items else []
        seed = int(config["seed"])
        assert '"method":"family"' in config["settings"].replace(" ", "")
        assert [int(each["round"]) for each in history] == [1, 2, 3]
        assert [int(each["_step"]) for each in history] == [1, 2, 3]
        losses = [float(each["fedavg/loss"]) for each in history]
        assert losses == pytest.approx([100 * seed + number + 0.2 for number in (1, 2, 3)])


def test_name_of_a_run_follows_from_settings_point_and_seed():
    from fedjax_kd.study.tracking_wandb import run_id

    names = [run_id("ab", 0, 1), run_id("ab", 1, 0), run_id("ac", 0, 1), run_id("ab", 0, 0)]
    assert len(set(names)) == 4
    assert run_id("ab", 0, 1) == names[0]
    assert names[0].isalnum()


@pytest.mark.parametrize("step", ["open", "rows", "flush", "close"])
def test_tracker_that_fails_is_off_after_one_note(step):
    calls, notes, others = [], [], []

    def fails(name):
        def act(*_):
            calls.append(name)
            if name == step:
                raise OSError(28, "No space left on device")

        return act

    def make():
        fails("open")()
        return Writer(fails("rows"), fails("flush"), fails("close"))

    other = Writer(others.append, lambda: others.append("flush"), lambda: others.append("close"))
    writer = all_of([forgiving("wandb", make, notes.append), other])
    for _ in range(3):
        writer.rows(frame(1, 1))
        writer.flush()
    writer.close()
    assert notes == [
        "wandb has failed (OSError: [Errno 28] No space left on device); the study goes on "
        "without it"
    ]
    assert calls.count(step) == (2 if step == "close" else 1)  # it is closed when given up
    assert len(others) == 7


def test_full_disk_under_tensorboard_does_not_end_the_study(tmp_path):
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    notes = []
    writer = open_trackers(["tensorboard"], tracked(tmp_path), notes.append)
    for number in range(1, 4):
        writer.rows(frame(number, number))
        writer.flush()
    writer.close()
    assert len(notes) == 1
    assert notes[0].startswith("tensorboard has failed (")


def test_ctrl_c_is_no_failure_of_a_tracker():
    def interrupted(*_):
        raise KeyboardInterrupt

    writer = forgiving("wandb", lambda: no_writer()._replace(rows=interrupted), pytest.fail)
    with pytest.raises(KeyboardInterrupt):
        writer.rows(frame(1, 1))


def test_missing_package_and_unknown_tracker_are_said_before_the_study(tmp_path, monkeypatch):
    with pytest.raises(TrackingError, match=r"found 'csv'; allowed: tensorboard \| wandb"):
        require_tracker("csv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrackingError, match=r"pip install 'fedjax-kd\[wandb\]'"):
        open_trackers(["wandb"], tracked(tmp_path), pytest.fail)
    with pytest.raises(TrackingError, match=r"takes the package tensorboardX, .*\[tensorboard\]"):
        require_tracker("tensorboard")


def test_no_writer_forgets():
    writer = no_writer()
    writer.rows(frame(1, 1))
    writer.flush()
    writer.close()
    assert open_trackers([], tracked(None), pytest.fail).rows(frame(1, 1)) is None
