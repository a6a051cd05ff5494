"""What a rounds study's words and pictures are computed from, checked by hand on small tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rounds_synthetic import METHODS, RoundsSize, write_rounds

from fedjax_kd.report.palette import CONTESTANT_LOOKS
from fedjax_kd.report.pictures.rounds_cycle import peak_rounds
from fedjax_kd.report.pictures.rounds_mixing import mixing_course, mixing_vectors
from fedjax_kd.report.results import load_results
from fedjax_kd.report.rounds_costs import QUANTITIES, by_phase_and_cause
from fedjax_kd.report.rounds_headline import rounds_headline
from fedjax_kd.report.rounds_people import group_order, user_groups
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.rounds_table import contestant_table
from fedjax_kd.report.rounds_values import (
    difference,
    gap_of,
    seed_values,
    target_accuracy,
    verdict_of,
)
from fedjax_kd.statistics import mean_interval


def read(folder: Path) -> RoundsResults:
    results = load_results(folder)
    assert isinstance(results, RoundsResults)
    return results


def with_finals(folder: Path, finals: dict[str, list[float]]) -> RoundsResults:
    """A small DFML study whose contestants' common accuracies are given by seed, in every round."""
    size = RoundsSize(method="dfml", users=5, rounds=4, every=2, contestants=len(finals))
    write_rounds(folder, size)
    table = pd.read_parquet(folder / "metrics.parquet")
    for name, values in finals.items():
        for seed, value in zip(size.seeds, values, strict=True):
            rows = (table["scope"].str.split("/").str[0] == name) & (table["seed"] == seed)
            table.loc[rows & (table["metric"] == "accuracy_common"), "value"] = value
    table.to_parquet(folder / "metrics.parquet", index=False)
    return read(folder)


def test_difference_is_paired_over_the_seeds(tmp_path: Path):
    """Seeds differ far more than contestants do; only the pairing shows who is better."""
    results = with_finals(
        tmp_path / "study",
        {"dfml": [0.30, 0.50, 0.72], "decentralised_fedavg": [0.29, 0.485, 0.705]},
    )
    other = results.contestants[1]
    gap = difference(results, other, "accuracy_common", "best")
    assert gap == pytest.approx(mean_interval([0.01, 0.015, 0.015]))
    assert verdict_of(gap) == "better"
    mine = seed_values(results, "dfml", "peak", "accuracy_common", "best")
    assert list(mine) == [0.30, 0.50, 0.72]
    assert target_accuracy(results) == pytest.approx(0.9 * (0.30 + 0.50 + 0.72) / 3)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.02, 0.01, 0.03), "better"),
        ((0.02, -0.01, 0.05), "same"),
        ((-0.02, -0.03, -0.01), "worse"),
        ((-0.02, np.nan, np.nan), "worse"),
        ((0.0, np.nan, np.nan), "same"),
    ],
)
def test_verdict(interval, verdict):
    assert verdict_of(interval) == verdict


def test_sentences_say_what_came_out(tmp_path: Path):
    results = with_finals(
        tmp_path / "study",
        {
            "dfml": [0.60, 0.61, 0.62],
            "decentralised_fedavg": [0.50, 0.51, 0.525],
            "decentralised_fedavg_wsm": [0.55, 0.65, 0.62],
            "def_kt": [0.70, 0.71, 0.725],
            "dfml_constant_alpha": [0.65, 0.655, 0.67],
        },
    )
    found = rounds_headline(results)
    assert found is not None
    words = " ".join(found.sentences)
    assert "it is above Decentralised FedAvg (+9.8 ± 0.7)" in words
    assert "within the interval of “Decentralised FedAvg, weighted softmax” (+0.3 ± 11.2)" in words
    assert "; below Def-KT (−10.2 ± 0.7) and “DFML, constant α” (" in words
    assert (
        "The expected order, the proposed method above every baseline, did not come out against "
        "“Decentralised FedAvg, weighted softmax” and Def-KT, neither at the best round nor the "
        "last."
    ) in words
    verdicts = {change.policy: change.verdict for change in found.figures[0].changes}
    assert verdicts == {
        "decentralised_fedavg": "better",
        "decentralised_fedavg_wsm": "same",
        "def_kt": "worse",
        "dfml_constant_alpha": "worse",
    }


def test_variants_are_not_expected_to_lose(tmp_path: Path):
    """A variant above the method does not make the expected order fail; the baselines decide."""
    names = [made.name for made in METHODS["dfml"]]
    finals = {name: [0.5, 0.51, 0.52] for name in names}
    finals |= {"dfml": [0.6, 0.61, 0.62], "dfml_constant_alpha": [0.7, 0.71, 0.72]}
    found = rounds_headline(with_finals(tmp_path / "study", finals))
    assert found is not None
    assert any("came out, at the best round" in each for each in found.sentences)


def test_where_nothing_is_proposed_others_are_held_against_the_reference(rounds):
    """Local, second in the manifest, has 0.80 in the end, FedProto 0.84, FedAvg 0.66."""
    results = read(rounds("family"))
    assert results.reference is not None
    assert results.reference.name == "local"
    assert results.proposed == results.reference
    others = {each.name: each for each in results.contestants}
    above = gap_of(results, others["fedproto"], "accuracy_personal", "last")
    assert above[0] == pytest.approx(0.04, abs=0.01)
    assert above[1] < above[0] < above[2]
    assert verdict_of(gap_of(results, others["fedavg"], "accuracy_personal", "last")) == "worse"
    best = seed_values(results, "fedproto", "prototype", "accuracy_personal", "best")
    assert target_accuracy(results, 0.8) == pytest.approx(0.8 * best.mean())
    found = rounds_headline(results)
    assert found is not None
    words = " ".join(found.sentences)
    assert "in points of personal accuracy against Local: above it FedProto (+" in words
    assert "; below FedAvg (−" in words
    assert "personal at the last round: FedProto (8" in words
    assert "80 % of the best personal accuracy of all" in words
    assert "expected order" not in words
    verdicts = {change.policy: change.verdict for change in found.figures[0].changes}
    assert verdicts["fedproto"] == "better"
    assert verdicts["fedavg"] == "worse"
    time = next(each for each in found.figures if each.title.startswith("Simulated time"))
    assert {change.policy: change.verdict for change in time.changes}["fedavg"] == "worse"
    columns = [column.metric.key for column in contestant_table(results).columns]
    assert columns[-4:] == ["rounds_to_80", "rounds_to_90", "bits_to_80", "bits_to_90"]


def test_costs_of_one_who_sends_nothing(rounds):
    found = rounds_headline(read(rounds("pfedafm")))
    assert found is not None
    traffic = next(figure for figure in found.figures if figure.title.startswith("Traffic"))
    local = next(change for change in traffic.changes if change.policy == "local")
    assert (local.value, local.verdict) == ("none", "worse")
    assert any("and no traffic" in sentence for sentence in found.sentences)


def test_ledger_adds_up_to_the_costs(rounds):
    results = read(rounds("on_device_kd"))
    for quantity in QUANTITIES:
        if quantity.per_client:
            continue
        sums = by_phase_and_cause(results, quantity).sum(axis=1)
        last = results.costs[results.costs["round"] == results.costs["round"].max()]
        totals = last.groupby("contestant")[quantity.column].mean()
        for name, total in sums.items():
            assert total == pytest.approx(totals[name])


def test_groups_tell_strong_from_weak_where_there_are_both(rounds):
    groups = user_groups(read(rounds("on_device_kd")))
    assert groups[0] == "lenet-x2, strong"
    assert groups[9] == "lenet-x0.5, weak"
    assert group_order(read(rounds("on_device_kd"))) == ["lenet-x0.5, weak", "lenet-x2, strong"]
    assert user_groups(read(rounds("dfml")))[0] == "mlp-64"


def test_peak_rounds_are_whole_stretches():
    alpha = np.array([0.0, 0.95, 1.0, 0.5, 0.0, 0.9, 0.2, 1.0])
    assert peak_rounds(np.arange(1, 9), alpha, 0.9) == [(2.0, 3.0), (6.0, 6.0), (8.0, 8.0)]
    assert peak_rounds(np.arange(1, 4), np.zeros(3), 0.9) == []


def test_users_that_are_away_keep_their_mixing_mean(rounds, copy_of):
    folder = copy_of(rounds("pfedafm"))
    rows = [
        (0, 0, "pfedafm", at, "mixing_mean", user, value)
        for at, values in ((1, (0.8, 0.6)), (2, (0.0, 0.4)), (3, (0.6, 0.0)))
        for user, value in ((0, values[0]), (5, values[1]))
    ]
    columns = ["point", "seed", "contestant", "round", "name", "index", "value"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "special.parquet", index=False)
    course = mixing_course(read(folder), "pfedafm")
    assert list(course) == ["mlp-64"]  # users 0 and 5 have the same architecture
    assert course["mlp-64"]["mean"].tolist() == pytest.approx([0.7, 0.6, 0.5])


def test_mixing_map_is_sorted(rounds):
    results = read(rounds("pfedafm"))
    seed, table = mixing_vectors(results, "pfedafm")
    assert seed == 0
    means = table.mean(axis=0).to_numpy()
    assert (np.diff(means) <= 0).all()
    models = [user_groups(results)[int(user)] for user in table.index]
    assert models == sorted(models, key=group_order(results).index)


def test_looks_differ():
    assert len({look.colour for look in CONTESTANT_LOOKS}) == len(CONTESTANT_LOOKS)
    assert len({look.marker for look in CONTESTANT_LOOKS}) == len(CONTESTANT_LOOKS)
