import numpy as np
import pytest

from fedjax_kd.study import dt_kd_tables as tables
from fedjax_kd.study.points import Labels

LABELS, N_USERS, CAUSES = Labels.of_seeds((3, 5)), 2, ("uplink", "downlink")


def outcome(**changes):
    per_user = np.array([[1.0, 2.0], [3.0, 4.0]])
    fields = {
        "student": np.array([[0, 1], [1, 1]]),
        "place": np.array([[0, 1], [1, 0]]),
        "distilled": True,
        "accuracy_table": per_user / 10,
        "accuracy_personal": per_user / 10,
        "accuracy_common": per_user / 20,
        "server_flops_per_s": per_user,
        "uplink_hz": per_user,
        "downlink_hz": per_user,
        "delay_s": np.stack([per_user, 10 * per_user], axis=-1),
        "energy_j": np.stack([per_user, per_user], axis=-1),
        "bits": np.stack([per_user, 0 * per_user], axis=-1),
        "flops": np.zeros((2, 2, 2)),
        "utility": np.array([0.1, 0.3]),
        "utility_planned": np.array([0.2, 0.4]),
    }
    return tables.Outcome(**(fields | changes))


def test_metrics_equal_hand_computed_numbers():
    metrics = tables.policy_metrics(outcome())
    np.testing.assert_allclose(metrics["accuracy_personal_mean"], [0.15, 0.35])
    np.testing.assert_allclose(metrics["accuracy_personal_std"], [0.05, 0.05])
    np.testing.assert_allclose(metrics["accuracy_common_worst_decile"], [0.05, 0.15])
    np.testing.assert_allclose(metrics["delay_s"], [33, 77])
    np.testing.assert_allclose(metrics["makespan_s"], [22, 44])
    np.testing.assert_allclose(metrics["energy_j"], [6, 14])
    np.testing.assert_allclose(metrics["bits"], [3, 7])


def test_worst_decile_is_the_mean_of_the_worst_tenth():
    accuracy = np.linspace(0, 1, 20)[::-1]
    assert tables.worst_decile(accuracy) == pytest.approx((0 + 1 / 19) / 2)


def test_decisions_keep_seed_user_and_choice_together():
    samples = np.array([[10, 20], [30, 40]])
    frame = tables.decisions_table({"p": outcome()}, LABELS, ("a", "b"), samples, samples // 2)
    row = frame[(frame.seed == 5) & (frame.user == 0)].iloc[0]
    assert (row.student, row.place, row.samples, row.synchronised) == ("b", "server", 30, 15)
    assert (row.delay_s, row.energy_j) == (33, 6)
    assert row.accuracy_common == pytest.approx(0.15)
    assert len(frame) == 4


def test_ledger_rows_add_up_to_the_decisions():
    ledger = tables.ledger_table({"p": outcome()}, LABELS, CAUSES)
    samples = np.ones((2, 2), int)
    decisions = tables.decisions_table({"p": outcome()}, LABELS, ("a", "b"), samples, samples)
    summed = ledger.groupby(["seed", "user"]).delay_s.sum()
    np.testing.assert_allclose(summed, decisions.set_index(["seed", "user"]).delay_s)
    down = ledger[(ledger.seed == 3) & (ledger.user == 1) & (ledger.cause == "downlink")]
    assert down.delay_s.item() == 20


def test_summary_has_a_row_per_policy_with_intervals():
    summary = tables.summary_table({"p": outcome(), "q": outcome()})
    assert list(summary.policy) == ["p", "q"]
    assert {"utility", "utility_low", "utility_high"} <= set(summary.columns)
    assert summary.utility_low[0] < summary.utility[0] < summary.utility_high[0]
