import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from journal_process import COHORT, N_CLIENTS, TEMPLATE, rounds, saved_in
from process_pair import environment

from fedjax_kd.clients import store as stores
from fedjax_kd.clients.store import StoreError
from fedjax_kd.clients.store_journal import journalled

SCRIPT = Path(__file__).with_name("journal_process.py")
EVERYBODY = np.arange(N_CLIENTS)


def rows(value, count=1):
    return {"a": np.full((count, 5), value, np.float32), "n": np.full(count, value, np.int64)}


def content(store):
    read, made = store.read(EVERYBODY)
    return read["a"].tobytes(), read["n"].tobytes(), made.tobytes()


def test_goes_back_to_any_mark_that_it_keeps(tmp_path):
    journal = journalled(tmp_path / "c", TEMPLATE, N_CLIENTS, keep=3)
    journal.store.write(np.asarray([1, 2]), rows(1, 2))
    journal.mark(5)
    first = content(journal.store)
    journal.store.write(np.asarray([2, 3]), rows(2, 2))
    journal.store.write(np.asarray([2]), rows(3))
    journal.mark(7)
    second = content(journal.store)
    journal.store.write(np.asarray([1, 4]), rows(4, 2))
    journal.roll_back(7)
    assert content(journal.store) == second
    journal.store.write(np.asarray([4, 3]), rows(5, 2))
    journal.roll_back(5)
    assert content(journal.store) == first
    with pytest.raises(StoreError, match=r"no mark 7; there are \[0, 5\]"):
        journal.roll_back(7)
    journal.roll_back(0)
    assert not any(content(journal.store)[2])
    journal.store.close()


def test_marks_that_are_too_old_go_and_only_increase(tmp_path):
    journal = journalled(tmp_path / "c", TEMPLATE, N_CLIENTS, keep=2)
    for moment in (3, 6, 9):
        journal.mark(moment)
    names = sorted(path.name for path in (tmp_path / "c" / "journal").iterdir())
    assert names == ["6.undo", "9.undo"]
    with pytest.raises(StoreError, match="mark 9 must come after mark 9"):
        journal.mark(9)
    with pytest.raises(StoreError, match="keep must be at least 1; got 0"):
        journalled(tmp_path / "d", TEMPLATE, N_CLIENTS, keep=0)
    journal.store.close()


def test_an_old_folder_takes_no_rows_before_it_is_known_which_are_meant(tmp_path):
    folder = tmp_path / "c"
    journal = journalled(folder, TEMPLATE, N_CLIENTS)
    journal.store.write(np.asarray([1]), rows(1))
    journal.store.close()
    again = journalled(folder, TEMPLATE, N_CLIENTS)
    with pytest.raises(StoreError, match="rolled back to no mark so far"):
        again.store.write(np.asarray([1]), rows(2))
    again.store.close()
    plain = stores.on_disk(tmp_path / "plain", TEMPLATE, N_CLIENTS)
    plain.write(np.asarray([1]), rows(1))
    plain.close()
    with pytest.raises(StoreError, match="holds a store without a journal"):
        journalled(tmp_path / "plain", TEMPLATE, N_CLIENTS)


def test_a_cut_last_record_is_left_out_and_a_damaged_one_named(tmp_path):
    folder = tmp_path / "c"
    journal = journalled(folder, TEMPLATE, N_CLIENTS)
    journal.store.write(np.asarray([1, 2]), rows(1, 2))
    journal.mark(1)
    before = content(journal.store)
    journal.store.write(np.asarray([1]), rows(2))
    whole = (folder / "journal" / "1.undo").read_bytes()
    journal.store.close()
    for name, data in {"cut": whole + whole[:20], "header": whole + whole[:3]}.items():
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / "journal" / "1.undo").write_bytes(data)
        again = journalled(tmp_path / name, TEMPLATE, N_CLIENTS)
        again.roll_back(1)
        assert content(again.store) == before
        again.store.close()
    flipped = bytearray(whole)
    flipped[-1] ^= 4
    (folder / "journal" / "1.undo").write_bytes(flipped)
    again = journalled(folder, TEMPLATE, N_CLIENTS)
    with pytest.raises(StoreError, match=r"1\.undo: is damaged at byte"):
        again.roll_back(1)
    again.store.close()


@pytest.mark.parametrize("kill_in", [2, 13])
def test_killed_in_the_middle_of_a_row_it_ends_as_if_it_had_not_been(tmp_path, kill_in):
    rounds(tmp_path / "whole", 20, -1, saved_in(tmp_path))
    (tmp_path / "done").unlink()
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "20", str(kill_in)],
        env=environment("1"),
        capture_output=True,
    )
    assert run.returncode == -9, run.stderr
    if kill_in > 2:
        with pytest.raises(StoreError, match="half written"):
            stores.on_disk(tmp_path / "clients", TEMPLATE, N_CLIENTS)
    rounds(tmp_path / "clients", 20, -1, saved_in(tmp_path))
    found = stores.on_disk(tmp_path / "clients", TEMPLATE, N_CLIENTS)
    expected = stores.on_disk(tmp_path / "whole", TEMPLATE, N_CLIENTS)
    assert content(found) == content(expected)
    assert sum(content(found)[2]) > COHORT
    found.close()
    expected.close()


def test_a_torn_row_that_the_journal_does_not_know_is_refused(tmp_path):
    folder = tmp_path / "c"
    journalled(folder, TEMPLATE, N_CLIENTS).store.close()
    made = bytearray((folder / "made.bin").read_bytes())
    made[9] = 2
    (folder / "made.bin").write_bytes(made)
    with pytest.raises(StoreError, match=r"not in the journal: clients \[9\]"):
        journalled(folder, TEMPLATE, N_CLIENTS)
