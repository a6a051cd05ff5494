"""The tiny study from end to end: what it writes, and that the books can be checked by hand."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dt_kd_tiny import TINY

from fedjax_kd.study.folder import open_folder
from fedjax_kd.study.load import settings_from_dict
from fedjax_kd.study.progress import Progress, quiet
from fedjax_kd.study.run_dt_kd import run_study

POLICIES = {
    "q_learning",
    "q_learning_equal_split",
    "greedy",
    "all_device",
    "all_server",
    "random",
    "smallest",
    "largest",
    "exhaustive",
    "no_distillation",
    "fedavg_smallest",
}


@pytest.fixture(scope="module")
def manifest(tiny_results):
    return json.loads((tiny_results / "manifest.json").read_text())


@pytest.fixture(scope="module")
def frames(tiny_results):
    return {path.stem: pd.read_parquet(path) for path in tiny_results.glob("*.parquet")}


def test_the_folder_holds_every_table(tiny_results, frames, manifest):
    assert set(frames) == {
        "accuracy_table",
        "decisions",
        "frontier",
        "ledger",
        "metrics",
        "partition",
        "timings",
    }
    assert manifest["status"] == "complete"
    summary = pd.read_csv(tiny_results / "summary.csv")
    assert set(summary.policy) == POLICIES == set(frames["decisions"].policy)
    assert not frames["decisions"].isna().any().any()
    assert len(frames["ledger"]) == len(POLICIES) * 2 * 4 * 5


def rate(bandwidth_hz, snr_hz):
    return bandwidth_hz * np.log2(1 + snr_hz / bandwidth_hz)


def price_by_hand(row, manifest):
    """Delay, energy, bits and FLOPs of one decision, from the manifest and the decision alone."""
    settings = manifest["settings"]
    constants = manifest["system"]["constants"]
    (world,) = (w for w in manifest["system"]["per_seed"] if w["seed"] == row.seed)
    user = world["users"][row.user]
    (model,) = (m for m in manifest["students"] if m["label"] == row.student)
    epochs = settings["distillation"]["training"]["epochs"]
    rounds = 1
    if row.policy == "fedavg_smallest":
        rounds = settings["fedavg"]["rounds"]
        epochs = rounds * settings["fedavg"]["training"]["epochs"]
    training = model["training_flops"] * row.samples * epochs
    at_server = row.place == "server"
    labelled = (row.samples if at_server else row.synchronised) if row.distilled else 0
    inference = labelled * manifest["teacher"]["forward_flops"]
    up_bits = (row.samples - row.synchronised) * manifest["raw_bits_per_example"] * at_server
    down_bits = model["bits"] if at_server else labelled * manifest["classes"] * 32
    if row.policy == "fedavg_smallest":
        up_bits = down_bits = rounds * model["bits"]
    up_s = up_bits / rate(row.uplink_hz, user["uplink_snr_hz"]) if up_bits else 0.0
    down_s = down_bits / rate(row.downlink_hz, user["downlink_snr_hz"]) if down_bits else 0.0
    server_speed, device_speed = world["server_flops_per_s"], user["device_flops_per_s"]
    cycles = 1 / constants["flops_per_cycle"]
    at_the_server = constants["server_capacitance"] * world["server_clock_hz"] ** 2 * cycles
    at_the_device = constants["device_capacitance"] * user["device_clock_hz"] ** 2 * cycles
    return {
        "teacher_inference": (inference / server_speed, at_the_server * inference, 0, inference),
        "uplink": (up_s, user["transmit_w"] * up_s, up_bits, 0),
        "training_device": (0, 0, 0, 0)
        if at_server
        else (training / device_speed, at_the_device * training, 0, training),
        "training_server": (
            training / row.server_flops_per_s,
            at_the_server * training,
            0,
            training,
        )
        if at_server
        else (0, 0, 0, 0),
        "downlink": (down_s, constants["server_transmit_w"] * down_s, down_bits, 0),
    }


def test_the_ledger_can_be_computed_again_by_hand(frames, manifest):
    ledger = frames["ledger"].set_index(["policy", "seed", "user", "cause"])
    for row in frames["decisions"].itertuples():
        by_hand = price_by_hand(row, manifest)
        for cause, want in by_hand.items():
            got = ledger.loc[(row.policy, row.seed, row.user, cause)]
            np.testing.assert_allclose(
                [got.delay_s, got.energy_j, got.bits, got.flops],
                want,
                rtol=3e-5,
                err_msg=f"{row.policy}, seed {row.seed}, user {row.user}, {cause}",
            )
        np.testing.assert_allclose(row.delay_s, sum(v[0] for v in by_hand.values()), rtol=3e-5)
        np.testing.assert_allclose(row.energy_j, sum(v[1] for v in by_hand.values()), rtol=3e-5)


def test_shares_keep_the_budgets(frames, manifest):
    worlds = {world["seed"]: world for world in manifest["system"]["per_seed"]}
    for (_, seed), rows in frames["decisions"].groupby(["policy", "seed"]):
        budgets = {
            "server_flops_per_s": worlds[seed]["server_flops_per_s"],
            "uplink_hz": worlds[seed]["uplink_hz"],
            "downlink_hz": worlds[seed]["downlink_hz"],
        }
        for name, budget in budgets.items():
            assert rows[name].sum() <= budget * (1 + 1e-6)
        if (rows.place == "server").any():
            assert rows.server_flops_per_s.sum() == pytest.approx(budgets["server_flops_per_s"])


def test_utility_follows_from_the_reported_figures(frames, manifest):
    metrics = frames["metrics"].set_index(["scope", "metric", "seed"]).value
    weight = manifest["settings"]["objective"]["delay_weight"]
    for (policy, seed), rows in frames["decisions"].groupby(["policy", "seed"]):
        reference_s = metrics.loc[("study", "reference_delay_s", seed)].item()
        want = rows.accuracy_personal.mean() - weight * rows.delay_s.sum() / reference_s
        got = metrics.loc[(f"policy/{policy}", "utility", seed)].item()
        assert got == pytest.approx(want, rel=1e-4)


def test_the_proposed_policy_plans_nearly_as_well_as_the_optimum(frames):
    metrics = frames["metrics"].set_index(["scope", "metric", "seed"]).value
    for seed in (0, 1):
        optimum = metrics.loc[("exhaustive", "utility", seed)].item()
        planned = metrics.loc[("policy/q_learning", "utility_planned", seed)].item()
        assert optimum >= planned - 1e-5
        assert planned >= optimum - 0.02
        for policy in POLICIES - {"exhaustive", "no_distillation", "fedavg_smallest"}:
            other = metrics.loc[(f"policy/{policy}", "utility_planned", seed)].item()
            assert optimum >= other - 1e-5


def test_reported_accuracies_are_those_of_the_deployed_students(frames):
    deployed = frames["accuracy_table"].query("stage == 'deployment'")
    index = deployed.set_index(["seed", "user", "student", "soft_labels"])
    for row in frames["decisions"].itertuples():
        if row.policy == "fedavg_smallest":
            continue
        kind = "none" if not row.distilled else "all" if row.place == "server" else "synchronised"
        student = index.loc[(row.seed, row.user, row.student, kind)]
        assert row.accuracy_personal == pytest.approx(student.accuracy_personal)
        assert row.accuracy_common == pytest.approx(student.accuracy_common)


def test_a_second_run_gives_the_same_bits(tiny_results, tmp_path, run_tiny):
    said = run_tiny(tmp_path / "again")
    assert "accuracy table" in said
    for name in ("decisions", "ledger", "metrics", "frontier", "accuracy_table", "partition"):
        first = pd.read_parquet(tiny_results / f"{name}.parquet")
        pd.testing.assert_frame_equal(first, pd.read_parquet(tmp_path / f"again/{name}.parquet"))


def test_the_teacher_learns_from_what_the_twins_hold(frames):
    curve = frames["metrics"].query("scope == 'teacher' and metric == 'accuracy_common'")
    assert len(curve) == 2 * 5
    last = curve[curve["round"] == 5].value.mean()
    assert last > curve[curve["round"] == 1].value.mean()
    assert last > 0.5


def test_training_that_diverges_stops_the_study_and_says_where(tmp_path):
    settings: Any = settings_from_dict(TINY, ["teacher.training.learning_rate=1.0e+9"])
    folder = open_folder(tmp_path / "diverged", settings)
    try:
        with pytest.raises(FloatingPointError, match=r"mlp in round .*learning_rate"):
            run_study(settings, folder, progress=Progress(quiet()))
    finally:
        folder.close()
    assert (folder.path / "partition.parquet").exists()
    assert folder.read_manifest()["status"] == "running"
