"""Writes a folder of result tables as a study in rounds leaves it, from made-up learning curves.

The numbers are invented, but they hang together: the summary is computed from the curves and costs,
the clients' accuracies average to the curves, and the ledger adds up to the costs' last round.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rounds_synthetic_methods import METHODS, MODELS, Made
from scipy import stats

__all__ = ["METHODS", "RoundsSize", "write_rounds"]

COSTS = ("delay_s", "energy_j", "bits", "flops")
SCOPES = ("personal", "common")
REFERENCE = ("family", "local")


@dataclass(frozen=True)
class RoundsSize:
    """How big the made-up study is."""

    method: str = "on_device_kd"
    seeds: tuple[int, ...] = (0, 1, 2)
    users: int = 20
    rounds: int = 60
    every: int = 2
    contestants: int = 9
    features: int = 60
    classes: int = 10
    title: str = "A made-up study"
    diverged: tuple[str, ...] = ()

    @property
    def made(self) -> tuple[Made, ...]:
        chosen = METHODS[self.method][: self.contestants]
        return tuple(each for each in chosen if each.name not in self.diverged)

    @property
    def strong(self) -> int:
        return max(self.users // 5, 1) if self.method == "on_device_kd" else 0


def _models_of(size: RoundsSize) -> list[str]:
    if size.method == "on_device_kd":
        return ["lenet-x2" if user < size.strong else "lenet-x0.5" for user in range(size.users)]
    return [MODELS[user % len(MODELS)][0] for user in range(size.users)]


def _alpha(rounds: np.ndarray) -> np.ndarray:
    starts = np.cumsum([0, *(10 + 2 * cycle for cycle in range(60))])
    cycle = np.searchsorted(starts, rounds - 1, side="right") - 1
    return 0.5 * (1 - np.cos(2 * np.pi * (rounds - 1 - starts[cycle]) / (10 + 2 * cycle)))


def _accuracies(size: RoundsSize, made: Made, seed: int, ease: np.ndarray) -> dict:
    """Accuracy [E, N] of every view and scope at the evaluated rounds."""
    rounds = np.arange(size.every, size.rounds + 1, size.every)
    rng = np.random.default_rng([seed, sum(made.name.encode())])
    values = {}
    for view, common, personal in made.views:
        for scope, final in (("common", common), ("personal", personal)):
            curve = final - (final - 0.1) * np.exp(-rounds / made.speed)
            if view == "regular" and made.name == "dfml":
                curve = curve - 0.12 * (1 - _alpha(rounds))
            noise = rng.normal(0, 0.006, (len(rounds), 1)) + rng.normal(0, 0.004)
            users = ease * (1.0 if scope == "personal" else 0.25)
            if size.method == "on_device_kd" and scope == "common":
                users = users * 0  # everybody has the same model
            values[view, scope] = np.clip(curve[:, None] + noise + users, 0, 1)
    return values


def _ledger(size: RoundsSize, made: Made, seed: int) -> pd.DataFrame:
    """Rows by user, phase and cause: sums over the rounds."""
    rng = np.random.default_rng([seed, 7])
    slow = rng.uniform(0.5, 1.5, size.users)
    rows = []
    for phase, work, bits in made.phases:
        for user in range(size.users):
            if phase == "target" and user >= size.strong:
                continue
            flops = 2e8 * work * size.rounds
            moved = 1.5e6 * bits * size.rounds
            named = {"point": 0, "seed": seed, "contestant": made.name, "user": user}
            for cause, delay_s, energy_j, sent, done in (
                ("downlink", moved / 4e7, 0.02 * moved / 4e7, moved, 0.0),
                ("training", slow[user] * flops / 4e9, 0.9 * flops / 4e9, 0.0, flops),
                ("uplink", moved / 1e7, 0.6 * moved / 1e7, moved, 0.0),
            ):
                costs = dict(zip(COSTS, (delay_s, energy_j, sent, done), strict=True))
                rows.append({**named, "phase": phase, "cause": cause, **costs})
    flops = 2e9 * made.server * size.rounds
    server = {"point": 0, "seed": seed, "contestant": made.name, "user": -1}
    for phase, _, _ in made.phases:
        costs = dict(zip(COSTS, (flops / 3e10, flops / 4e9, 0.0, flops), strict=True))
        rows.append({**server, "phase": phase, "cause": "training", **costs})
    return pd.DataFrame(rows)


def _costs(size: RoundsSize, made: Made, seed: int, ledger: pd.DataFrame) -> pd.DataFrame:
    """Cumulative costs after every round, growing evenly."""
    rounds = np.arange(1, size.rounds + 1)
    sums = ledger[list(COSTS)].sum()
    sums["delay_s"] = np.bincount(ledger["user"] + 1, ledger["delay_s"]).max()
    frame = {name: sums[name] * rounds / size.rounds for name in COSTS}
    return pd.DataFrame(
        {"point": 0, "seed": seed, "contestant": made.name, "round": rounds, **frame}
    )


def long_form(seed: int, scope: str, rounds: np.ndarray, metrics: dict, point: int = 0):
    """Rows of metrics.parquet: each metric's values [R] at the rounds [R]."""
    return pd.DataFrame(
        {
            "point": point,
            "seed": seed,
            "round": np.tile(rounds, len(metrics)),
            "scope": scope,
            "metric": np.repeat(list(metrics), len(rounds)),
            "value": np.concatenate(list(metrics.values())),
        }
    )


def _special(size: RoundsSize, made: Made, seed: int) -> pd.DataFrame:
    rounds = np.arange(1, size.rounds + 1)
    named = {"point": 0, "seed": seed, "contestant": made.name}
    if made.name in ("on_device_kd", "kd_only"):
        ramp = 0.5 * np.exp(-5 * (1 - np.minimum(rounds / (0.8 * size.rounds), 1)) ** 2)
        weight = ramp if made.name == "on_device_kd" else np.full(len(rounds), 1.0)
        named |= {"round": rounds, "name": "distillation_weight", "index": 0, "value": weight}
        return pd.DataFrame(named)
    if made.name.startswith("dfml"):
        alpha = _alpha(rounds) if made.name == "dfml" else np.full(len(rounds), 0.5)
        return pd.DataFrame(named | {"round": rounds, "name": "alpha", "index": 0, "value": alpha})
    if made.name.startswith("pfedafm"):
        user = np.tile(np.arange(size.users), len(rounds))
        at = np.repeat(rounds, size.users)
        value = 1 - (0.1 + 0.05 * (user % 5)) * (1 - np.exp(-at / 25))
        value = np.where((at + user) % 4 == 0, 0.0, value)  # away in every fourth round
        return pd.DataFrame(
            named | {"round": at, "name": "mixing_mean", "index": user, "value": value}
        )
    return pd.DataFrame()


def _mixing(size: RoundsSize, made: Made, seed: int) -> pd.DataFrame:
    if not made.name.startswith("pfedafm"):
        return pd.DataFrame()
    rng = np.random.default_rng([seed, 3])
    shared = rng.beta(0.8, 4, size.features)
    depth = 0.3 + 0.15 * (np.arange(size.users) % 5)
    own = rng.beta(1, 6, (size.users, size.features))
    if made.name.endswith("released_code"):
        depth, own = np.full(size.users, 0.9), own[:1]
    values = 1 - depth[:, None] * np.clip(0.6 * shared + own, 0, 1)
    user, feature = np.meshgrid(np.arange(size.users), np.arange(size.features), indexing="ij")
    named = {"point": 0, "seed": seed, "contestant": made.name}
    return pd.DataFrame(
        named | {"user": user.ravel(), "feature": feature.ravel(), "value": values.ravel()}
    )


def _interval(values: np.ndarray) -> tuple[float, float]:
    if np.isnan(values).any():
        return np.nan, np.nan
    count = len(values)
    half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5 if count > 1 else np.nan
    return float(values.mean()), float(half)


def _summary(size: RoundsSize, scores: dict, costs: pd.DataFrame) -> pd.DataFrame:
    scope = "personal" if size.method in ("pfedafm", "family") else "common"
    evaluated = np.arange(size.every, size.rounds + 1, size.every)
    family = size.method == "family"
    setting = METHODS[size.method] if family else METHODS[size.method][:1]
    best = {
        seed: max(
            scores[seed, each.name][each.views[0][0], scope].mean(1).max()
            for each in setting
            if (seed, each.name) in scores
        )
        for seed in size.seeds
        if any((seed, each.name) in scores for each in setting)
    }
    rows = []
    for made in size.made:
        spent = {
            seed: costs[(costs["contestant"] == made.name) & (costs["seed"] == seed)].set_index(
                "round"
            )
            for seed in size.seeds
        }
        for view, _, _ in made.views:
            numbers: dict[str, list[float]] = {}
            for seed in size.seeds:
                for name in SCOPES:
                    values = scores[seed, made.name][view, name]
                    last = np.sort(values[-1])
                    figures = {
                        "best": values.mean(1).max(),
                        "last": last.mean(),
                        "std_last": last.std(),
                        "worst_decile_last": last[: max(1, len(last) // 10)].mean(),
                    }
                    for key in (
                        "best",
                        "last",
                        *(("std_last", "worst_decile_last")[: 2 * (name == "personal")]),
                    ):
                        numbers.setdefault(f"accuracy_{name}_{key}", []).append(figures[key])
                for cost in COSTS:
                    numbers.setdefault(cost, []).append(spent[seed][cost].iloc[-1])
                for share in (80, 90) if family else (90,):
                    mark = share / 100 * best.get(seed, 3.0)
                    reached = scores[seed, made.name][view, scope].mean(1) >= mark
                    at = int(evaluated[reached.argmax()]) if reached.any() else 0
                    numbers.setdefault(f"rounds_to_{share}", []).append(at or np.nan)
                    for cost in COSTS[:3]:
                        value = spent[seed][cost].loc[at] if at else np.nan
                        numbers.setdefault(f"{cost}_to_{share}", []).append(value)
            row: dict[str, object] = {"contestant": made.name, "view": view}
            for key, values in numbers.items():
                row[key], row[f"{key}_half"] = _interval(np.array(values, float))
            rows.append(row)
    return pd.DataFrame(rows)


def _partition(size: RoundsSize) -> pd.DataFrame:
    rows = []
    for seed in size.seeds:
        rng = np.random.default_rng([seed, 11])
        shares = rng.dirichlet(np.full(size.users, 0.3), size.classes).T
        for split, examples in (("train", 400), ("unlabelled", 300), ("test", 100)):
            for user in range(size.users if split != "unlabelled" else size.strong):
                for label in range(size.classes):
                    count = int(examples * size.users / size.classes * shares[user, label])
                    rows.append((seed, user, split, label, f"class {label}", count))
    columns = ["seed", "user", "split", "class_id", "class_name", "count"]
    return pd.DataFrame(rows, columns=columns)


def _manifest(size: RoundsSize) -> dict:
    listed = METHODS[size.method][: size.contestants]
    models = [("lenet-x2", 9e5, "target"), ("lenet-x0.5", 6e4, "auxiliary")]
    if size.method != "on_device_kd":
        shared = "shared" if size.method == "pfedafm" else "meme"
        models = [*((name, work, "user") for name, work in MODELS), ("cnn5", 5.3e5, shared)]
    return {
        "format": 1,
        "method": size.method,
        "title": size.title,
        "settings": {
            "method": size.method,
            "data": {
                "source": "fashion_mnist",
                "users": size.users,
                "partition": {"kind": "dirichlet", "alpha": 0.1},
            },
            "rounds": size.rounds,
            "evaluation": {"every": size.every},
            "peak_floor": 0.9,
            "contestants": [each.name for each in listed],
        },
        "settings_hash": "0f1e2d3c4b5a6978",
        "status": "complete",
        "versions": {"fedjax_kd": "0.1.0", "jax": "0.10.2"},
        "machine": {"platform": "Linux", "cpu_count": 2},
        "execution": {"form": "loop"},
        "started": "2026-01-12T09:30:00+00:00",
        "elapsed_s": {"data": 3.1, "contestants": 612.4},
        "seeds": list(size.seeds),
        "contestants": [
            {
                "name": each.name,
                "title": each.title,
                "views": [view for view, _, _ in each.views],
                "phases": [phase for phase, _, _ in each.phases],
                "peer": each.peer,
                **({"role": "reference"} if (size.method, each.name) == REFERENCE else {}),
            }
            for each in listed
        ],
        "models": [
            {
                "label": name,
                "role": role,
                "parameters": int(work),
                "training_flops": 12 * work,
                "bits": 32 * int(work),
            }
            for name, work, role in models
        ],
        "users": [
            {"user": user, "model": model, "strong": user < size.strong}
            for user, model in enumerate(_models_of(size))
        ],
        "diverged": [
            {"name": name, "reason": "the loss of seed 1 is not finite after round 3"}
            for name in size.diverged
        ],
    }


def write_rounds(folder: Path, size: RoundsSize | None = None) -> Path:
    """Writes manifest, summary and all tables of a made-up study in rounds into `folder`."""
    size = size or RoundsSize()
    folder.mkdir(parents=True, exist_ok=True)
    metrics_rows, costs, clients, ledger, special, mixing, scores = [], [], [], [], [], [], {}
    evaluated = np.arange(size.every, size.rounds + 1, size.every)
    labels = _models_of(size)
    for seed in size.seeds:
        ease = np.random.default_rng([seed, 5]).normal(0, 0.05, size.users)
        ease -= ease.mean()
        for made in size.made:
            values = _accuracies(size, made, seed, ease)
            scores[seed, made.name] = values
            for view, _, _ in made.views:
                named = {"point": 0, "seed": seed, "contestant": made.name, "view": view}
                metrics = {f"accuracy_{scope}": values[view, scope].mean(1) for scope in SCOPES}
                metrics["accuracy_personal_worst_decile"] = values[view, "personal"].min(1)
                if view == made.views[0][0]:
                    metrics["loss"] = 2 * np.exp(-evaluated / 20)
                main = view == made.views[0][0]
                metrics_rows.append(
                    long_form(
                        seed, made.name if main else f"{made.name}/{view}", evaluated, metrics
                    )
                )
                people = {"user": np.arange(size.users), "model": labels}
                people["strong"] = np.arange(size.users) < size.strong
                for scope in SCOPES:
                    each = values[view, scope]
                    people[f"accuracy_{scope}_last"] = each[-1]
                    people[f"accuracy_{scope}_at_best"] = each[each.mean(1).argmax()]
                clients.append(pd.DataFrame({**named, **people}))
            ledger.append(_ledger(size, made, seed))
            costs.append(_costs(size, made, seed, ledger[-1]))
            spent = {name: costs[-1][name].to_numpy() for name in COSTS}
            metrics_rows.append(long_form(seed, made.name, np.arange(1, size.rounds + 1), spent))
            special.append(_special(size, made, seed))
            mixing.append(_mixing(size, made, seed))
    tables = {"metrics": metrics_rows, "clients": clients, "ledger": ledger}
    tables |= {"special": special, "mixing": mixing}
    frames = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    for name, frame in frames.items():
        if len(frame):
            frame.to_parquet(folder / f"{name}.parquet", index=False)
    _partition(size).to_parquet(folder / "partition.parquet", index=False)
    _summary(size, scores, pd.concat(costs, ignore_index=True)).to_csv(
        folder / "summary.csv", index=False
    )
    (folder / "manifest.json").write_text(json.dumps(_manifest(size), indent=1), encoding="utf-8")
    return folder
