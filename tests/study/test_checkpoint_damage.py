"""Damaged, half-written and unwritable checkpoints: no wrong numbers, and no earlier one lost."""

import json
import logging
import os
import random
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from checkpoint_cases import bits, filled, opened, shapes, small
from process_pair import environment

from fedjax_kd.study import checkpoint_files, checkpoint_session
from fedjax_kd.study.checkpoint import Cadence, CheckpointError
from fedjax_kd.study.checkpoint_files import DamageError, read_about, set_aside, steps_in

SCRIPT = Path(__file__).with_name("checkpoint_process.py")
LIKE = shapes(small(0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A part with checkpoints of steps 2 and 3."""
    path = tmp_path_factory.mktemp("whole")
    filled(path)
    return path


def folder(path):
    return path / "checkpoints" / "p"


def files(path):
    return sorted(each for each in path.rglob("*") if each.is_file())


def taken_up(path):
    """What a new run finds: the step, after its numbers were compared; and what it said."""
    notes: list[str] = []
    found = opened(path, notes=notes).part("p", 9).restore(LIKE)
    if found is not None:
        assert bits(found[1]) == bits(small(found[0]))
    return (None if found is None else found[0]), notes


def names(path):
    return [file.relative_to(folder(path) / "3") for file in files(folder(path) / "3")]


def test_a_flipped_bit_in_any_file_is_found(whole, tmp_path):
    draw = random.Random(0)
    for turn, name in enumerate(names(whole)):
        length = (folder(whole) / "3" / name).stat().st_size
        assert length > 0
        for place in {0, length - 1, draw.randrange(length)}:
            copy = tmp_path / f"{turn}-{place}"
            shutil.copytree(whole, copy)
            target = folder(copy) / "3" / name
            data = bytearray(target.read_bytes())
            data[place] ^= 1 << draw.randrange(8)
            target.write_bytes(data)
            step, notes = taken_up(copy)
            assert (step, len(notes)) == (2, 1)
            assert "the checkpoint of round 3 is damaged" in notes[0]
            assert sorted(each.name for each in folder(copy).iterdir()) == ["2", "3.damaged"]


def test_a_file_that_is_cut_or_missing_is_found(whole, tmp_path):
    for turn, name in enumerate(names(whole)):
        for kept in ("half", "nothing", None):
            copy = tmp_path / f"{turn}-{kept}"
            shutil.copytree(whole, copy)
            target = folder(copy) / "3" / name
            if kept is None:
                target.unlink()
            else:
                os.truncate(target, target.stat().st_size // 2 if kept == "half" else 0)
            step, notes = taken_up(copy)
            assert (step, len(notes)) == (2, 1)


def test_flipped_numbers_are_found_by_their_own_checksum_too(whole):
    about = read_about(folder(whole) / "3")
    about["leaves"]["['w']"]["crc32"] ^= 1
    with pytest.raises(DamageError, match=r"leaf \['w'\] is not as it was written"):
        checkpoint_files.read_leaves(folder(whole) / "3", about)


def test_what_orbax_cannot_read_is_damage_even_if_every_file_is_as_listed(whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    path = folder(copy) / "3"
    about = read_about(path)
    shutil.rmtree(path / "state" / "d")
    sums = {name: zlib.crc32(data) for name, data in checkpoint_files._contents(path)}
    (path / "files.json").write_text(json.dumps(checkpoint_files._sealed({"files": sums})))
    with pytest.raises(DamageError, match="its arrays cannot be read"):
        checkpoint_files.read_leaves(path, about)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"checksum": 1}', "\ud83d"])
def test_bad_json_is_found(whole, tmp_path, text):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    described = folder(copy) / "3" / "about" / "metadata"
    described.write_bytes(text.encode("utf-8", "surrogatepass"))
    step, notes = taken_up(copy)
    assert step == 2
    assert "damaged: its description" in notes[0]


def test_json_that_was_changed_is_found_and_another_format_refused(whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    described = folder(copy) / "3" / "about" / "metadata"
    about = json.loads(described.read_text())
    described.write_text(json.dumps({**about, "settings_hash": "other"}))
    assert taken_up(copy)[0] == 2
    moved = folder(copy) / "7"
    (folder(copy) / "2").rename(moved)
    step, notes = taken_up(copy)  # a sound checkpoint under another's name
    assert step is None
    assert "it is round 2 of p" in notes[0]
    unsealed = {**about, "format": 99}
    del unsealed["checksum"]
    shutil.copytree(whole, tmp_path / "newer")
    described = folder(tmp_path / "newer") / "3" / "about" / "metadata"
    described.write_text(json.dumps(checkpoint_files._sealed(unsealed)))
    with pytest.raises(CheckpointError, match="format 99; this version reads format 1"):
        taken_up(tmp_path / "newer")


def test_without_a_sound_one_the_part_starts_again(whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    for step in (2, 3):
        (folder(copy) / str(step) / "about" / "metadata").unlink()
    step, notes = taken_up(copy)
    assert step is None
    assert notes == [
        "p: the checkpoint of round 3 is damaged: its description cannot be read (No such file or "
        "directory); it is now 3.damaged",
        "p: the checkpoint of round 2 is damaged: its description cannot be read (No such file or "
        "directory); it is now 2.damaged",
        "p: no checkpoint is sound; it starts again from the beginning",
    ]


def test_damaged_ones_do_not_stand_in_each_others_way(tmp_path):
    for _ in range(3):
        (tmp_path / "3").mkdir()
        set_aside(tmp_path / "3")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "3.damaged",
        "3.damaged-2",
        "3.damaged-3",
    ]
    assert steps_in(tmp_path) == []


def test_half_written_ones_are_removed(whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    shutil.copytree(folder(copy) / "3", folder(copy) / "4.half-written.orbax-tmp")
    step, notes = taken_up(copy)
    assert step == 3
    assert notes == ["p: a checkpoint that was never finished is removed"]
    assert sorted(each.name for each in folder(copy).iterdir()) == ["2", "3"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_said_in_one_line_and_costs_nothing_earlier(
    small_disk, monkeypatch, caplog, capfd
):
    filled(small_disk)
    keeper = opened(small_disk)
    part = keeper.part("p", 9)
    assert part.restore(LIKE) is not None
    part.offer(4, lambda: {"w": np.arange(10**6)})
    message = (
        rf"^cannot write {folder(small_disk)}/4: No space left on device; the checkpoint of round "
        "3 is intact$"
    )
    with pytest.raises(CheckpointError, match=message):
        keeper.part("waits for the one before", 1)
    keeper.close()  # said once
    assert taken_up(small_disk) == (3, [])
    assert sorted(each.name for each in folder(small_disk).iterdir()) == ["2", "3"]

    monkeypatch.setattr(checkpoint_files, "_require_room", lambda folder, n_bytes: None)
    keeper = opened(small_disk)
    with pytest.raises(CheckpointError, match="No space left on device; there is no earlier one"):
        keeper.part("many", 1).offer(1, lambda: [np.arange(10**5) for _ in range(20)])
    keeper.close()

    room = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * (room.f_bavail * room.f_bsize))
    keeper = opened(small_disk)
    with pytest.raises(CheckpointError, match="No space left on device; there is no earlier one"):
        keeper.part("other", 1).offer(1, lambda: small(1))
    keeper.close()
    assert taken_up(small_disk) == (3, [])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_close_says_what_nobody_was_told(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    keeper = opened(tmp_path)
    keeper.part("p", 9).offer(1, lambda: small(1))
    with pytest.raises(CheckpointError, match="Not a directory; there is no earlier one"):
        keeper.close()


def test_an_old_one_that_cannot_be_removed_is_tried_again(tmp_path, monkeypatch):
    def refuse(path):
        raise CheckpointError("cannot remove")

    monkeypatch.setattr(checkpoint_session, "remove_checkpoint", refuse)
    keeper = opened(tmp_path, Cadence(every_rounds=1, every_minutes=None, keep=1))
    part = keeper.part("p", 9)
    for step in (1, 2):
        part.offer(step, lambda: small(step))  # noqa: B023
        keeper.part("waits for the one before", 1)
    assert steps_in(folder(tmp_path)) == [1, 2]
    monkeypatch.undo()
    part.offer(3, lambda: small(3))
    keeper.close()
    assert steps_in(folder(tmp_path)) == [3]


def test_killed_at_any_moment_of_a_save_something_sound_is_there(tmp_path):
    script = [sys.executable, str(SCRIPT), "save", str(tmp_path)]
    draw = random.Random(0)
    whole_step = 0
    for _ in range(2):
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        run = subprocess.Popen(script, env=environment("2"), stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None
        for _ in range(3):
            whole_step = int(run.stdout.readline())
        time.sleep(draw.random() * 0.2)
        run.kill()
        run.communicate()
        keeper = opened(tmp_path)
        like = {"a": np.zeros(500_000, np.float32), "b": np.zeros(500_000, np.float32)}
        found = keeper.part("p", 10**9).restore(like)
        assert found is not None
        step, tree = found
        assert step >= whole_step - 1
        np.testing.assert_array_equal(tree["a"], np.float32(step))
        np.testing.assert_array_equal(tree["b"], np.float32(-step))
        assert all(each.name.isdecimal() for each in folder(tmp_path).iterdir())
