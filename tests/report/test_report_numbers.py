"""Digits, units, intervals, the policy table in its formats, and the headline's words."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_synthetic import load_policies
from scipy import stats

from fedjax_kd.report import policy_table_csv, policy_table_latex, policy_table_markdown
from fedjax_kd.report.headline import headline
from fedjax_kd.report.names import METRICS, policy_order
from fedjax_kd.report.numbers import count_text, duration_text, scale_for
from fedjax_kd.report.pictures.comparison import _core
from fedjax_kd.report.pictures.costs import costs_by_cause
from fedjax_kd.report.policy_table import policy_table
from fedjax_kd.statistics import mean_interval


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("fraction", [0.71834, 0.5], "71.8 %"),
        ("utility", [-0.0001], "0.000"),
        ("utility", [-2.2561], "−2.256"),
        ("seconds", [13.547, 12.0], "13.5 s"),
        ("seconds", [0.00375], "3.75 ms"),
        ("seconds", [3_600_000.0], "1,000 h"),
        ("joules", [45_210.0], "45.2 kJ"),
        ("joules", [0.00619], "6.19 mJ"),
        ("bits", [36_291_000.0], "36.3 Mbit"),
        ("bits", [3.3e11], "330 Gbit"),
        ("seconds", [float("nan")], "–"),
    ],
)
def test_numbers_have_a_unit_and_three_digits(kind, values, expected):
    assert scale_for(kind, values).with_unit(values[0]) == expected


def test_one_far_value_does_not_choose_the_unit_of_a_column():
    assert scale_for("seconds", [13.5, 14.0, 900_000.0]).unit == "s"


@pytest.mark.parametrize("count", [2, 3, 12, 31])
def test_interval_is_students(count):
    values = np.random.default_rng(count).normal(3, 2, count)
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(expected, rel=1e-3)


def test_interval_of_one_value_and_of_none():
    assert mean_interval([4.0])[0] == 4.0
    assert np.isnan(mean_interval([4.0])[1:]).all()
    assert np.isnan(mean_interval([float("nan")])).all()


def test_counts_and_durations():
    assert [count_text(each) for each in (25, 25_450, 1.2e6)] == ["25", "25.4 k", "1.2 M"]
    assert duration_text(3.14) == "3.1 s"
    assert duration_text(119.7) == "2 min 0 s"
    assert duration_text(7_500) == "2 h 5 min"


def test_proposed_policy_leads_and_others_follow_by_utility(study: Path):
    results = load_policies(study)
    order = policy_order(results)
    assert order[0] == "q_learning"
    others = results.summary["utility"].loc[order[1:]].to_numpy()
    assert (np.diff(others) <= 0).all()


def test_table_marks_the_best_of_each_column(study: Path):
    results = load_policies(study)
    table = policy_table(results)
    assert [column.metric.key for column in table.columns] == [m.key for m in METRICS]
    for index, column in enumerate(table.columns):
        values = results.summary[column.metric.key]
        best = values.max() if column.metric.better == "high" else values.min()
        marked = {row.policy for row in table.rows if row.cells[index].best}
        assert marked == set(values.index[values == best])


def test_markdown_table_says_the_summary(study: Path):
    lines = policy_table_markdown(study).splitlines()
    assert len(lines) == 2 + 11
    assert {line.count("|") for line in lines} == {len(METRICS) + 2}
    summary = pd.read_csv(study / "summary.csv").set_index("policy").loc["all_device"]
    row = next(line for line in lines if "All on devices" in line)
    mean = 100 * summary["accuracy_personal_mean"]
    half = 100 * (summary["accuracy_personal_mean_high"] - summary["accuracy_personal_mean"])
    assert f"{mean:.1f} ± {half:.1f}" in row
    assert "**Q-learning (proposed)**" in lines[2]


def test_csv_table_keeps_every_digit(study: Path):
    rows = list(csv.DictReader(io.StringIO(policy_table_csv(study))))
    summary = pd.read_csv(study / "summary.csv").set_index("policy")
    assert len(rows) == len(summary)
    for row in rows:
        for metric in METRICS:
            for end in ("", "_low", "_high"):
                name = f"{metric.key}{end}"
                assert float(row[name]) == summary[name].loc[row["policy"]]


def test_latex_table_escapes_and_is_regular(study: Path):
    text = policy_table_latex(study)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 12
    assert {line.count(" & ") for line in body} == {len(METRICS)}
    assert r"Personal accuracy [\%]" in text
    assert "−" not in text
    assert r"\textbf" in text


def test_headline_tells_better_from_worse(small: Path, copy_of):
    folder = copy_of(small)
    summary = pd.DataFrame(
        {
            "policy": ["q_learning", "all_device", "all_server"],
            "accuracy_personal_mean": [0.80, 0.75, 0.80],
            "delay_s": [10.0, 20.0, 4.0],
            "energy_j": [5.0, 5.0, 10.0],
            "utility": [0.70, 0.60, 0.72],
        }
    )
    summary.to_csv(folder / "summary.csv", index=False)
    found = headline(load_policies(folder))
    assert found is not None
    verdicts = {
        figure.title: [(change.text, change.verdict) for change in figure.changes]
        for figure in found.figures
    }
    assert verdicts == {
        "Personal accuracy": [("5.0 points higher", "better"), ("the same", "same")],
        "Total delay": [("50 % less", "better"), ("2.5 times as much", "worse")],
        "Energy": [("the same", "same"), ("50 % less", "better")],
        "U": [("0.100 higher", "better"), ("0.020 lower", "worse")],
    }
    assert "reaches a personal accuracy of 80.0 %, a total delay of 10.0 s" in found.sentences[0]
    assert found.sentences[-1] == "The highest U is that of all at server, by 0.0200."


def test_headline_needs_the_proposed_policy(small: Path, copy_of):
    folder = copy_of(small)
    (folder / "summary.csv").write_text("policy,utility\nall_device,0.5\n")
    assert headline(load_policies(folder)) is None


def test_costs_add_up_to_the_policys_totals(study: Path):
    results = load_policies(study)
    for column in ("delay_s", "energy_j", "bits"):
        totals = costs_by_cause(results, column).sum(axis=1)
        expected = results.summary[column].loc[totals.index]
        np.testing.assert_allclose(totals.to_numpy(), expected.to_numpy(), rtol=1e-9)


def test_axis_leaves_out_only_what_would_squeeze_the_rest():
    assert _core(np.array([0.70, 0.72, 0.65, 0.60])).all()
    assert _core(np.array([0.70, 0.72, 0.65, -2.2])).tolist() == [True, True, True, False]
    assert _core(np.array([0.70, 0.70, 0.70, -2.2])).all()
    assert _core(np.array([0.70, 0.72, 0.65, -2.2, -2.0])).tolist() == [True] * 3 + [False] * 2
