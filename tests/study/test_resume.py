"""An interrupted study goes on as if nothing had happened: every row and every final state."""

import json
import signal
from typing import Any

import pytest
from dt_kd_tiny import TINY
from resume_cases import Killed, final_states, run, same_results
from rounds_tiny import DFML, PFEDAFM

import fedjax_kd
from fedjax_kd.study import dt_kd_students
from fedjax_kd.study.checkpoint import Stopped
from fedjax_kd.study.load import settings_from_dict

pytestmark = pytest.mark.shipped  # with programs as users have them

STUDIES = {
    "dt_kd": settings_from_dict(TINY),
    "pfedafm": settings_from_dict(PFEDAFM, ["rounds=4", "contestants=[pfedafm,fedproto]"]),
    "dfml": settings_from_dict(DFML, ["rounds=4", "contestants=[dfml,def_kt]"]),
}
KILLS = {"dt_kd": (6, 13), "pfedafm": (5, 6, 6), "dfml": (5, 7)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folders of uninterrupted runs, made when first asked for."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / "whole"
            run(STUDIES[name], made[name])
        return made[name]

    return of


@pytest.mark.parametrize("name", STUDIES)
def test_killed_again_and_again(name, whole, tmp_path):
    for moment in KILLS[name]:
        with pytest.raises(Killed):
            run(STUDIES[name], tmp_path / "killed", kill_after=moment)
    run(STUDIES[name], tmp_path / "killed")
    same_results(whole(name), tmp_path / "killed")


def test_a_killed_run_s_rows_can_be_read(whole, tmp_path):
    folder = tmp_path / "killed"
    with pytest.raises(Killed):  # the first contestant is through, the second in the middle
        run(STUDIES["pfedafm"], folder, kill_after=9)
    rows: Any = fedjax_kd.load_results(folder)
    assert set(rows["scope"]) == {"pfedafm", "fedproto", "fedproto/head"}
    begun = rows[rows["scope"] == "fedproto"]["round"].max()
    assert 0 < begun < 4
    every = fedjax_kd.load_results(whole("pfedafm"))
    keys = ["seed", "round", "scope", "metric", "value"]
    assert len(rows.merge(every, on=keys)) == len(rows)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(number, whole, tmp_path):
    asked = iter([None, number])
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped, match="after round 3 of pfedafm"):
        # No checkpoint was due: the wish to stop makes one.
        run(STUDIES["pfedafm"], folder, every_rounds=100, requested=lambda: next(asked, number))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "interrupted"
    assert manifest["stopped"]["signal"] == number.name
    assert "round 3 of 4 of pfedafm" in manifest["stopped"]["reason"]
    run(STUDIES["pfedafm"], folder, every_rounds=100)
    same_results(whole("pfedafm"), folder)


def test_a_damaged_checkpoint_costs_a_round_and_nothing_else(whole, tmp_path):
    folder = tmp_path / "damaged"
    with pytest.raises(Killed):
        run(STUDIES["dfml"], folder, kill_after=7)
    (last,) = [max((folder / "checkpoints" / "dfml").iterdir(), key=lambda path: int(path.name))]
    largest = max(
        (file for file in last.rglob("*") if file.is_file()), key=lambda f: f.stat().st_size
    )
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    notes = run(STUDIES["dfml"], folder)
    assert any("damaged" in note for note in notes)
    same_results(whole("dfml"), folder)


def test_the_tables_of_q_learning_are_kept(whole):
    decisions = final_states(whole("dt_kd"))["decisions"]
    assert decisions[".q"].shape[:2] == (2, 4)
    assert decisions[".visits"].sum() > 0


def test_students_that_were_cut_otherwise_are_all_trained(whole, monkeypatch, tmp_path):
    """As on another number of devices: as many chunks, of other clients."""
    monkeypatch.setattr(dt_kd_students, "CLIENTS_PER_CHUNK", 2)
    folder = tmp_path / "cut"
    with pytest.raises(Killed):
        run(STUDIES["dt_kd"], folder, kill_after=10)
    begun = [part for part in (folder / "checkpoints").iterdir() if part.name.startswith("profile")]
    steps = {part.name: max(int(step.name) for step in part.iterdir()) for part in begun}
    assert 1 in steps.values()  # of two chunks, one is trained
    cut = dt_kd_students.chunks
    monkeypatch.setattr(dt_kd_students, "chunks", lambda *args: reversed(list(cut(*args))))
    run(STUDIES["dt_kd"], folder)
    same_results(whole("dt_kd"), folder)
