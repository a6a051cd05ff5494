"""Scores, best settings, fronts, effects and costs of made-up grids, against numbers by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from grid_synthetic import SKEWED, GridSize, write_grid
from rounds_synthetic import RoundsSize, long_form, write_rounds
from scipy import stats

from fedjax_kd.report.errors import ReportError
from fedjax_kd.report.grid_clients import client_scores, clients_table
from fedjax_kd.report.grid_courses import curve_against
from fedjax_kd.report.grid_fronts import undominated
from fedjax_kd.report.grid_names import axis_names, setting_text, value_text
from fedjax_kd.report.grid_results import Comparison, read_comparison
from fedjax_kd.report.grid_row_tables import failure_groups, failures_table, ranges
from fedjax_kd.report.grid_table_files import csv_text, latex_text
from fedjax_kd.report.grid_tables import best_table, headline_table
from fedjax_kd.report.grid_targets import Target, cheapest, reached, targets_of
from fedjax_kd.report.grid_values import Findings, findings_of
from fedjax_kd.report.pictures.grid_effects import effects_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grid(tmp_path_factory.mktemp("values") / "grid", GridSize(pending=3))


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Comparison:
    return read_comparison([folder])


@pytest.fixture(scope="module")
def findings(comparison: Comparison) -> Findings:
    return findings_of(comparison)


def of_curves(
    curves: dict[int, dict[int, list[float]]],
    costs: float = 2.0,
    others: dict[tuple[int, int], str] | None = None,
) -> Findings:
    """A grid of one contestant: curves by point and seed, evaluated in rounds 1, 2, ...

    `others` are the states of rows, by point and seed, that have no curve.
    """
    frames, lines = [], []
    for point, seeds in curves.items():
        for seed, values in seeds.items():
            rounds = np.arange(1, len(values) + 1)
            spent = {name: costs * (seed + 1) * rounds for name in ("delay_s", "energy_j", "bits")}
            frames.append(long_form(seed, "a", rounds, {"accuracy_personal": values}, point))
            frames.append(long_form(seed, "a", rounds, spent, point))
            lines.append({"source": "g", "row": len(lines), "point": point, "seed": seed})
    lines = [{**line, "state": "done"} for line in lines]
    for (point, seed), state in (others or {}).items():
        address = {"row": len(lines), "point": point, "seed": seed}
        lines.append({"source": "g", **address, "state": state})
    rows = pd.DataFrame(lines).assign(kind="", reason="", where="")
    points = pd.DataFrame({"rate": pd.Series(list(curves), dtype=object)})
    people = pd.DataFrame({name: [] for name in ("point", "seed", "scope", "user")})
    metrics = pd.concat(frames, ignore_index=True)
    return findings_of(Comparison((), ("rate",), points, rows, metrics, people, {"a": "A"}))


def test_axes_points_and_rows_are_those_of_the_grid(comparison: Comparison):
    assert comparison.axes == ("training.learning_rate", "data.partition")
    assert dict(comparison.points.loc[0]) == {
        "training.learning_rate": 0.01,
        "data.partition": SKEWED,
    }
    assert len(comparison.rows) == 50
    states = {state: comparison.count(state) for state in ("done", "failed", "pending", "running")}
    assert states == {"done": 37, "failed": 10, "pending": 3, "running": 0}
    assert setting_text(comparison, 0, comparison.axes) == (
        "learning rate 0.01, partition dirichlet (alpha 0.1)"
    )
    assert comparison.seeds == [0, 1, 2, 3, 4]


def test_rows_that_are_not_done_count_nowhere(comparison: Comparison, findings: Findings):
    done = comparison.rows[comparison.rows["state"] == "done"]
    assert set(map(tuple, comparison.metrics[["point", "seed"]].to_numpy())) == set(
        map(tuple, done[["point", "seed"]].to_numpy())
    )
    assert set(findings.summary["point"]) == set(done["point"])
    last = findings.summary[findings.summary["point"] == 9]
    assert set(last["seeds"]) == {2}
    assert set(last["planned"]) == {5}


def test_summary_is_the_interquartile_mean_of_the_seeds(folder: Path, findings: Findings):
    tables = [pd.read_parquet(path) for path in sorted(folder.glob("batches/*/metrics.parquet"))]
    metrics: Any = pd.concat(tables)
    mine = metrics[(metrics["scope"] == "fedproto/head") & (metrics["point"] == 6)]
    mine = mine[mine["metric"] == "accuracy_common"]
    best = mine.groupby("seed")["value"].max()
    last = mine[mine["round"] == 30].set_index("seed")["value"]
    rows = findings.summary
    row = rows[(rows["scope"] == "fedproto/head") & (rows["point"] == 6)].iloc[0]
    assert row["common_best"] == pytest.approx(stats.trim_mean(best, 0.25))
    assert row["common_last"] == pytest.approx(stats.trim_mean(last, 0.25))
    spent = metrics[(metrics["scope"] == "fedproto") & (metrics["point"] == 6)]
    spent = spent[(spent["metric"] == "bits") & (spent["round"] == 30)]["value"]
    assert row["bits"] == pytest.approx(stats.trim_mean(spent, 0.25))
    assert row["common_best_low"] <= row["common_best"] <= row["common_best_high"]


def test_best_setting_second_and_lead():
    found = of_curves({0: {0: [0.5], 1: [0.5]}, 1: {0: [0.7], 1: [0.9]}, 2: {0: [0.6], 1: [0.6]}})
    (best,) = found.best
    assert (best.point, best.second, best.settings) == (1, 2, 3)
    assert best.estimate.value == pytest.approx(0.8)
    assert best.lead == pytest.approx(0.2)
    row = best_table(found).full
    assert (row["setting"], row["next_best"]) == (["rate 1"], ["rate 2"])


def test_setting_that_lost_a_seed_is_passed_over():
    found = of_curves({0: {0: [0.5], 1: [0.5]}, 1: {0: [0.9], 1: [np.nan]}})
    (best,) = found.best
    assert (best.point, best.passed_over, best.second) == (0, 1, None)


def test_seed_that_ends_in_nan_or_early_counts_nowhere():
    found = of_curves({0: {0: [0.9, np.nan], 1: [0.4, 0.5], 2: [0.9]}})
    row = found.summary.iloc[0]
    assert (row["seeds"], row["planned"]) == (1, 3)
    assert row["personal_best"] == row["personal_last"] == 0.5
    assert set(found.courses["a", 0]["seed"]) == {1}


def test_cost_to_target_waits_for_every_seed():
    found = of_curves({0: {0: [0.2, 0.6, 0.8], 1: [0.6, 0.7, 0.7]}, 1: {0: [0.6], 1: [0.6]}})
    half = reached(found, "a", 0, Target(0.6, ""))
    assert half is not None
    assert half.costs["round"].value == 1.5
    assert half.costs["delay_s"].value == pytest.approx((2 * 2 + 4 * 1) / 2)
    much = reached(found, "a", 0, Target(0.75, ""))
    assert much is not None
    assert (much.there, much.seeds, much.costs) == (1, 2, {})
    assert cheapest(found, "a", Target(0.6, "")) == 1
    assert cheapest(found, "a", Target(0.75, "")) is None
    names = [target.accuracy for target in targets_of(found, [0.65])]
    assert names == pytest.approx([0.8 * 0.75, 0.9 * 0.75, 0.65])


LOST = {0: {0: [0.5, 0.9], 1: [0.6, 0.9], 2: [0.6, np.nan]}, 1: {s: [0.4, 0.6] for s in range(3)}}


@pytest.mark.parametrize("how", ["contestant diverged", "row failed"])
def test_seed_that_failed_did_not_get_to_the_target(how: str):
    if how == "contestant diverged":
        found = of_curves(LOST)
    else:
        found = of_curves({**LOST, 0: {s: LOST[0][s] for s in (0, 1)}}, others={(0, 2): "failed"})
    lost, whole = (reached(found, "a", point, Target(0.55, "")) for point in (0, 1))
    assert lost is not None
    assert (lost.there, lost.seeds, lost.costs) == (2, 3, {})
    assert whole is not None
    assert (whole.there, whole.seeds, whole.costs["round"].value) == (3, 3, 2.0)
    assert cheapest(found, "a", Target(0.55, "")) == 1  # the lost seed's point has fewer rounds
    assert cheapest(found, "a", Target(0.8, "")) is None
    assert [target.accuracy for target in targets_of(found)] == pytest.approx([0.48, 0.54])


def test_seeds_that_are_still_to_come_do_not_count_for_targets():
    curves = {0: {0: [0.9], 1: [0.9]}, 1: {0: [0.9]}}
    waiting = {(0, 2): "pending", (1, 1): "running", (1, 2): "pending"}
    found = of_curves(curves, others=waiting)
    target = Target(0.5, "")
    ways = [reached(found, "a", point, target) for point in (0, 1)]
    assert [(way.there, way.seeds) for way in ways if way] == [(2, 2), (1, 1)]
    assert cheapest(found, "a", target) == 0
    assert [each.accuracy for each in targets_of(found)] == pytest.approx([0.72, 0.81])


def test_curve_against_a_cost_is_what_a_budget_allows():
    """Seed 0 pays 2 a round and seed 1 pays 4: a budget of 4 buys two rounds, or one."""
    table = of_curves({0: {0: [0.2, 0.6, 0.8], 1: [0.4, 0.7, 0.9]}}).courses["a", 0]
    rounds = curve_against(table, "round")
    assert list(rounds["x"]) == [1, 2, 3]
    assert list(rounds["value"]) == pytest.approx([0.3, 0.65, 0.85])
    costs = curve_against(table, "delay_s")
    assert list(costs["x"]) == [6, 9]  # from where seed 1 has been evaluated
    assert list(costs["value"]) == pytest.approx([(0.8 + 0.4) / 2, (0.8 + 0.7) / 2])
    assert curve_against(table, "flops").empty


def test_front():
    costs = np.array([1.0, 2.0, 2.0, 3.0, 3.0, 4.0, np.nan, 0.5])
    scores = np.array([0.5, 0.7, 0.6, 0.7, 0.8, 0.8, 1.0, np.nan])
    expected = [True, True, False, False, True, False, False, False]
    assert list(undominated(costs, scores)) == expected
    assert list(undominated(np.array([1.0, 1.0]), np.array([0.5, 0.5]))) == [True, True]


def test_effect_pools_the_other_settings(findings: Findings):
    places = {"0.1": 0.1, "0.01": 0.01}
    low, high = effects_of(findings, "training.learning_rate", "fedavg", places)
    assert (low.place, high.place) == (0.01, 0.1)
    points = [0, 1]  # a learning rate of 0.01 with either partition
    scores = [findings.seed_scores("fedavg", point, "personal_best") for point in points]
    assert low.pooled.value == pytest.approx(stats.trim_mean(np.concatenate(scores), 0.25))
    assert low.best.value == pytest.approx(max(stats.trim_mean(each, 0.25) for each in scores))
    assert low.pooled.value < high.pooled.value


def test_users_are_those_of_the_best_setting(folder: Path, findings: Findings):
    best = findings.best_of("feddf")
    assert best is not None
    people = pd.concat([pd.read_parquet(p) for p in folder.glob("batches/*/clients.parquet")])
    mine: Any = people[(people["contestant"] == "feddf") & (people["point"] == best.point)]
    found = client_scores(findings)["feddf"]
    assert sorted(found["accuracy"]) == sorted(mine["accuracy_personal_last"])
    full = clients_table(findings).full
    place = full["scope"].index("feddf")
    by_seed = mine.groupby("seed")["accuracy_personal_last"]
    assert full["worst_decile"][place] == pytest.approx(by_seed.min().mean())
    assert full["std"][place] == pytest.approx(by_seed.std(ddof=0).mean())


def test_failures_are_grouped_where_there_are_many(comparison: Comparison, tmp_path: Path):
    (group,) = failure_groups(comparison)
    assert (group.kind, ranges(group.rows)) == ("diverged", "10–19")
    table = failures_table(comparison)
    assert len(table.rows) == 10
    assert table.rows[3][-1].text == "the loss of FedAvg (seed 3) is not finite after round 1"
    many = write_grid(tmp_path / "many", GridSize(seeds=tuple(range(8)), contestants=1, rounds=3))
    grouped = failures_table(read_comparison([many]))
    assert [entry.text for entry in grouped.rows[0][:1]] == ["16–31"]
    assert len(grouped.full["row"]) == 16


def test_several_folders_are_points_of_one_axis_more(folder: Path, tmp_path: Path):
    size = RoundsSize(method="family", users=4, rounds=6, every=2)
    run = write_rounds(tmp_path / "run", size)
    together = read_comparison([folder, run])
    assert together.axes == ("run", "training.learning_rate", "data.partition")
    assert len(together.points) == 11
    assert together.points["run"][10] == "run"
    assert together.points["data.partition"][10] == {"kind": "dirichlet", "alpha": 0.1}
    found = findings_of(together)
    mine = found.summary[(found.summary["point"] == 10) & (found.summary["scope"] == "feddf")]
    alone = findings_of(read_comparison([run])).summary
    assert list(mine["personal_last"]) == list(alone[alone["scope"] == "feddf"]["personal_last"])


BASES = {
    "one": {"rate": 0.1, "data": {"users": 4, "partition": {"kind": "dirichlet", "alpha": 0.5}}},
    "two": {"rate": 0.2, "data": {"users": 9, "partition": None}, "layers": [{"size": 8}]},
}


def bare_grid(folder: Path, lines: str) -> Path:
    """A grid of the two studies above whose rows are all pending."""
    folder.mkdir()
    studies = [{"name": name, "settings": settings} for name, settings in BASES.items()]
    (folder / "grid.json").write_text(json.dumps({"format": 1, "kind": "grid", "studies": studies}))
    (folder / "rows.csv").write_text(lines)
    return folder


def test_points_have_the_settings_of_their_own_study(tmp_path: Path):
    """An axis of one folder only is read, in the other, from the study that the point is of."""
    first = bare_grid(tmp_path / "a", "row,point,seed,study\n0,0,0,one\n1,1,0,two\n")
    rows = "row,point,seed,rate,data.users\n0,0,0,0.3,4\n1,1,0,0.4,5\n"
    second = bare_grid(tmp_path / "b", rows)
    points = read_comparison([first, second]).points
    assert list(points["study"]) == ["one", "two", "–", "–"]
    assert list(points["rate"]) == [0.1, 0.2, 0.3, 0.4]
    assert list(points["data.users"]) == [4, 9, 4, 5]


def test_steps_that_set_a_section_or_a_part_of_it(tmp_path: Path):
    rows = """row,point,seed,study,data.partition,data.partition.alpha,data.users,layers.0.size
0,0,0,one,"{""kind"": ""iid""}",,,
1,1,0,one,,7,,
2,2,0,one,null,,6,
3,3,0,two,,,,16
4,4,0,two,,,,
"""
    comparison = read_comparison([bare_grid(tmp_path / "g", rows)])
    points = comparison.points
    skewed = [{"kind": "dirichlet", "alpha": alpha} for alpha in (0.5, 7)]
    assert list(points["data.partition"]) == [{"kind": "iid"}, skewed[1], None, None, None]
    assert list(points["data.partition.alpha"]) == ["–", 7, "–", "–", "–"]
    assert list(points["data.users"]) == [4, 4, 6, 9, 9]
    assert list(points["layers.0.size"]) == ["–", "–", "–", 16, 8]
    assert BASES["one"]["data"]["partition"] == skewed[0]
    assert setting_text(comparison, 0, comparison.axes[1:3]) == "partition iid, alpha –"


def test_folders_of_one_name_are_told_apart(tmp_path: Path):
    size = RoundsSize(method="family", users=4, rounds=2, every=2, contestants=1)
    folders = [write_rounds(tmp_path / part / "run", size) for part in ("a", "b")]
    assert list(read_comparison(folders).points["run"]) == ["a/run", "b/run"]


def test_policies_have_one_score(tmp_path: Path):
    size = GridSize(method="dt_kd", axes={"objective.delay_weight": [0.0, 1.0]}, seeds=(0, 1, 2))
    found = findings_of(read_comparison([write_grid(tmp_path / "grid", size)]))
    assert found.only_policies
    assert set(found.scopes) == {
        f"policy/{n}" for n in ("q_learning", "all_device", "all_server", "random")
    }
    row = found.summary.iloc[0]
    assert row["personal_best"] == row["personal_last"]
    assert "Personal, best [%]" not in headline_table(found).head
    assert found.best_of("policy/q_learning") is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: [f, f], "named twice"),
        (lambda f: [f / "batches"], "holds no results"),
        (lambda f: [f / "nowhere"], "there is no such folder"),
        (lambda f: [next((f / "batches").iterdir())], "one batch of a grid"),
    ],
)
def test_folders_that_cannot_be_compared(folder: Path, change, message):
    with pytest.raises(ReportError, match=message):
        read_comparison(change(folder))


def test_tables_as_files(findings: Findings, tmp_path: Path):
    table = headline_table(findings)
    (tmp_path / "t.csv").write_text(csv_text(table))
    back = pd.read_csv(tmp_path / "t.csv")
    assert len(back) == len(findings.summary)
    assert back["personal_best"].max() == findings.summary["personal_best"].max()
    assert back["personal_best"].is_monotonic_decreasing
    text = latex_text(table)
    assert text.count(r"\\") == 1 + len(back)
    assert text.startswith(r"\begin{tabular}{lrlr")
    assert r"[\%]" in text
    assert text.count(r"\textbf{") >= 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (True, "yes"),
        (None, "none"),
        (["fedavg"], "fedavg"),
        ([], "none"),
        ({"kind": "by_class", "classes": 2}, "by class (classes 2)"),
        ("x" * 60, "x" * 47 + "…"),
    ],
)
def test_values_in_words(value, text):
    assert value_text(value) == text


def test_axes_in_words():
    names = axis_names(["a.rate", "b.rate", "data.users"])
    assert list(names.values()) == ["a rate", "b rate", "users"]
    assert ranges([5, 1, 2, 3, 9]) == "1–3, 5, 9"
