"""Jobs of a grid, by submitit's local executor: the same code as on Slurm but for the queue."""

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from family_tiny import FAMILY

from fedjax_kd.results.status import row_states
from fedjax_kd.study.grid import job as job_module
from fedjax_kd.study.grid.job import SweepJob

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))
import submit_slurm

STUDY = {key: value for key, value in FAMILY.items() if key not in ("seeds", "title")}
GRID = {
    "study": {**STUDY, "contestants": ["local"], "rounds": 1},
    "grid": {"training.learning_rate": [0.1, 1e9]},
    "seeds": 2,
}


@pytest.mark.parametrize(
    ("n_rows", "n_jobs", "found"),
    [(4, 2, ["0:2", "2:4"]), (5, 2, ["0:2", "2:5"]), (2, 9, ["0:1", "1:2"])],
)
def test_shares_divide_the_rows(n_rows, n_jobs, found):
    assert submit_slurm.shares(n_rows, n_jobs) == found


def test_jobs_of_a_tiny_grid(tmp_path, capfd):
    grid, out = tmp_path / "grid.yaml", tmp_path / "out"
    grid.write_text(json.dumps(GRID))
    words = [str(grid), "--out", str(out), "--jobs", "2", "--executor", "local", "--wait"]
    code = submit_slurm.main([*words, "--", "--quiet", "--execution", "sequential"])
    assert code == 3, capfd.readouterr()  # all rows are through, two of them failed
    states = row_states(out)
    assert states["state"].tolist() == ["done", "done", "failed", "failed"]
    assert states["kind"].tolist()[2:] == ["diverged"] * 2
    assert len(list((out / "batches").iterdir())) >= 2
    assert "2 jobs: " in capfd.readouterr().out


def test_a_grid_that_is_refused_sends_no_job(tmp_path, capsys):
    (tmp_path / "grid.yaml").write_text("study: {method: famly}")
    words = [str(tmp_path / "grid.yaml"), "--out", str(tmp_path / "out"), "--executor", "debug"]
    assert submit_slurm.main(words) == 2
    assert "did you mean family?" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def fake_sweep(path, ending):
    """A program in the place of Python that waits, a minute or so, until it is told to end."""
    waiting = "i=0; while [ $i -lt 3000 ]; do sleep 0.02; i=$((i + 1)); done"
    path.write_text(f"#!/bin/sh\n{ending}\necho up > {path}.up\n{waiting}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("deaf", [False, True])
def test_a_job_that_has_to_go_stops_its_sweep_and_comes_again(tmp_path, monkeypatch, deaf):
    told = "" if deaf else f"echo told > {tmp_path}/told; exit 143"
    fake = fake_sweep(tmp_path / "fake", f"trap '{told}' TERM")
    monkeypatch.setattr(job_module.sys, "executable", str(fake))
    monkeypatch.setattr(job_module, "GRACE_S", 0.3 if deaf else 30.0)
    job, errors = SweepJob(["grid.yaml", "--rows", "0:2"]), []

    def run():
        try:
            job()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    # The program may be up before the thread that started it has heard of it.
    while not (Path(f"{fake}.up").exists() and job._process) and time.monotonic() < until:
        time.sleep(0.01)
    again = job.checkpoint()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert again.function.words == job.words
    assert (tmp_path / "told").exists() == (not deaf)
    assert "ended with code" in errors[0]


def test_a_job_that_is_warned_while_it_waits_goes_at_once(tmp_path):
    """As submitit does it: the handler runs in the thread that waits for the sweep."""
    fake = fake_sweep(tmp_path / "fake", f"trap 'echo told > {tmp_path}/told; exit 143' TERM")
    words = ["grid.yaml", "--force", "--retry", "--rows", "0:2"]
    command = [sys.executable, str(Path(__file__).with_name("preempted_job.py")), str(fake), *words]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 30
        while not Path(f"{fake}.up").exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)  # until it waits
        job.send_signal(signal.SIGUSR2)
        said, _ = job.communicate(timeout=15)
    finally:
        job.kill()
        job.wait()
    assert (job.returncode, said) == (7, "grid.yaml --rows 0:2\n")  # what begins anew is left out
    assert (tmp_path / "told").exists()


class Sent:
    """An executor that keeps what it is given."""

    def __init__(self, logs, kind):
        self.jobs: list[SweepJob] = []
        SENT.append(self)

    def update_parameters(self, **parameters):
        pass

    def batch(self):
        return nullcontext()

    def submit(self, job):
        self.jobs.append(job)
        return SimpleNamespace(job_id=len(self.jobs))


SENT: list[Sent] = []


def test_rows_are_counted_with_what_is_passed_on(tmp_path, monkeypatch):
    monkeypatch.setattr(submit_slurm.submitit, "AutoExecutor", Sent)
    (tmp_path / "grid.yaml").write_text(json.dumps(GRID))  # of four rows
    words = [str(tmp_path / "grid.yaml"), "--out", str(tmp_path / "out"), "--jobs", "2", "--"]
    assert submit_slurm.main([*words, "--set", "seeds=5"]) == 0
    jobs = SENT.pop().jobs
    assert [job.words[-4:] for job in jobs] == [
        ("--set", "seeds=5", "--rows", "0:5"),
        ("--set", "seeds=5", "--rows", "5:10"),
    ]


@pytest.mark.parametrize("word", ["--force", "--rows=0:2", "--out=elsewhere", "--forc"])
def test_words_that_are_not_a_jobs_are_refused(tmp_path, capsys, word):
    (tmp_path / "grid.yaml").write_text(json.dumps(GRID))
    words = [str(tmp_path / "grid.yaml"), "--out", str(tmp_path / "out"), "--executor", "debug"]
    assert submit_slurm.main([*words, "--", "--quiet", word]) == 2
    assert f"error: {word[:5]}" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))
