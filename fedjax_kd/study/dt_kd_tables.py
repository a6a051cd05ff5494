"""The tables of a DT-KD study: host arrays in, data frames out. Nothing here runs on a device."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from fedjax_kd.statistics import mean_interval
from fedjax_kd.study.points import Labels

PLACES = ("device", "server")


class Outcome(NamedTuple):
    """What one policy decided, what it cost and what came of it, over S seeds and N users.

    Attributes:
        student: int [S, N].
        place: int [S, N], 0 the device, 1 the server.
        distilled: whether the students learnt from the teacher.
        accuracy_table: float [S, N], the accuracy that the policy expected.
        accuracy_personal: float [S, N], on the user's own test split.
        accuracy_common: float [S, N], on the common test set.
        server_flops_per_s: float [S, N], share of the server's compute.
        uplink_hz: float [S, N].
        downlink_hz: float [S, N].
        delay_s: float [S, N, causes].
        energy_j: float [S, N, causes].
        bits: float [S, N, causes].
        flops: float [S, N, causes].
        utility: float [S], from the accuracies reported.
        utility_planned: float [S], from the accuracies expected.
    """

    student: np.ndarray
    place: np.ndarray
    distilled: bool
    accuracy_table: np.ndarray
    accuracy_personal: np.ndarray
    accuracy_common: np.ndarray
    server_flops_per_s: np.ndarray
    uplink_hz: np.ndarray
    downlink_hz: np.ndarray
    delay_s: np.ndarray
    energy_j: np.ndarray
    bits: np.ndarray
    flops: np.ndarray
    utility: np.ndarray
    utility_planned: np.ndarray


def _grid(labels: Labels, n_users: int) -> dict[str, np.ndarray]:
    users = np.tile(np.arange(n_users, dtype=np.int64), len(labels.seed))
    return {**labels.columns(n_users), "user": users}


def decisions_table(
    outcomes: Mapping[str, Outcome],
    labels: Labels,
    students: Sequence[str],
    samples: np.ndarray,
    synchronised: np.ndarray,
) -> pd.DataFrame:
    """One row per policy, seed and user: what was chosen, the shares given, the accuracy reached.

    Args:
        outcomes: by policy.
        labels: of S points.
        students: labels of the M architectures.
        samples: int [S, N], training examples.
        synchronised: int [S, N], of these at the twin.

    Returns:
        The frame of decisions.parquet.
    """
    names = np.asarray(students, object)
    frames = []
    for policy, outcome in outcomes.items():
        columns = {
            **_grid(labels, samples.shape[1]),
            "policy": policy,
            "student": names[outcome.student.ravel()],
            "place": np.asarray(PLACES, object)[outcome.place.ravel()],
            "distilled": outcome.distilled,
            "samples": samples.ravel(),
            "synchronised": synchronised.ravel(),
        }
        for name in ("server_flops_per_s", "uplink_hz", "downlink_hz"):
            columns[name] = getattr(outcome, name).ravel().astype(np.float64)
        for name in ("accuracy_table", "accuracy_personal", "accuracy_common"):
            columns[name] = getattr(outcome, name).ravel().astype(np.float64)
        columns["delay_s"] = outcome.delay_s.sum(axis=-1).ravel()
        columns["energy_j"] = outcome.energy_j.sum(axis=-1).ravel()
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def ledger_table(
    outcomes: Mapping[str, Outcome], labels: Labels, causes: Sequence[str]
) -> pd.DataFrame:
    """One row per policy, seed, user and cause: seconds, joules, bits and FLOPs."""
    frames = []
    for policy, outcome in outcomes.items():
        n_users = outcome.student.shape[1]
        grid = {k: np.repeat(v, len(causes)) for k, v in _grid(labels, n_users).items()}
        frames.append(
            pd.DataFrame(
                {
                    **grid,
                    "policy": policy,
                    "cause": np.tile(np.asarray(causes, object), len(labels.seed) * n_users),
                    "delay_s": outcome.delay_s.ravel(),
                    "energy_j": outcome.energy_j.ravel(),
                    "bits": outcome.bits.ravel(),
                    "flops": outcome.flops.ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def metric_rows(
    labels: Labels, scope: str, metric: str, values: np.ndarray, rounds: np.ndarray
) -> pd.DataFrame:
    """Rows of metrics.parquet from `values` [S, R] at the given round numbers [R]."""
    values = np.asarray(values, np.float64).reshape(len(labels.seed), -1)
    return pd.DataFrame(
        {
            **labels.columns(values.shape[1]),
            "round": np.tile(np.asarray(rounds, np.int64), len(labels.seed)),
            "scope": scope,
            "metric": metric,
            "value": values.ravel(),
        }
    )


def worst_decile(accuracy: np.ndarray) -> np.ndarray:
    """Mean over the worst tenth of the users (at least one), along the last axis."""
    worst = max(1, int(np.ceil(accuracy.shape[-1] / 10)))
    return np.sort(accuracy, axis=-1)[..., :worst].mean(axis=-1)


def policy_metrics(outcome: Outcome) -> dict[str, np.ndarray]:
    """The figures that policies are compared by, each [S]."""
    metrics = {}
    for name in ("personal", "common"):
        accuracy = getattr(outcome, f"accuracy_{name}").astype(np.float64)
        metrics[f"accuracy_{name}_mean"] = accuracy.mean(axis=1)
        metrics[f"accuracy_{name}_std"] = accuracy.std(axis=1)
        metrics[f"accuracy_{name}_worst_decile"] = worst_decile(accuracy)
    per_user_s = outcome.delay_s.sum(axis=-1)
    metrics["delay_s"] = per_user_s.sum(axis=1)
    metrics["makespan_s"] = per_user_s.max(axis=1)
    metrics["energy_j"] = outcome.energy_j.sum(axis=(1, 2))
    metrics["bits"] = outcome.bits.sum(axis=(1, 2))
    metrics["utility"] = outcome.utility
    metrics["utility_planned"] = outcome.utility_planned
    return metrics


def policy_metric_rows(outcomes: Mapping[str, Outcome], labels: Labels) -> pd.DataFrame:
    """Rows of metrics.parquet for every policy."""
    return pd.concat(
        [
            metric_rows(labels, f"policy/{policy}", metric, values[:, None], np.zeros(1))
            for policy, outcome in outcomes.items()
            for metric, values in policy_metrics(outcome).items()
        ],
        ignore_index=True,
    )


def summary_table(outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    """One row per policy: mean over the seeds of every figure, with its 95 % t interval.

    With a single seed there is no spread to estimate and the interval's ends are NaN.
    """
    rows = []
    for policy, outcome in outcomes.items():
        row: dict[str, object] = {"policy": policy}
        for metric, values in policy_metrics(outcome).items():
            mean, low, high = mean_interval(values)
            row |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def accuracy_frame(
    labels: Labels,
    student: str,
    soft_labels: str,
    stage: str,
    scores: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """Rows of accuracy_table.parquet for one architecture; `scores` are float [S, N]."""
    n_users = next(iter(scores.values())).shape[1]
    return pd.DataFrame(
        {
            **_grid(labels, n_users),
            "student": student,
            "soft_labels": soft_labels,
            "stage": stage,
            **{name: np.asarray(values, np.float64).ravel() for name, values in scores.items()},
        }
    )
