"""Rows of a running study on the disk, and where else they go."""

import errno
import os
from typing import Any

import pandas as pd
import pytest
from synthetic import metric_rows, write_manifest

import fedjax_kd
from fedjax_kd.results.row_parts import part_file
from fedjax_kd.study.folder import FolderError, ResultFolder
from fedjax_kd.study.outlet import no_outlet, open_outlet
from fedjax_kd.study.row_log import RowLog
from fedjax_kd.study.tracking import Writer

PAIRS = [(0, 0), (0, 1)]
load: Any = fedjax_kd.load_results


def rows_of(first, last, scope="fedavg"):
    return metric_rows(PAIRS, range(first, last + 1), (scope,))


@pytest.fixture
def log(tmp_path):
    return RowLog(write_manifest(tmp_path / "run", "running"))


def rounds(log, scope="fedavg"):
    frame = load(log.folder)
    assert not frame.duplicated(["point", "seed", "round", "scope", "metric"]).any()
    return sorted(frame[frame["scope"] == scope]["round"].unique().tolist())


def test_appending_again_changes_nothing(log):
    for _ in range(2):
        log.append("fedavg", 2, rows_of(1, 2))
        log.append("fedavg", 4, rows_of(3, 4))
    assert rounds(log) == [1, 2, 3, 4]
    assert log.last_rounds() == {"fedavg": 4}
    assert part_file(log.folder, "fedavg", 4).name == "00000004.parquet"


def test_rows_are_on_the_disk_before_they_get_their_name(log, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("sync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), replace(*names)))
    log.append("fedavg", 1, rows_of(1, 1))
    done.clear()
    log.append("fedavg", 2, rows_of(2, 2))
    assert done == ["sync", "rename", "sync"]  # the file, its name, the folder


@pytest.mark.parametrize(
    ("last", "kept"), [(6, 6), (5, 5), (4, 4), (3, 3), (2, 2), (1, 1), (0, 0), (9, 6)]
)
def test_dropping_what_is_past_a_round(log, last, kept):
    for first, end in ((1, 1), (2, 3), (4, 6)):
        log.append("fedavg", end, rows_of(first, end))
    log.append("local", 6, rows_of(1, 6, "local"))
    log.drop_after("fedavg", last)
    assert rounds(log) == list(range(1, kept + 1))
    assert log.last_rounds().get("fedavg", 0) == kept
    assert rounds(log, "local") == [1, 2, 3, 4, 5, 6]
    log.append("fedavg", kept + 2, rows_of(kept + 1, kept + 2))  # other chunks than before
    assert rounds(log) == list(range(1, kept + 3))


def test_dropping_takes_a_damaged_file_away(log):
    log.append("fedavg", 2, rows_of(1, 2))
    log.append("fedavg", 6, rows_of(3, 6))
    part_file(log.folder, "fedavg", 6).write_bytes(b"PAR1")
    log.drop_after("fedavg", 4)
    assert rounds(log) == [1, 2]


def test_clearing_takes_everything_away_once_and_for_all(log):
    log.append("fedavg", 2, rows_of(1, 2))
    left = log.folder / ".rows.partial" / "fedavg"  # a process was killed while it cleared
    left.mkdir(parents=True)
    for _ in range(2):
        log.clear()
    assert sorted(path.name for path in log.folder.iterdir()) == ["manifest.json"]
    assert rounds(log) == []


def test_full_disk_leaves_earlier_rows(log, monkeypatch):
    log.append("fedavg", 2, rows_of(1, 2))

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FolderError, match=r"No space left .* written earlier are intact"):
            log.append("fedavg", 4, rows_of(3, 4))
    assert rounds(log) == [1, 2]


@pytest.mark.parametrize(
    ("part", "last", "message"),
    [
        ("../up", 1, r"part: found '\.\./up'; allowed: letters"),
        ("", 1, "part: found ''"),
        (".hidden", 1, r"part: found '\.hidden'"),
        ("fedavg", 0, "last_round: found 0; allowed: at least 1"),
    ],
)
def test_names_and_rounds_that_are_none(log, part, last, message):
    with pytest.raises(ValueError, match=message):
        log.append(part, last, rows_of(1, 1))
    assert not (log.folder / "rows").exists()


def listening():
    taken: list[Any] = []
    writer = Writer(taken.append, lambda: taken.append("flush"), lambda: taken.append("close"))
    return taken, writer


def frames(taken):
    return pd.concat([each for each in taken if not isinstance(each, str)], ignore_index=True)


def test_outlet_writes_rows_and_tells_the_writer_once(tmp_path):
    path = write_manifest(tmp_path / "run", "running")
    taken, writer = listening()
    outlet = open_outlet(ResultFolder(path, "new"), writer)
    outlet.rejoin("fedavg", 0)
    outlet.rows("fedavg", 2, rows_of(1, 2))
    outlet.rows("fedavg", 4, rows_of(3, 4))
    outlet.rejoin("local", 0)
    outlet.rows("local", 3, rows_of(1, 3, "local"))
    outlet.leave()
    assert taken[-1] == "close"
    assert RowLog(path).last_rounds() == {"fedavg": 4, "local": 3}

    again, writer = listening()  # the last checkpoint was after round 1 of local
    outlet = open_outlet(ResultFolder(path, "interrupted"), writer)
    outlet.rejoin("fedavg", 4)
    outlet.rejoin("local", 1)
    assert RowLog(path).last_rounds() == {"fedavg": 4, "local": 1}
    outlet.rows("local", 5, rows_of(2, 5, "local"))
    assert len(load(path)) == 2 * 4 * (4 + 5)
    told: Any = pd.concat([frames(taken), frames(again)])
    assert not told.duplicated(["point", "seed", "round", "scope", "metric"]).any()
    assert len(told) == 2 * 4 * (4 + 5)
    before = told["scope"].map({"fedavg": 0, "local": 4})
    assert told["step"].tolist() == (told["round"] + before).tolist()
    outlet.close()
    assert again[-1] == "close"
    assert not (path / "rows").exists()


def test_outlet_of_a_process_that_writes_nothing(tmp_path):
    taken, writer = listening()
    outlet = open_outlet(ResultFolder(tmp_path / "elsewhere", "new", writes=False), writer)
    for each in (outlet, no_outlet()):
        each.rejoin("fedavg", 0)
        each.rows("fedavg", 1, rows_of(1, 1))
        each.leave()
        each.close()
    assert taken == []
    assert list(tmp_path.iterdir()) == []
