"""A tiny study of the family from end to end, and what its summary says of costs to the best."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from family_tiny import run_family
from rounds_tiny import costs, curves

from fedjax_kd.report import render_report
from fedjax_kd.study.rounds_summary import summary_table
from fedjax_kd.study.rounds_tables import COSTS, Course

ROUNDS, SEEDS, USERS, CLASSES = 3, 2, 4, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_family(tmp_path_factory.mktemp("family") / "results")


def last_bits(folder, name):
    rows = costs(folder)
    return rows[(rows["contestant"] == name) & (rows["round"] == ROUNDS)]["bits"].to_numpy()


def test_the_tables_have_local_as_the_reference(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    roles = {each["name"]: each["role"] for each in manifest["contestants"]}
    assert roles == {"local": "reference", "fd": "baseline", "ds_fl": "baseline"}
    assert {each["role"] for each in manifest["models"]} == {"user"}  # no meme without FML
    summary: Any = pd.read_csv(folder / "summary.csv").set_index(["contestant", "view"])
    assert list(summary.index) == [
        *(("local", "own"), ("fd", "model"), ("ds_fl", "own"), ("ds_fl", "server"))
    ]
    for scope in ("personal", "common"):
        for when in ("best", "last"):
            assert summary[f"accuracy_{scope}_{when}"].between(0, 1).all()
    for column in ("accuracy_personal_std_last", "accuracy_personal_worst_decile_last"):
        assert summary[column].notna().all()
    for share in (80, 90):
        for cost in ("rounds", "bits", "delay_s", "energy_j"):
            assert f"{cost}_to_{share}" in summary.columns


def test_bits_in_closed_form(folder):
    np.testing.assert_array_equal(last_bits(folder, "local"), 0)
    # Everybody takes part: 16 rows of probabilities up, and as many down, in every round.
    scores = ROUNDS * USERS * 2 * 16 * CLASSES * 32
    np.testing.assert_allclose(last_bits(folder, "ds_fl"), scores)
    # FD sends the mean of each class at hand, and gets those of all known ones from round 2 on.
    frame: Any = pd.read_parquet(folder / "partition.parquet")
    held = frame[(frame["split"] == "train") & (frame["count"] > 0)]
    up = held.groupby("seed")["class_id"].count().to_numpy()
    known = held.groupby("seed")["class_id"].nunique().to_numpy()
    wanted = (ROUNDS * up + (ROUNDS - 1) * USERS * known) * 32 * CLASSES
    np.testing.assert_allclose(last_bits(folder, "fd"), wanted)


def test_the_report_holds_others_against_local(folder):
    text = render_report(folder).read_text(encoding="utf-8")
    assert 'class="missing"' not in text
    assert "in points of personal accuracy against Local: " in text
    assert "of the best personal accuracy of all" in text
    assert "proposed method" not in text.split("<figure>")[0]


def test_channels_change_what_crosses(folder, tmp_path):
    upload = (
        "upload=[{kind: clip_and_noise, clip: 4.0, multiplier: 0.1}, {kind: quantise, bits: 4}]"
    )
    changed = run_family(tmp_path / "results", upload, "contestants=[local, ds_fl]")
    manifest = json.loads((changed / "manifest.json").read_text())
    assert manifest["privacy"]["multiplier"] == 0.1
    assert manifest["privacy"]["rounds"] == ROUNDS
    up = 16 * (4 * CLASSES + 64)  # 4 bits a number, and each row's range
    down = 16 * 32 * CLASSES
    np.testing.assert_allclose(last_bits(changed, "ds_fl"), ROUNDS * USERS * (up + down))
    usual, local = curves(folder), curves(changed)
    pd.testing.assert_frame_equal(  # who sends nothing is not touched
        local[local["contestant"] == "local"].reset_index(drop=True),
        usual[usual["contestant"] == "local"].reset_index(drop=True),
    )


def course(name: str, means: list[list[float]], cost: float) -> Course:
    """Two seeds, one user, rounds 1 to 4, all of them evaluated; every round costs the same."""
    accuracy = np.asarray(means).T[:, :, None]
    return Course(
        name=name,
        views=("own",),
        evaluated=np.arange(1, 5),
        personal={"own": accuracy},
        common={"own": accuracy / 2},
        loss=np.ones((4, 2)),
        costs={key: np.full((4, 2), cost * place) for place, key in enumerate(COSTS, 1)},
        phases=("round",),
        causes=("training",),
        ledger={},
        special={},
    )


def test_costs_to_shares_of_the_best_of_all():
    courses = [
        course("local", [[0.50, 0.60, 0.70, 0.73], [0.40, 0.50, 0.60, 0.65]], 0.0),
        course("fd", [[0.20, 0.73, 0.80, 0.70], [0.30, 0.55, 0.60, 0.64]], 2.0),
        course("fml", [[0.10, 0.20, 0.30, 0.65], [0.10, 0.20, 0.55, 0.60]], 5.0),
    ]
    rows: Any = summary_table(courses, None, "personal").set_index("contestant")
    # The best: 0.80 (FD) in the first seed, 0.65 (Local) in the second one.
    # 80 %: 0.64 and 0.52. Local in rounds 3 and 3, FD in 2 and 2, FML in 4 and 3.
    assert list(rows["rounds_to_80"]) == [3.0, 2.0, 3.5]
    # 90 %: 0.72 and 0.585. Local in 4 and 3, FD in 2 and 3, FML never in the first seed.
    assert list(rows["rounds_to_90"])[:2] == [3.5, 2.5]
    assert np.isnan(rows.loc["fml", "rounds_to_90"])
    assert np.isnan(rows.loc["fml", "bits_to_90"])
    assert list(rows["bits_to_80"]) == [0.0, 2 * 3 * 2.0, 3.5 * 3 * 5.0]
    assert rows.loc["fd", "delay_s_to_90"] == 2.5 * 2.0
    assert rows.loc["fd", "energy_j_to_90"] == 2.5 * 2 * 2.0
    assert rows.loc["fd", "accuracy_personal_last"] == pytest.approx((0.70 + 0.64) / 2)
