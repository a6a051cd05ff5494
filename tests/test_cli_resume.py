"""Stopping, resuming and failing commands, with an instant study in place of the real one."""

import errno
import json
import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from fedjax_kd import cli
from fedjax_kd.command_errors import message_of
from fedjax_kd.study import carry_out, environment
from fedjax_kd.study.folder import open_folder
from fedjax_kd.study.load import load_settings

STUDY = """\
method: family
title: mine
seeds: [0]
data: {source: digits, users: 4, public: null}
models: [{name: mlp, hidden: [8]}]
rounds: 10
contestants: [local, fedavg]
"""
GRID = "study: study.yaml\ngrid: {training.learning_rate: [0.01, 0.1], rounds: [3, 4]}\nseeds: 2\n"


class Counting:
    """A study that adds up its rounds; `act` is called with each of them."""

    def __init__(self):
        self.act = lambda done: None
        self.began, self.data_dirs = [], []

    def __call__(self, settings, folder, *, progress, keeper, outlet, points, data_dir, **_):
        part = keeper.part("fedavg", settings.rounds)
        found = part.restore({"sum": jax.ShapeDtypeStruct((), np.int32)})
        done, total = (found[0], int(found[1]["sum"])) if found else (0, 0)
        self.began.append(done)
        self.data_dirs.append(data_dir)
        folder.write_text("partition.csv", "user\n0\n")
        with progress.stage("FedAvg", settings.rounds) as stage:
            if done:
                stage.skip(done)
            while done < settings.rounds:
                done += 1
                total += done
                self.act(done)
                tree = {"sum": np.asarray(total, np.int32)}
                part.offer(done, partial(dict, tree))
                stage.advance(1)
        folder.write_text("metrics.csv", f"sum\n{total}\n")
        folder.update_manifest(status="complete")
        return {}


@pytest.fixture
def study(monkeypatch, tmp_path):
    """Puts the instant study in place of all others and of their reports."""
    found = Counting()
    monkeypatch.setattr(carry_out, "runner_of", lambda settings: found)

    def render_report(folders, output=None, **_):
        first = folders if isinstance(folders, Path) else folders[0]
        (first / "report.html").write_text("<html>")
        return first / "report.html"

    monkeypatch.setattr("fedjax_kd.report.render_report", render_report)
    monkeypatch.setattr(environment, "prepare_backend", lambda devices, cache_dir: None)
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "grid.yaml").write_text(GRID)
    return found


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def run(out, *words):
    return cli.main(["run", str(out.parent / "study.yaml"), "--out", str(out), *words])


def resume(out, *words):
    return cli.main(["resume", str(out), *words])


def told(out):
    return json.loads((out / "manifest.json").read_text())


def kill_in(round_, number):
    def act(done):
        if done == round_:
            os.kill(os.getpid(), number)

    return act


def fail_in(round_, error):
    def act(done):
        if done == round_:
            raise error

    return act


# -------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "SIGINT", 130)]
)
def test_a_signal_stops_after_the_round_and_resume_goes_on(number, name, code, study, out, capfd):
    study.act = kill_in(4, number)
    assert run(out) == code
    shown = capfd.readouterr().err.splitlines()
    reason = f"stopped by {name} after round 4 of 10 of fedavg"
    assert shown[-1] == (
        f"{reason}; everything up to there is kept; go on with: fedjax-kd resume {out}"
    )
    assert told(out)["status"] == "interrupted"
    assert {key: told(out)["stopped"][key] for key in ("reason", "signal")} == {
        "reason": reason,
        "signal": name,
    }
    study.act = lambda done: None
    assert resume(out) == 0
    shown = capfd.readouterr().err
    assert "unfinished; it goes on from its checkpoints: fedavg 4." in shown
    assert "FedAvg: goes on at 4 of 10" in shown
    assert study.began == [0, 4]
    assert (out / "metrics.csv").read_text() == "sum\n55\n"
    assert (told(out)["status"], told(out)["stopped"]) == ("complete", None)


def test_run_in_the_same_folder_goes_on_too(study, out, capfd):
    study.act = kill_in(4, signal.SIGTERM)
    assert run(out, "--quiet") == 143
    study.act = lambda done: None
    assert run(out, "--quiet") == 0
    assert study.began == [0, 4]
    assert "Traceback" not in capfd.readouterr().err


def test_a_second_signal_does_not_wait(study, out, capfd):
    def act(done):
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

    study.act = act
    assert run(out, "--checkpoint-rounds", "2") == 130
    assert "every file that was written is whole and stays" in capfd.readouterr().err
    assert told(out)["stopped"]["reason"] == "stopped at once by Ctrl-C"
    study.act = lambda done: None
    assert resume(out) == 0
    assert 0 < study.began[1] < 4


def test_without_checkpoints_a_signal_stops_and_nothing_is_claimed(study, out, capfd):
    study.act = kill_in(4, signal.SIGTERM)
    assert run(out, "--no-checkpoints") == 143
    assert "without checkpoints, only what had finished is kept" in capfd.readouterr().err
    assert not (out / "checkpoints").exists()
    study.act = lambda done: None
    assert resume(out, "--checkpoint-minutes", "9") == 0
    assert "it is run from the start" in capfd.readouterr().err
    assert told(out)["status"] == "complete"
    assert (out / "checkpoints").exists()


def test_an_interruption_before_the_first_round(study, out, monkeypatch, capfd):
    def interrupted(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(carry_out, "runner_of", interrupted)
    assert run(out) == 130
    shown = capfd.readouterr().err
    assert "Traceback" not in shown
    assert "every file that was written is whole and stays" in shown


# ------------------------------------------------------------------------------------ resuming


def test_resume_of_a_complete_folder_says_so(study, out, capfd):
    assert run(out) == 0
    before = (out / "manifest.json").read_bytes()
    capfd.readouterr()
    assert resume(out) == 0
    assert capfd.readouterr().out == f"{out} is complete; there is nothing to resume.\n"
    assert (out / "manifest.json").read_bytes() == before
    assert resume(out, "--json") == 0
    assert json.loads(capfd.readouterr().out) == {"kind": "complete", "out": str(out)}
    assert study.began == [0]


def test_nothing_is_typed_again_to_resume(study, out, tmp_path, capfd):
    study.act = kill_in(4, signal.SIGTERM)
    words = ["--data-dir", str(tmp_path), "--checkpoint-rounds", "3", "--set", "title=other"]
    assert run(out, *words) == 143
    study.act = lambda done: None
    assert resume(out, "--keep", "5") == 0
    assert study.data_dirs == [tmp_path, tmp_path]
    options = json.loads((out / "options.json").read_text())
    assert [options[key] for key in ("checkpoint_rounds", "keep")] == [3, 5]
    assert told(out)["title"] == "other"


def test_damaged_checkpoints_are_passed_over_with_a_word(study, out, capfd):
    study.act = kill_in(8, signal.SIGTERM)
    assert run(out, "--checkpoint-rounds", "3") == 143
    step = out / "checkpoints" / "fedavg" / "8"
    (step / "about" / "metadata").write_text("{")
    study.act = kill_in(7, signal.SIGTERM)
    capfd.readouterr()
    assert resume(out) == 143
    assert "fedavg: the checkpoint of round 8 is damaged" in capfd.readouterr().err
    for about in (out / "checkpoints" / "fedavg").glob("*/about/metadata"):
        about.write_bytes(about.read_bytes()[:-9])
    study.act = lambda done: None
    assert resume(out) == 0
    assert "no checkpoint is sound; it starts again from the beginning" in capfd.readouterr().err
    first, second, third = study.began
    assert (first, third) == (0, 0)
    assert 0 < second < 8
    assert (out / "metrics.csv").read_text() == "sum\n55\n"


# ------------------------------------------------------------------------------------- failing


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 2, "/data/x: Permission"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "files written earlier are intact"),
        (json.JSONDecodeError("no", "{", 0), 2, "is not JSON"),
        (MemoryError(), 2, "the memory is not enough for this study"),
        (RuntimeError("RESOURCE_EXHAUSTED: 3 GB"), 2, "--execution sequential need less"),
        (KeyError("weights"), 1, "unexpected error: KeyError: 'weights'"),
        (IndexError("beyond"), 1, "This is a defect of fedjax-kd; --debug shows where"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_breaks_a_study_is_said_in_a_line_and_kept(error, code, part, study, out, capfd):
    study.act = fail_in(5, error)
    assert run(out, "--checkpoint-rounds", "2") == code
    shown = capfd.readouterr().err
    assert part in shown
    assert "Traceback" not in shown
    assert told(out)["status"] == "failed"
    assert told(out)["stopped"]["reason"]
    study.act = lambda done: None
    assert resume(out) == 0
    assert 0 < study.began[1] < 5


def test_messages_of_damaged_files():
    import pyarrow as pa

    with pytest.raises(pa.ArrowInvalid) as broken:
        pa.ipc.open_file(pa.py_buffer(b"nothing"))
    assert (message_of(broken.value) or "").startswith("a file cannot be read: ")
    assert message_of(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")) == (
        "a file is not UTF-8 text: invalid start byte at byte 0"
    )
    assert message_of(ValueError("raised by nobody")) is None


def test_a_folder_in_use_is_refused(study, out, capfd):
    settings = load_settings(out.parent / "study.yaml")
    held = open_folder(out, settings)
    held.write_text("metrics.csv", "a\n")
    for command in (run, resume):
        assert command(out) == 2
        assert capfd.readouterr().err == f"error: another run is writing into {out}\n"
    held.close()


def test_a_tracker_that_is_not_installed_is_refused_before_anything(study, out, monkeypatch, capfd):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for words in (["run", "study.yaml"], ["sweep", "grid.yaml"]):
        file = str(out.parent / words[1])
        assert cli.main([words[0], file, "--out", str(out), "--track", "wandb"]) == 2
        assert "pip install 'fedjax-kd[wandb]'" in capfd.readouterr().err
    assert not out.exists()


def test_a_full_disk_is_a_message_and_nothing_earlier_is_lost(study, out, capfd):
    out.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(out)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        study.act = kill_in(4, signal.SIGTERM)
        assert run(out) == 143

        def fill(done):
            if done == 6:
                (out / "ballast").write_bytes(b"\0" * (1 << 22))

        study.act = fill
        capfd.readouterr()
        assert resume(out, "--checkpoint-rounds", "1") == 2
        shown = capfd.readouterr().err
        assert "No space left on device" in shown
        assert "Traceback" not in shown
        (out / "ballast").unlink()
        study.act = lambda done: None
        assert resume(out) == 0
        assert study.began[1] == 4
        assert 4 <= study.began[2] < 6
        assert (out / "metrics.csv").read_text() == "sum\n55\n"
    finally:
        subprocess.run(["umount", str(out)], check=False)


# --------------------------------------------------------------------------------------- grids


def sweep(out, *words):
    return cli.main(["sweep", str(out.parent / "grid.yaml"), "--out", str(out), *words])


def test_a_grid_is_swept_and_not_again(study, out, capfd):
    assert sweep(out, "--width", "4") == 0
    shown = capfd.readouterr()
    assert shown.out.splitlines() == [
        f"{out}: 8 rows done, 0 failed.",
        f"Report: {out / 'report.html'}",
    ]
    assert "batch 2 of 2: 8 of 8 rows done" in shown.err
    runs = len(study.began)
    assert resume(out) == 0
    assert len(study.began) == runs
    assert json.loads((out / "options.json").read_text())["width"] == 4


def test_rows_that_fail_give_another_exit_code(study, out, capfd):
    study.act = fail_in(4, FloatingPointError("too fast"))
    assert sweep(out, "--quiet", "--json") == 3
    answer = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (answer["done"], answer["failed"]) == (4, 4)
    study.act = lambda done: None
    assert sweep(out, "--quiet", "--retry-failed") == 0


def test_a_stopped_sweep_says_how_to_go_on(study, out, capfd):
    study.act = kill_in(2, signal.SIGTERM)
    assert sweep(out) == 143
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("stopped by SIGTERM after round 2 of fedavg; everything up to there is")
    assert last.endswith(f"go on with: fedjax-kd resume {out}")
    study.act = lambda done: None
    assert resume(out) == 0
    assert study.began[:2] == [0, 2]
    assert "8 rows done, 0 failed" in capfd.readouterr().out


def test_some_rows_are_run_by_number(study, out, capfd):
    assert sweep(out, "--rows", "3", "--quiet") == 0
    assert capfd.readouterr().out == (
        f"{out}: 1 rows done, 0 failed.\nReport: fedjax-kd report {out}\n"
    )
