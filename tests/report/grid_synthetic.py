"""Writes the folder of a grid as a sweep leaves it, from made-up learning curves."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rounds_synthetic import COSTS, long_form
from rounds_synthetic_methods import METHODS, Made

POLICIES = ("q_learning", "all_device", "all_server", "random")
IID = {"kind": "iid"}
SKEWED = {"kind": "dirichlet", "alpha": 0.1}


@dataclass(frozen=True)
class GridSize:
    """How big the made-up grid is, and what befell its rows."""

    axes: dict[str, list[Any]] = field(
        default_factory=lambda: {
            "training.learning_rate": [0.01, 1e9, 0.03, 0.1, 0.3],
            "data.partition": [SKEWED, IID],
        }
    )
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    method: str = "family"
    contestants: int = 4
    users: int = 8
    rounds: int = 30
    every: int = 3
    pending: int = 0  # rows at the end that nobody has taken up
    title: str = "A made-up grid"

    @property
    def points(self) -> list[dict[str, Any]]:
        return [
            dict(zip(self.axes, values, strict=True))
            for values in itertools.product(*self.axes.values())
        ]

    @property
    def made(self) -> tuple[Made, ...]:
        return METHODS[self.method][: self.contestants]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _lift(settings: dict[str, Any]) -> float:
    """By how much the settings raise the final accuracy: best at a learning rate of 0.1."""
    rate = settings.get("training.learning_rate", 0.1)
    rate = 0.1 if rate > 100 else rate
    return -0.09 * np.log10(rate / 0.1) ** 2 + 0.05 * (settings.get("data.partition") == IID)


def _rounds_row(size: GridSize, point: int, seed: int) -> tuple[list, list]:
    """Metrics and clients of one row."""
    settings, metrics, clients = size.points[point], [], []
    rounds = np.arange(1, size.rounds + 1)
    evaluated = np.arange(size.every, size.rounds + 1, size.every)
    for made in size.made:
        rng = np.random.default_rng([point, seed, sum(made.name.encode())])
        ease = np.random.default_rng([seed, 5]).normal(0, 0.06, size.users)
        for index, (view, common, personal) in enumerate(made.views):
            scope = made.name if index == 0 else f"{made.name}/{view}"
            values, users = {}, {}
            for name, final in (("personal", personal), ("common", common)):
                final = final + _lift(settings) + rng.normal(0, 0.01)
                curve = final - (final - 0.1) * np.exp(-evaluated / made.speed)
                curve = curve[:, None] + ease + rng.normal(0, 0.005, (len(evaluated), 1))
                curve = np.clip(curve, 0, 1)
                values[f"accuracy_{name}"] = curve.mean(1)
                if name == "personal":
                    values["accuracy_personal_worst_decile"] = curve.min(1)
                users[f"accuracy_{name}_last"] = curve[-1]
                users[f"accuracy_{name}_at_best"] = curve[curve.mean(1).argmax()]
            metrics.append(long_form(seed, scope, evaluated, values, point))
            named = {"point": point, "seed": seed, "contestant": made.name, "view": view}
            people = {"user": np.arange(size.users), "model": "cnn", "strong": False}
            clients.append(pd.DataFrame({**named, **people, **users}))
        work = sum(phase[1] for phase in made.phases) * rng.uniform(0.95, 1.05)
        sent = sum(phase[2] for phase in made.phases)
        each = (3.0 * work + 0.5 * sent, 2.0 * work + 0.2 * sent, 2e6 * sent, 4e9 * work)
        spent = {name: cost * rounds for name, cost in zip(COSTS, each, strict=True)}
        metrics.append(long_form(seed, made.name, rounds, spent, point))
    return metrics, clients


def _dt_kd_row(size: GridSize, point: int, seed: int) -> tuple[list, list]:
    settings, metrics, decisions = size.points[point], [], []
    for place, policy in enumerate(POLICIES[: size.contestants]):
        rng = np.random.default_rng([point, seed, place])
        personal = np.clip(
            0.8 - 0.03 * place + _lift(settings) + rng.normal(0, 0.02, size.users), 0, 1
        )
        weight = settings.get("objective.delay_weight", 0.1)
        delay = (40 + 25 * place) / (1 + 3 * weight) * rng.uniform(0.9, 1.1)
        values = {
            "accuracy_personal_mean": personal.mean(),
            "accuracy_personal_std": personal.std(),
            "accuracy_personal_worst_decile": personal.min(),
            "accuracy_common_mean": personal.mean() - 0.2,
            "delay_s": delay,
            "energy_j": 7 * delay,
            "bits": 1e7 * (1 + place),
            "utility": personal.mean() - weight,
        }
        one = {name: np.array([value]) for name, value in values.items()}
        metrics.append(long_form(seed, f"policy/{policy}", np.zeros(1, int), one, point))
        named = {"point": point, "seed": seed, "policy": policy, "user": np.arange(size.users)}
        accuracies = {"accuracy_personal": personal, "accuracy_common": personal - 0.2}
        decisions.append(pd.DataFrame({**named, "student": "s", "place": "device", **accuracies}))
    trace = {"utility": np.linspace(0, 1, 5)}
    metrics.append(long_form(seed, "q_learning", np.arange(5), trace, point))
    return metrics, decisions


def _manifest(size: GridSize, rows: list[int]) -> dict[str, Any]:
    return {
        "format": 1,
        "kind": "batch",
        "method": size.method,
        "rows": rows,
        "status": "complete",
        "settled": True,
        "settings": {"method": size.method, "data": {"source": "digits", "users": size.users}},
        "settings_hash": "0123",
        "contestants": [
            {"name": m.name, "title": m.title, "views": [view for view, _, _ in m.views]}
            for m in (() if size.method == "dt_kd" else size.made)
        ],
    }


def write_grid(folder: Path, size: GridSize | None = None) -> Path:
    """Writes rows, batches of two points each, and the failures of every diverged point."""
    size = size or GridSize()
    folder.mkdir(parents=True)
    addresses = list(itertools.product(range(len(size.points)), size.seeds))
    count = len(addresses)
    base = {"method": size.method, "data": {"source": "digits", "users": size.users}}
    grid = {"format": 1, "kind": "grid", "title": size.title, "hash": "ab12", "n_rows": count}
    grid |= {"seeds": list(size.seeds), "studies": [{"name": "family", "settings": base}]}
    grid["axes"] = [
        {"paths": [path], "steps": [{path: value} for value in values]}
        for path, values in size.axes.items()
    ]
    (folder / "grid.json").write_text(json.dumps(grid))
    lines = [
        {"row": row, "point": point, "seed": seed}
        | {path: _text(value) for path, value in size.points[point].items()}
        for row, (point, seed) in enumerate(addresses)
    ]
    pd.DataFrame(lines).to_csv(folder / "rows.csv", index=False)
    failed = [
        row
        for row, (point, _) in enumerate(addresses)
        if size.points[point].get("training.learning_rate", 0) > 100
    ]
    for row in failed:
        reason = f"the loss of FedAvg (seed {addresses[row][1]}) is not finite after round 1"
        told = {"row": row, "kind": "diverged", "reason": reason, "where": "fedavg"}
        (folder / "failures").mkdir(exist_ok=True)
        (folder / "failures" / f"{row}.json").write_text(json.dumps(told))
    make = _dt_kd_row if size.method == "dt_kd" else _rounds_row
    side = "decisions" if size.method == "dt_kd" else "clients"
    width = 2 * len(size.seeds)
    for first in range(0, count - size.pending, width):
        rows = list(range(first, min(first + width, count - size.pending)))
        batch = folder / "batches" / f"{first:06d}-0a1b"
        batch.mkdir(parents=True)
        (batch / "manifest.json").write_text(json.dumps(_manifest(size, rows)))
        made = [make(size, *addresses[row]) for row in rows]
        metrics = pd.concat([frame for frames, _ in made for frame in frames])
        spoilt = metrics["point"].isin([addresses[row][0] for row in failed])
        metrics.loc[spoilt, "value"] = np.nan
        metrics.to_parquet(batch / "metrics.parquet", index=False)
        people = pd.concat([frame for _, frames in made for frame in frames])
        people.to_parquet(batch / f"{side}.parquet", index=False)
    return folder
