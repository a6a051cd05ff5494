"""Tables of a study in rounds from made-up courses, with numbers that can be checked by hand."""

from typing import Any

import numpy as np
import pytest

from fedjax_kd.study.points import Labels
from fedjax_kd.study.rounds_summary import summary_table
from fedjax_kd.study.rounds_tables import (
    COSTS,
    Course,
    clients_table,
    ledger_table,
    metrics_table,
    mixing_table,
    special_table,
)

LABELS = Labels.of_seeds((5, 6))


def course(name="dfml", shift=0.0, mixing=None, views=("peak", "regular")):
    """Two seeds, two users, four rounds, of which 2 and 4 were evaluated."""
    base = np.array([[[0.2, 0.4], [0.1, 0.3]], [[0.6, 0.4], [0.2, 0.2]]]) + shift
    per_round = np.arange(1.0, 9.0).reshape(4, 2)
    return Course(
        name=name,
        views=views,
        evaluated=np.array([2, 4]),
        personal={view: base + 0.1 * place for place, view in enumerate(views)},
        common={view: base / 2 for view in views},
        loss=np.array([[3.0, np.nan], [2.0, 2.5], [1.0, 1.0], [0.5, np.nan]]),
        costs={cost: per_round * (place + 1) for place, cost in enumerate(COSTS)},
        phases=("send", "learn"),
        causes=("downlink", "training", "uplink"),
        ledger={
            cost: np.arange(36.0).reshape(2, 3, 2, 3) + 100 * c for c, cost in enumerate(COSTS)
        },
        special={"alpha": np.arange(8.0).reshape(4, 2), "mixing": np.arange(16.0).reshape(4, 2, 2)},
        mixing=mixing,
    )


def test_curves_are_means_over_users_at_evaluated_rounds():
    frame = metrics_table([course()], LABELS)
    assert list(frame) == ["point", "seed", "round", "scope", "metric", "value"]
    rows = frame.set_index(["seed", "scope", "round", "metric"]).value
    assert rows.loc[(5, "dfml", 2, "accuracy_personal")] == pytest.approx(0.3)
    assert rows.loc[(6, "dfml/regular", 4, "accuracy_personal")] == pytest.approx(0.3)
    assert rows.loc[(5, "dfml", 4, "accuracy_personal_worst_decile")] == pytest.approx(0.4)
    assert rows.loc[(5, "dfml/regular", 4, "accuracy_common")] == pytest.approx(0.25)
    losses = frame[frame["metric"] == "loss"]
    assert sorted(zip(losses["seed"], losses["round"], losses["value"], strict=True)) == [
        (5, 2, 2.0),
        (5, 4, 0.5),
        (6, 2, 2.5),
    ]
    assert set(losses["scope"]) == {"dfml"}


def test_costs_accumulate_over_every_round():
    rows = metrics_table([course()], LABELS).set_index(["scope", "metric", "seed"])["value"]
    assert list(rows.loc["dfml", "delay_s", 5]) == [1, 4, 9, 16]
    assert list(rows.loc["dfml", "flops", 6]) == [8, 24, 48, 80]


def test_the_ledger_names_the_server_last():
    frame = ledger_table([course()], LABELS)
    assert len(frame) == 2 * 3 * 2 * 3
    rows = frame.set_index(["seed", "user", "phase", "cause"]).delay_s
    assert rows.loc[(5, 0, "send", "training")] == 1
    assert rows.loc[(5, -1, "learn", "uplink")] == 17
    assert rows.loc[(6, 1, "send", "downlink")] == 24


def test_special_rows_have_the_user_as_index():
    frame = special_table([course()], LABELS).set_index(["name", "seed", "round", "index"]).value
    assert frame.loc[("alpha", 6, 3, 0)] == 5
    assert frame.loc[("mixing", 6, 3, 1)] == 11
    assert len(frame.loc["alpha"]) == 8
    assert special_table([course()._replace(special={})], LABELS).empty


def test_users_at_the_best_round_of_their_seed():
    frame = clients_table([course()], LABELS, ("a", "b"), (True, False))
    rows = frame.set_index(["seed", "view", "user"]).sort_index()
    assert rows.loc[(5, "peak", 0), "accuracy_personal_at_best"] == pytest.approx(0.6)
    # In seed 6 both rounds have the mean 0.2: the first counts.
    assert rows.loc[(6, "peak", 1), "accuracy_personal_at_best"] == pytest.approx(0.3)
    assert rows.loc[(6, "peak", 1), "accuracy_personal_last"] == pytest.approx(0.2)
    assert list(rows.loc[(5, "peak")].model) == ["a", "b"]
    assert list(rows.loc[(5, "peak")].strong) == [True, False]


def test_mixing_vectors_have_a_row_for_each_feature():
    frame = mixing_table(
        [course(), course("pfedafm", mixing=np.arange(12.0).reshape(2, 2, 3))], LABELS
    )
    assert frame is not None
    assert set(frame["contestant"]) == {"pfedafm"}
    assert frame.set_index(["seed", "user", "feature"]).value.loc[(6, 1, 2)] == 11
    assert mixing_table([course()], LABELS) is None


def summary(courses, scope="personal") -> Any:
    return summary_table(courses, "dfml", scope).set_index(["contestant", "view"])


def test_summary_means_and_half_widths():
    row = summary([course()]).loc[("dfml", "peak")]
    assert row.accuracy_personal_best == pytest.approx((0.5 + 0.2) / 2)
    # Two values apart by d: half width = t(0.975, 1 degree) * (d / sqrt 2) / sqrt 2.
    assert row.accuracy_personal_best_half == pytest.approx(12.706204736 * 0.3 / 2)
    assert row.accuracy_personal_std_last == pytest.approx(0.05)
    assert row.delay_s == pytest.approx((16 + 20) / 2)
    one = summary_table([_one_seed(course())], "dfml", "personal")
    assert np.isnan(one.loc[0, "delay_s_half"])


def _one_seed(given):
    def first(tree, axis):
        return {key: np.take(value, [0], axis=axis) for key, value in tree.items()}

    return given._replace(
        personal=first(given.personal, 1),
        common=first(given.common, 1),
        costs=first(given.costs, 1),
        loss=given.loss[:, :1],
    )


def test_rounds_to_ninety_percent_of_the_proposed():
    rows = summary([course(), course("fast", shift=0.4), course("slow", shift=-0.05)])
    # Seed 5 needs 0.45, reached in round 4; seed 6 needs 0.18, reached in round 2.
    assert rows.loc[("dfml", "peak")].rounds_to_90 == 3
    assert rows.loc[("dfml", "peak")].delay_s_to_90 == pytest.approx((16 + 6) / 2)
    assert rows.loc[("fast", "peak")].rounds_to_90 == 2
    assert rows.loc[("fast", "peak")].bits_to_90 == pytest.approx(3 * (4 + 6) / 2)
    assert np.isnan(rows.loc[("slow", "peak")].rounds_to_90)
    assert np.isnan(rows.loc[("slow", "peak")].energy_j_to_90)


def test_without_the_proposed_method_there_is_no_mark():
    frame = summary_table([course("fast")], "dfml", "common")
    assert list(frame["view"]) == ["peak", "regular"]
    assert np.isnan(np.asarray(frame["rounds_to_90"])).all()
