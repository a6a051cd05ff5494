"""Writes a folder of result tables as a DT-KD study leaves it, from a small made-up simulation.

The numbers are invented, but they hang together: the summary is computed from the metrics, the
metrics from the decisions, and the ledger adds up to the decisions' delays and energies.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from report_synthetic_manifest import (
    EPOCHS,
    FASHION,
    FORWARD_FLOPS,
    PARAMETERS,
    POLICIES,
    RAW_BITS,
    STUDENTS,
    Size,
    manifest_of,
)
from scipy import stats

from fedjax_kd.report.results import Results, load_results

__all__ = ["POLICIES", "STUDENTS", "Size", "load_policies", "write_results"]

CEILING = (0.70, 0.75, 0.79, 0.82, 0.84)
DELAY_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def _instance(size: Size, seed: int) -> dict:
    """One seed's users: their data, devices and accuracies with and without distillation."""
    rng = np.random.default_rng(1000 + seed)
    n_users, n_students = size.users, len(size.students)
    shares = rng.dirichlet(np.full(n_users, 0.5), size=len(size.classes)).T
    counts = np.ceil(shares * 120 * n_users / len(size.classes)).astype(int)
    samples = np.maximum(counts.sum(1), 12)
    ceiling = np.array(CEILING[:n_students])
    size_penalty = 0.25 * np.exp(-samples[:, None] / 90) * (1 + 0.2 * np.arange(n_students))
    ease = rng.normal(0, 0.03, (n_users, 1))
    noise = rng.normal(0, 0.008, (3, n_users, n_students))
    with_all = np.clip(ceiling - 0.5 * size_penalty + ease + noise[0], 0.05, 0.99)
    with_synchronised = with_all - 0.01 - np.abs(noise[1])
    without = np.clip(ceiling - 0.05 - 0.9 * size_penalty + ease + noise[2], 0.05, 0.99)
    return {
        "rng": rng,
        "counts": counts,
        "samples": samples,
        "device_flops": rng.uniform(0.5e9, 1e9, n_users) * 4,
        "server_flops": float(rng.uniform(5e9, 10e9) * 4),
        "accuracy": {"none": without, "synchronised": with_synchronised, "all": with_all},
        "work": 3 * np.array(FORWARD_FLOPS[:n_students])[None, :] * samples[:, None] * EPOCHS,
        "rate": rng.uniform(2.0, 9.0, n_users) * 1e6,
    }


def _ledger_of(instance: dict, student: np.ndarray, server: np.ndarray, equal: bool) -> dict:
    """Delay, energy and bits [N] of each cause for one decision."""
    n = len(student)
    work = instance["work"][np.arange(n), student]
    weight = np.where(server, np.sqrt(work) if not equal else 1.0, 0.0)
    share = weight / max(weight.sum(), 1e-9)
    server_share = np.maximum(share * instance["server_flops"], 1e-9)
    samples = instance["samples"]
    up_bits = np.where(server, 0.5 * samples * RAW_BITS, 0)
    student_bits = 32 * np.array(PARAMETERS)[student]
    down_bits = np.where(server, student_bits, samples * len(FASHION) * 32)
    penalty = 1.25 if equal else 1.0
    up_s = up_bits * max(server.sum(), 1) / instance["rate"] / 10 * penalty
    down_s = down_bits * n / instance["rate"] / 40 * penalty
    device_s = np.where(server, 0, work / instance["device_flops"])
    server_s = np.where(server, work / server_share, 0)
    inference_s = 2.8e7 * samples / instance["server_flops"]
    zero = np.zeros(n)
    return {
        "teacher_inference": (inference_s, 8 * inference_s, zero, 2.8e7 * samples),
        "uplink": (up_s, 0.8 * up_s, up_bits, zero),
        "training_device": (device_s, 1.9 * device_s, zero, np.where(server, 0, work)),
        "training_server": (server_s, 8 * server_s * share, zero, np.where(server, work, 0)),
        "downlink": (down_s, 0.25 * down_s, down_bits, zero),
        "_share": server_share * server,
    }


def _over_causes(ledger: dict, column: int) -> np.ndarray:
    return np.sum([value[column] for value in ledger.values()], axis=0)


def _delay_of(
    instance: dict, student: np.ndarray, server: np.ndarray, equal: bool = False
) -> np.ndarray:
    ledger = _ledger_of(instance, student, server, equal)
    del ledger["_share"]
    return _over_causes(ledger, 0)


def _search(instance: dict, weight: float, reference_s: float, equal: bool, sweeps: int):
    """Coordinate ascent on U: a stand-in for a good policy."""
    accuracy = instance["accuracy"]["all"]
    n, m = accuracy.shape
    student, server = np.zeros(n, int), np.zeros(n, bool)

    def utility() -> float:
        delay_s = np.sum(_delay_of(instance, student, server, equal))
        return float(accuracy[np.arange(n), student].mean() - weight * delay_s / reference_s)

    best = utility()
    for _ in range(sweeps):
        for user in range(n):
            for choice in range(2 * m):
                before = student[user], server[user]
                student[user], server[user] = choice % m, choice >= m
                here = utility()
                if here > best:
                    best = here
                else:
                    student[user], server[user] = before
    return student, server


def _decide(policy: str, instance: dict, reference_s: float) -> tuple[np.ndarray, np.ndarray, bool]:
    n, m = instance["accuracy"]["all"].shape
    rng = instance["rng"]
    fixed = {
        "all_device": (np.full(n, min(2, m - 1)), np.zeros(n, bool)),
        "all_server": (np.full(n, min(2, m - 1)), np.ones(n, bool)),
        "random": (rng.integers(0, m, n), rng.random(n) < 0.5),
        "smallest": (np.zeros(n, int), np.zeros(n, bool)),
        "largest": (np.full(n, m - 1), rng.random(n) < 0.6),
        "fedavg_smallest": (np.zeros(n, int), np.zeros(n, bool)),
    }
    if policy in fixed:
        return (*fixed[policy], policy != "fedavg_smallest")
    equal = policy == "q_learning_equal_split"
    sweeps = {"greedy": 1, "exhaustive": 4}.get(policy, 2)
    student, server = _search(instance, 0.5, reference_s, equal, sweeps)
    return student, server, policy != "no_distillation"


def _policy_rows(size: Size, seed: int, instance: dict, reference_s: float):
    """Decision, ledger and metric rows of every policy for one seed."""
    decisions, ledger_rows, metrics = [], [], []
    n = size.users
    users = np.arange(n)
    for policy in size.policies:
        student, server, distilled = _decide(policy, instance, reference_s)
        ledger = _ledger_of(instance, student, server, policy == "q_learning_equal_split")
        share = ledger.pop("_share")
        kind = "all" if distilled else "none"
        planned = instance["accuracy"][kind][users, student]
        if policy == "fedavg_smallest":
            planned = planned - 0.06
        personal = np.clip(planned + instance["rng"].normal(0, 0.012, n), 0, 1)
        common = np.clip(personal - 0.17 + instance["rng"].normal(0, 0.02, n), 0, 1)
        delay_s = _over_causes(ledger, 0)
        energy_j = _over_causes(ledger, 1)
        bits = _over_causes(ledger, 2)
        for user in users:
            decisions.append(
                {
                    "point": 0,
                    "seed": seed,
                    "policy": policy,
                    "user": user,
                    "student": size.students[student[user]],
                    "place": "server" if server[user] else "device",
                    "distilled": distilled,
                    "samples": int(instance["samples"][user]),
                    "synchronised": int(instance["samples"][user] * size.synchronised),
                    "server_flops_per_s": share[user],
                    "uplink_hz": 1e6 * server[user],
                    "downlink_hz": 1e6,
                    "accuracy_table": planned[user],
                    "accuracy_personal": personal[user],
                    "accuracy_common": common[user],
                    "delay_s": delay_s[user],
                    "energy_j": energy_j[user],
                }
            )
            for cause, value in ledger.items():
                ledger_rows.append(
                    {"point": 0, "seed": seed, "policy": policy, "user": user, "cause": cause}
                    | dict(
                        zip(
                            ("delay_s", "energy_j", "bits", "flops"),
                            (float(column[user]) for column in value),
                            strict=True,
                        )
                    )
                )
        values = {}
        for scope, scores in (("personal", personal), ("common", common)):
            values[f"accuracy_{scope}_mean"] = scores.mean()
            values[f"accuracy_{scope}_std"] = scores.std()
            values[f"accuracy_{scope}_worst_decile"] = np.sort(scores)[: max(1, n // 10)].mean()
        penalty = 0.5 * delay_s.sum() / reference_s
        values |= {
            "delay_s": delay_s.sum(),
            "makespan_s": delay_s.max(),
            "energy_j": energy_j.sum(),
            "bits": bits.sum(),
            "utility": personal.mean() - penalty,
            "utility_planned": planned.mean() - penalty,
        }
        metrics += [
            {"point": 0, "seed": seed, "round": 0, "scope": f"policy/{policy}"}
            | {"metric": name, "value": float(value)}
            for name, value in values.items()
        ]
    return decisions, ledger_rows, metrics


def _curve_rows(seed: int, rng: np.random.Generator, planned: float, exhaustive: bool) -> list:
    """The teacher's rounds and the Q-table's episodes."""
    rows = []

    def add(scope: str, at: int, metric: str, value: float) -> None:
        row = {"point": 0, "seed": seed, "round": at, "scope": scope}
        rows.append(row | {"metric": metric, "value": float(value)})

    for at in range(1, 21):
        add("teacher", at, "accuracy_common", 0.86 - 0.5 * np.exp(-at / 4) + rng.normal(0, 0.006))
        add("teacher", at, "loss", 0.3 + 1.6 * np.exp(-at / 4) + rng.normal(0, 0.02))
        add("fedavg", at, "accuracy_common", 0.5 - 0.3 * np.exp(-at / 6) + rng.normal(0, 0.006))
        add("fedavg", at, "loss", 1.2 + 1.0 * np.exp(-at / 6) + rng.normal(0, 0.02))
    best = -np.inf
    for at in np.unique(np.geomspace(1, 20_000, 200).astype(int)):
        progress = np.log(at) / np.log(20_000)
        episode = planned - 0.35 * (1 - progress) + rng.normal(0, 0.06 * (1.1 - progress))
        best = min(max(best, episode), planned)
        add("q_learning", int(at), "episode_utility", min(episode, planned))
        add("q_learning", int(at), "best_utility", best)
        add("q_learning", int(at), "greedy_utility", planned - 0.25 * (1 - progress) ** 2)
    if exhaustive:
        add("exhaustive", 0, "utility", planned + 0.002)
    add("study", 0, "teacher_training_s", 412.0 + seed)
    add("study", 0, "reference_delay_s", 160.0 + seed)
    return rows


def _summary(metrics: pd.DataFrame, policies: tuple[str, ...]) -> pd.DataFrame:
    """Mean and 95 % t interval over the seeds, one row per policy."""
    rows = []
    for policy in policies:
        mine = metrics[metrics["scope"] == f"policy/{policy}"]
        row: dict[str, object] = {"policy": policy}
        for metric, group in mine.groupby("metric", sort=False)["value"]:
            count = len(group)
            half = (
                stats.t.ppf(0.975, count - 1) * group.std(ddof=1) / np.sqrt(count)
                if count > 1
                else float("nan")
            )
            row |= {
                str(metric): group.mean(),
                f"{metric}_low": group.mean() - half,
                f"{metric}_high": group.mean() + half,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def load_policies(folder: Path) -> Results:
    """The results of a DT-KD study, which is what the folder must hold."""
    results = load_results(folder)
    assert isinstance(results, Results)
    return results


def write_results(folder: Path, size: Size | None = None) -> Path:
    """Writes manifest, summary and all tables of a made-up study into `folder`."""
    size = size or Size()
    folder.mkdir(parents=True, exist_ok=True)
    metrics, decisions, ledger, table, frontier, parts, per_seed = [], [], [], [], [], [], []
    for seed in size.seeds:
        instance = _instance(size, seed)
        rng, n = instance["rng"], size.users
        m = len(size.students)
        draws = [(rng.integers(0, m, n), rng.random(n) < 0.5) for _ in range(16)]
        reference_s = float(np.mean([np.sum(_delay_of(instance, *draw)) for draw in draws]))
        rows = _policy_rows(size, seed, instance, reference_s)
        decisions += rows[0]
        ledger += rows[1]
        metrics += rows[2]
        planned = next(row["value"] for row in rows[2] if row["metric"] == "utility_planned")
        metrics += _curve_rows(seed, rng, planned, "exhaustive" in size.policies)
        for policy in ("q_learning", "greedy"):
            for weight in DELAY_WEIGHTS:
                sweeps = 2 if policy == "q_learning" else 1
                equal = policy == "greedy"
                student, server = _search(instance, weight, reference_s, equal, sweeps)
                accuracy = instance["accuracy"]["all"][np.arange(n), student].mean()
                delay_s = float(np.sum(_delay_of(instance, student, server, equal)))
                frontier.append(
                    {
                        "seed": seed,
                        "policy": policy,
                        "delay_weight": weight,
                        "accuracy": float(accuracy),
                        "delay_s": delay_s,
                        "utility": float(accuracy - weight * delay_s / reference_s),
                    }
                )
        for labels, values in instance["accuracy"].items():
            for stage in ("profile", "deployment"):
                for user in range(n):
                    for index, student in enumerate(size.students):
                        accuracy = float(values[user, index])
                        table.append(
                            {"seed": seed, "user": user, "student": student}
                            | {"soft_labels": labels, "stage": stage}
                            | {
                                "accuracy_validation": accuracy,
                                "accuracy_common_validation": accuracy - 0.16,
                                "accuracy_personal": accuracy,
                                "accuracy_common": accuracy - 0.17,
                            }
                        )
        for split, fraction in (("train", 0.6), ("validation", 0.15), ("test", 0.25)):
            for user in range(n):
                for class_id, class_name in enumerate(size.classes):
                    parts.append(
                        {"seed": seed, "user": user, "split": split, "class_id": class_id}
                        | {"class_name": class_name}
                        | {"count": int(instance["counts"][user, class_id] * fraction)}
                    )
        per_seed.append(
            {
                "seed": seed,
                "server_flops_per_s": instance["server_flops"],
                "users": [
                    {"user": user, "device_flops_per_s": float(speed)}
                    for user, speed in enumerate(instance["device_flops"])
                ],
            }
        )
    frame = pd.DataFrame(metrics)
    frame.to_parquet(folder / "metrics.parquet", index=False)
    pd.DataFrame(decisions).to_parquet(folder / "decisions.parquet", index=False)
    pd.DataFrame(ledger).to_parquet(folder / "ledger.parquet", index=False)
    pd.DataFrame(table).to_parquet(folder / "accuracy_table.parquet", index=False)
    pd.DataFrame(frontier).to_parquet(folder / "frontier.parquet", index=False)
    pd.DataFrame(parts).to_parquet(folder / "partition.parquet", index=False)
    _summary(frame, size.policies).to_csv(folder / "summary.csv", index=False)
    (folder / "manifest.json").write_text(json.dumps(manifest_of(size, per_seed), indent=1))
    return folder
