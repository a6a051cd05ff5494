"""The page that compares one study under several conditions, from made-up results."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from compare_conditions import read_plan
from conditions.figures import Condition, ahead, read_condition
from conditions.page import comparison_frame, page_text
from conditions.picture import draw_comparison


@pytest.fixture(scope="module")
def condition(rounds) -> Condition:
    return read_condition(rounds("dfml"), "made_up", "Made up")


def text_of(conditions) -> str:
    return page_text(
        title="T",
        command="run it",
        date="2026-01-01",
        machine="a machine",
        minutes=3.2,
        reading="What it says.",
        conditions=conditions,
        scope="common",
        pictures=["curves.svg"],
    )


def test_figures_are_those_of_the_curves(rounds, condition):
    metrics: Any = pd.read_parquet(rounds("dfml") / "metrics.parquet")
    assert condition.lead is not None
    assert (condition.proposed, condition.lead.view) == ("dfml", "peak")
    own = metrics[(metrics["scope"] == "dfml") & (metrics["metric"] == "accuracy_common")]
    for seed, best, last in zip(
        sorted(own["seed"].unique()),
        condition.lead.accuracy["common", "best"],
        condition.lead.accuracy["common", "last"],
        strict=True,
    ):
        values = own[own["seed"] == seed].sort_values("round")["value"].to_numpy()
        assert (best, last) == (values.max(), values[-1])


def test_leads_are_paired_by_seed(condition):
    other = condition.rows[-1]
    difference = (
        condition.lead.accuracy["common", "last"] - other.accuracy["common", "last"]  # pyright: ignore[reportOptionalMemberAccess]
    )
    mean, half = ahead(condition.lead, other, "common", "last")
    assert mean == pytest.approx(difference.mean())
    assert half == pytest.approx(4.302653 * difference.std(ddof=1) / np.sqrt(3))
    frame = comparison_frame([condition])
    row = frame[(frame["contestant"] == other.contestant) & (frame["view"] == other.view)]
    assert row["proposed_ahead_common_last"].item() == pytest.approx(mean)


def test_a_method_without_figures_is_not_replaced_by_a_baseline(condition):
    lost = condition._replace(
        rows=[row for row in condition.rows if row.contestant != "dfml"],
        diverged=[("dfml", "its loss is not finite")],
    )
    assert lost.lead is None
    frame: Any = comparison_frame([lost])
    assert frame["proposed_ahead_common_best"].isna().all()
    text = text_of([lost])
    assert "dfml has no figures: its loss is not finite" in text
    assert "paired by seed" not in text


def test_the_page_says_where_it_comes_from_and_names_every_row(condition):
    text = text_of([condition])
    for part in ("# T", "Made by `run it`", "2026-01-01, a machine", "What it says.", "3 minutes"):
        assert part in text
    for row in condition.rows:
        assert f"| {row.title}" in text
    assert "is ahead on the common test data, paired by seed, by" in text
    assert "nan" not in text
    assert draw_comparison([condition, condition], "personal").count("<svg") == 1


def test_where_nothing_is_proposed_others_are_held_against_the_reference(rounds):
    family = read_condition(rounds("family"), "made_up", "Made up")
    assert (family.proposed, family.reference) == ("local", True)
    frame: Any = comparison_frame([family]).set_index(["contestant", "view"])
    best = frame["accuracy_personal_best"]
    above = frame.loc[("fedproto", "prototype"), "above_reference_personal_best"]
    assert above == pytest.approx(best.loc[("fedproto", "prototype")] - best.loc[("local", "own")])
    assert above > 0
    summary = pd.read_csv(rounds("family") / "summary.csv").set_index(["contestant", "view"])
    for column in ("bits_to_80", "rounds_to_90"):
        np.testing.assert_allclose(frame[column], summary[column].loc[frame.index])
    text = text_of([family])
    assert "| To 80 % of the best [Mbit] | To 90 % [Mbit] |" in text
    assert "Above Local on the common test data, paired by seed: FedAvg by +" in text
    assert "| never |" in text
    assert "nan" not in text
    assert draw_comparison([family] * 6, "personal").count("<svg") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: x\n", "must hold the keys"),
        ("{settings: a, title: b, scope: all, conditions: []}\n", "scope: found 'all'; allowed"),
        (
            "{settings: a, title: b, scope: common, conditions: [{name: x, titel: y}]}\n",
            "conditions.0: allowed keys",
        ),
    ],
)
def test_a_wrong_conditions_file_is_refused(tmp_path, text, message):
    path = tmp_path / "conditions.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit, match=message):
        read_plan(path)
