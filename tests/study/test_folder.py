import errno
import json
import os

import numpy as np
import pandas as pd
import pytest

from fedjax_kd.study import folder as folder_module
from fedjax_kd.study.folder import FolderError, ResultFolder, open_folder, read_manifest
from fedjax_kd.study.load import load_settings, settings_from_text, settings_hash

STUDY = settings_from_text("method: dt_kd\ntitle: first")
OTHER = settings_from_text("method: dt_kd\ntitle: second\ndata: {users: 9}")


def finished(path, settings=STUDY):
    folder = open_folder(path, settings)
    folder.write_text("report.html", "<html>")
    folder.update_manifest(status="complete")
    folder.close()
    return path


def interrupted(path, settings=STUDY):
    folder = open_folder(path, settings)
    folder.write_text("metrics.csv", "a\n1\n")
    folder.close()
    return path


def contents(path):
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def test_a_new_folder_says_whose_it_is(tmp_path):
    folder = open_folder(tmp_path / "deep" / "out", STUDY)
    assert folder.state == "new"
    manifest = folder.read_manifest()
    assert manifest["settings_hash"] == settings_hash(STUDY)
    assert manifest["status"] == "running"
    assert (manifest["format"], manifest["method"], manifest["title"]) == (1, "dt_kd", "first")
    assert load_settings(folder.path / "settings.yaml") == STUDY


def test_the_same_study_is_recognised(tmp_path):
    assert open_folder(interrupted(tmp_path / "a"), STUDY).state == "interrupted"
    before = contents(finished(tmp_path / "b"))
    folder = open_folder(tmp_path / "b", STUDY)
    assert folder.state == "complete"
    assert folder.report_path == tmp_path / "b" / "report.html"
    assert contents(tmp_path / "b") == before


@pytest.mark.parametrize("make", [finished, interrupted])
def test_another_study_is_refused_and_left_alone(tmp_path, make):
    out = make(tmp_path / "out")
    before = contents(out)
    with pytest.raises(FolderError) as error:
        open_folder(out, OTHER)
    for part in (
        "'first'",
        "'second'",
        settings_hash(STUDY),
        settings_hash(OTHER),
        "data.users 5 there, 9 here",
        "--out",
        "--force",
    ):
        assert part in str(error.value)
    assert contents(out) == before


def test_a_study_that_never_got_anywhere_gives_way(tmp_path):
    open_folder(tmp_path, STUDY).close()
    folder = open_folder(tmp_path, OTHER)
    assert folder.state == "new"
    assert folder.read_manifest()["title"] == "second"
    assert load_settings(tmp_path / "settings.yaml") == OTHER


@pytest.mark.parametrize("settings", [STUDY, OTHER])
def test_force_moves_results_aside_and_deletes_nothing(tmp_path, settings):
    out = finished(tmp_path / "out")
    (tmp_path / "out.old-1").mkdir()
    before = contents(out)
    folder = open_folder(out, settings, force=True)
    assert folder.state == "new"
    assert folder.moved == tmp_path / "out.old-2"
    assert contents(tmp_path / "out.old-2") == before
    assert not (out / "report.html").exists()


def test_force_on_a_new_folder_is_harmless(tmp_path):
    assert open_folder(tmp_path / "out", STUDY, force=True).moved is None


def test_force_does_not_move_the_current_directory(tmp_path, monkeypatch):
    out = finished(tmp_path / "out")
    monkeypatch.chdir(out)
    with pytest.raises(FolderError, match="holds the current directory"):
        open_folder(".", STUDY, force=True)
    assert (out / "report.html").exists()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["thesis.txt", "settings.yaml"])
def test_files_of_somebody_else_are_never_touched(tmp_path, force, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FolderError, match=f"not results of a study \\({name}\\)"):
        open_folder(tmp_path, STUDY, force=force)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(FolderError, match="is a file; name a folder"):
        open_folder(tmp_path / "out", STUDY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "is not the manifest of a study"),
        ('{"name": "extension"}', "is not the manifest of a study"),
        ('{"settings_hash": "0", "format": 99}', "found format 99; this version reads format 1"),
    ],
)
def test_manifests_that_are_not_ours(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    for action in (lambda: open_folder(tmp_path, STUDY, True), lambda: read_manifest(tmp_path)):
        with pytest.raises(FolderError, match=message):
            action()
    assert contents(tmp_path) == {"manifest.json": text.encode()}


def test_a_folder_without_results(tmp_path):
    with pytest.raises(FolderError, match=r"holds no results: there is no manifest\.json"):
        read_manifest(tmp_path)


def test_two_runs_do_not_share_a_folder(tmp_path):
    first = open_folder(tmp_path, STUDY)
    first.write_text("metrics.csv", "")
    for force in (False, True):
        with pytest.raises(FolderError, match="another run is writing into"):
            open_folder(tmp_path, STUDY, force)
    first.close()
    assert open_folder(tmp_path, STUDY).state == "interrupted"


def test_json_keeps_numbers_and_has_no_nan(tmp_path):
    folder = ResultFolder(tmp_path, "new")
    value = {"a": np.float32(0.5), "b": np.arange(2), 3: float("nan"), "c": (np.inf, None, True)}
    folder.write_json("x.json", value)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": 0.5, "b": [0, 1], "3": None, "c": [None, None, True]}


def test_tables_are_read_back(tmp_path):
    frame = pd.DataFrame({"seed": [0, 1], "policy": ["a", "b"], "value": [0.1, np.nan]})
    folder = ResultFolder(tmp_path, "new")
    pd.testing.assert_frame_equal(pd.read_parquet(folder.write_table("t.parquet", frame)), frame)
    pd.testing.assert_frame_equal(pd.read_csv(folder.write_table("t.csv", frame)), frame)
    with pytest.raises(ValueError, match=r"found 't\.xls'"):
        folder.write_table("t.xls", frame)


def test_update_keeps_what_it_does_not_name(tmp_path):
    folder = open_folder(tmp_path, STUDY)
    folder.update_manifest(status="complete", seeds=[1])
    manifest = folder.read_manifest()
    assert (manifest["status"], manifest["seeds"], manifest["title"]) == ("complete", [1], "first")


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch, function):
    folder = ResultFolder(tmp_path, "new")
    folder.write_text("x.txt", "old")

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_module.os, function, full)
    with pytest.raises(FolderError, match=r"x\.txt: No space left .*earlier are intact"):
        folder.write_text("x.txt", "new")
    assert contents(tmp_path) == {"x.txt": b"old"}


def test_an_interruption_while_writing_leaves_the_earlier_file(tmp_path):
    folder = ResultFolder(tmp_path, "new")
    folder.write_text("x.txt", "old")

    def stop(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder_module.write_atomic(tmp_path / "x.txt", stop)
    assert contents(tmp_path) == {"x.txt": b"old"}


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"cannot write .*: Not a directory"):
        open_folder(tmp_path / "file" / "out", STUDY)
