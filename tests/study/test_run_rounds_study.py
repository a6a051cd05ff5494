"""Tiny studies in rounds from end to end: what they write, and that the books can be checked."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rounds_tiny import TINY_ROUNDS, costs, curves, run_tiny_rounds

METHODS = tuple(TINY_ROUNDS)
TABLES = {"clients", "costs", "curves", "ledger", "partition", "special", "timings"}
COSTS = ["delay_s", "energy_j", "bits", "flops"]
ROUNDS, SEEDS, USERS = 3, 2, 4


def tables_of(folder) -> dict[str, Any]:
    """Every table by its name; that of metrics as its two kinds."""
    found: dict[str, Any] = {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}
    del found["metrics"]
    return {**found, "curves": curves(folder), "costs": costs(folder)}


def manifest_of(folder) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Runs the tiny study of a method once; returns its folder."""
    done = {}

    def of(method):
        if method not in done:
            done[method] = run_tiny_rounds(method, tmp_path_factory.mktemp(method) / "results")
        return done[method]

    return of


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def folder(results, method):
    return results(method)


@pytest.fixture
def frames(folder):
    return tables_of(folder)


@pytest.fixture
def manifest(folder):
    return manifest_of(folder)


def test_every_table_has_every_contestant(folder, frames, manifest, method):
    study = TINY_ROUNDS[method]
    assert set(frames) == TABLES | ({"mixing"} if method == "pfedafm" else set())
    assert manifest["status"] == "complete"
    assert manifest["diverged"] == []
    names = [each["name"] for each in manifest["contestants"]]
    assert names == study["contestants"]
    for table in ("curves", "costs", "clients", "ledger"):
        assert list(frames[table]["contestant"].unique()) == names
        assert not frames[table].isna().any().any()
    summary = pd.read_csv(folder / "summary.csv").set_index(["contestant", "view"])
    wanted = [(each["name"], view) for each in manifest["contestants"] for view in each["views"]]
    assert list(summary.index) == wanted
    assert len(frames["costs"]) == len(names) * SEEDS * ROUNDS
    assert set(frames["curves"]["round"]) == {2, 3}
    assert manifest["contestants"][0]["role"] == "proposed"
    assert all(each["peer"] == (method == "dfml") for each in manifest["contestants"])
    assert [each["user"] for each in manifest["users"]] == list(range(USERS))


def test_the_ledger_adds_up_to_the_last_costs(frames):
    """All but delay: a round lasts as long as its slowest user, the ledger has everybody's time."""
    keys = ["contestant", "seed"]
    totals = frames["ledger"].groupby(keys)[COSTS].sum()
    last = frames["costs"][frames["costs"]["round"] == ROUNDS].set_index(keys)[COSTS]
    for cost in COSTS[1:]:
        np.testing.assert_allclose(totals[cost], last[cost].reindex(totals.index), rtol=1e-6)
    assert (totals.delay_s >= last.delay_s.reindex(totals.index) * (1 - 1e-6)).all()
    grown = frames["costs"].groupby(keys)[COSTS].diff().dropna()
    assert (grown >= 0).all().all()


def test_summary_repeats_the_tables(folder, frames):
    summary = pd.read_csv(folder / "summary.csv")
    curves, clients = frames["curves"], frames["clients"]
    row: Any
    for row in summary.itertuples():
        contestant, view = row.contestant, row.view
        mine = curves[(curves["contestant"] == contestant) & (curves["view"] == view)]
        common = mine[mine["metric"] == "accuracy_common"]
        best = common.groupby("seed")["value"].max().mean()
        assert row.accuracy_common_best == pytest.approx(best)
        users = clients[(clients["contestant"] == contestant) & (clients["view"] == view)]
        assert row.accuracy_personal_last == pytest.approx(users.accuracy_personal_last.mean())
        of_seeds = users.groupby("seed")["accuracy_personal_at_best"].mean()
        assert row.accuracy_personal_best == pytest.approx(of_seeds.mean())


def bits_of(folder, role):
    return [each["bits"] for each in manifest_of(folder)["models"] if each["role"] == role]


def last_bits(folder, contestant):
    spent = costs(folder)
    rows = spent[(spent["contestant"] == contestant) & (spent["round"] == ROUNDS)]
    return np.asarray(rows["bits"])


def test_bits_of_on_device_kd_in_closed_form(results):
    folder = results("on_device_kd")
    (target,), (auxiliary,) = bits_of(folder, "target"), bits_of(folder, "auxiliary")
    cohort, strong = 3, 2
    sampled = ROUNDS * cohort * 2 * auxiliary
    np.testing.assert_allclose(last_bits(folder, "auxiliary_only"), sampled)
    # The strong ones also receive the auxiliary model that has just been aggregated.
    both = sampled + ROUNDS * strong * (2 * target + auxiliary)
    np.testing.assert_allclose(last_bits(folder, "on_device_kd"), both)
    # There they hand their unlabelled pictures over, once: 64 pixels of 8 bits each.
    rows = tables_of(folder)["partition"]
    held = rows[rows["split"] == "unlabelled"].groupby("seed")["count"].sum().to_numpy()
    raw = held * manifest_of(folder)["raw_bits_per_example"]
    assert (raw >= 64 * 8).all()
    ensemble = sampled + ROUNDS * strong * 2 * target + raw
    np.testing.assert_allclose(last_bits(folder, "server_ensemble"), ensemble)


def per_round(frame, *keys) -> Any:
    """Bits of every single round, as a series by the keys, `seed` and `round`."""
    rows = frame.set_index([*keys, "seed", "round"])["bits"]
    return rows.groupby(level=[*keys, "seed"]).diff().fillna(rows)


def test_bits_of_dfml_are_the_senders_models_there_and_back(results):
    folder = results("dfml")
    sizes, (meme,) = bits_of(folder, "user"), bits_of(folder, "meme")
    frames = tables_of(folder)
    bits = per_round(frames["costs"], "contestant")
    rows = frames["special"]
    drawn = rows[(rows["contestant"] == "dfml") & (rows["name"] == "aggregator")]
    assert len(drawn) == SEEDS * ROUNDS
    for row in drawn.itertuples():  # all four users take part: all but the aggregator send
        sent = 2 * sum(sizes) - sizes[int(row.value) % 2]
        assert bits.loc[("dfml", row.seed, row.round)] == pytest.approx(2 * sent)
    np.testing.assert_allclose(
        last_bits(folder, "decentralised_fml"), ROUNDS * (USERS - 1) * 2 * meme
    )


def test_two_pairs_of_def_kt_are_priced(results):
    folder = results("dfml")
    small, large = bits_of(folder, "user")
    frames = tables_of(folder)
    bits = per_round(frames["costs"], "contestant").loc["def_kt"].to_numpy()
    # Pairs of one architecture send one model; in mixed pairs it goes back to its owner.
    possible = np.array([small + large, 4 * small, 2 * (small + large), 4 * large])
    assert np.isclose(bits[:, None], possible, rtol=1e-6).any(axis=1).all()
    ledger = frames["ledger"][frames["ledger"]["contestant"] == "def_kt"]
    sent = ledger[(ledger["phase"] == "send") & (ledger["cause"] == "uplink")]
    learnt = ledger[(ledger["phase"] == "fuse") & (ledger["cause"] == "training")]
    assert (sent[sent["bits"] > 0]["delay_s"] > 0).all()
    assert (sent[sent["bits"] > 0]["energy_j"] > 0).all()
    for seed in range(SEEDS):  # in every round two send and the other two learn
        here = sent[sent["seed"] == seed].set_index("user")["bits"]
        there = learnt[learnt["seed"] == seed].set_index("user")["flops"]
        assert (here > 0).sum() >= 2
        assert (there > 0).sum() >= 2
        assert ((here > 0) | (there > 0)).loc[:3].all()
        assert here.loc[-1] == there.loc[-1] == 0
    assert ledger[ledger["cause"] == "downlink"]["bits"].eq(0).all()  # counted where it is sent


def test_bits_of_pfedafm_and_its_baselines_in_closed_form(results):
    folder = results("pfedafm")
    (shared,), features, cohort = bits_of(folder, "shared"), 8, 3
    header = 32 * (features * 10 + 10)
    sent = ROUNDS * cohort * 2
    np.testing.assert_allclose(last_bits(folder, "pfedafm"), sent * (shared - header))
    np.testing.assert_allclose(last_bits(folder, "lg_fedavg"), sent * header)
    np.testing.assert_array_equal(last_bits(folder, "local"), 0)
    # FedProto: everybody sends a mean of each class it has, whenever it takes part.
    frames = tables_of(folder)
    ledger = frames["ledger"][frames["ledger"]["cause"] == "uplink"]
    bits = ledger.set_index(["contestant", "seed", "user"])["bits"]
    rounds = bits.loc["lg_fedavg"] / header
    rows = frames["partition"]
    held = rows[(rows["split"] == "train") & (rows["count"] > 0)]
    classes = held.groupby(["seed", "user"])["class_id"].nunique()
    wanted = rounds.loc[classes.index] * classes * 32 * features
    np.testing.assert_allclose(bits.loc["fedproto"].loc[classes.index], wanted)


def test_what_is_special_in_each(results):
    special: dict[str, Any] = {
        method: pd.read_parquet(results(method) / "special.parquet") for method in METHODS
    }
    rows = special["dfml"]
    alpha = rows[(rows["contestant"] == "dfml") & (rows["name"] == "alpha")]
    np.testing.assert_allclose(alpha.groupby("round")["value"].mean(), [0.0, 1.0, 0.0], atol=1e-6)
    rows = special["on_device_kd"]
    weight = rows[(rows["contestant"] == "on_device_kd") & (rows["seed"] == 0)]
    ramp = [0.5 * np.exp(-5.0), 0.5 * np.exp(-5 / 4), 0.5]
    np.testing.assert_allclose(weight["value"], ramp, rtol=1e-6)
    rows = special["pfedafm"]
    means = rows[(rows["contestant"] == "pfedafm") & (rows["name"] == "mixing_mean")]
    assert set(means["index"]) == set(range(USERS))
    mixing = pd.read_parquet(results("pfedafm") / "mixing.parquet")
    assert len(mixing) == SEEDS * USERS * 8
    assert ((np.asarray(mixing["value"]) >= 0) & (np.asarray(mixing["value"]) <= 1)).all()
    assert np.asarray(mixing["value"]).min() < 1


def test_the_manifest_tells_what_prices_depend_on(manifest, frames, method):
    system = manifest["system"]
    assert [each["seed"] for each in system["per_seed"]] == [0, 1]
    assert system["path_loss"]["kind"] in ("power_law", "macro_cell")
    ledger = frames["ledger"]
    for world in system["per_seed"]:
        for name in ("angle_rad", "distance_m", "device_clock_hz", "device_capacitance"):
            assert len(world[name]) == USERS
        rows = ledger[(ledger["seed"] == world["seed"]) & (ledger["cause"] == "training")]
        users = rows[rows["user"] >= 0]
        who = users["user"].to_numpy()
        clock_hz = np.asarray(world["device_clock_hz"])[who]
        flops_per_s = np.asarray(world["device_flops_per_s"])[who]
        per_flop = np.asarray(world["device_capacitance"])[who] / world["flops_per_cycle"]
        np.testing.assert_allclose(users["delay_s"], users["flops"] / flops_per_s, rtol=1e-9)
        np.testing.assert_allclose(
            users["energy_j"], users["flops"] * per_flop * clock_hz**2, rtol=1e-9
        )
    if method == "on_device_kd":
        capacitance = system["per_seed"][0]["device_capacitance"]
        assert capacitance[0] == capacitance[1]  # of the strong
        assert capacitance[2] == capacitance[3] != capacitance[0]


def test_a_second_run_gives_the_same_bits(method, folder, tmp_path):
    second = run_tiny_rounds(method, tmp_path / "again")
    for path in first_tables(folder):
        pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(second / path.name))
    assert (folder / "summary.csv").read_text() == (second / "summary.csv").read_text()


def first_tables(folder):
    found = sorted(set(folder.glob("*.parquet")) - {folder / "timings.parquet"})
    assert len(found) >= len(TABLES) - 2  # curves and costs are one file, and timings differ
    return found


def test_contestants_do_not_depend_on_their_company(results, tmp_path):
    alone = run_tiny_rounds("pfedafm", tmp_path / "alone", ("contestants=[fedproto]",))
    rows = curves(results("pfedafm"))
    mine = rows[rows["contestant"] == "fedproto"].reset_index(drop=True)
    pd.testing.assert_frame_equal(curves(alone), mine)


def test_a_contestant_that_diverges_leaves_the_others(results, tmp_path):
    changes = ("def_kt_weight=1e30", "contestants=[def_kt, decentralised_fml]")
    folder = run_tiny_rounds("dfml", tmp_path / "diverged", changes)
    manifest = manifest_of(folder)
    assert manifest["status"] == "complete"
    (lost,) = manifest["diverged"]
    assert lost["name"] == "def_kt"
    assert "the training loss is not finite for" in lost["reason"]
    assert "in round" in lost["reason"]
    for name in ("curves", "costs"):
        rows, usual = tables_of(folder)[name], tables_of(results("dfml"))[name]
        assert set(rows["contestant"]) == {"decentralised_fml"}
        usual = usual[usual["contestant"] == "decentralised_fml"].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, usual)
    summary = pd.read_csv(folder / "summary.csv")  # without the first one there is no mark
    assert np.isnan(np.asarray(summary["rounds_to_90"])).all()


def test_a_study_of_which_nothing_is_left_fails(results, tmp_path):
    results("dfml")  # compiles it
    changes = ("training.learning_rate=1e30", "contestants=[def_kt]")
    with pytest.raises(FloatingPointError, match="every contestant diverged: def_kt: the training"):
        run_tiny_rounds("dfml", tmp_path / "nothing", changes)
    manifest = manifest_of(tmp_path / "nothing")
    assert manifest["status"] == "running"
    assert [each["name"] for each in manifest["diverged"]] == ["def_kt"]
    assert (tmp_path / "nothing" / "partition.parquet").exists()
