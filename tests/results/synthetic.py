"""Folders of results as runs and grids leave them, made without running anything."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedjax_kd.study.row_log import RowLog

METRICS = ("accuracy_personal", "accuracy_common", "loss", "bits")


def metric_rows(
    pairs: list[tuple[int, int]], rounds: range, scopes: tuple[str, ...] = ("fedavg",)
) -> pd.DataFrame:
    """Rows of metrics for pairs of a point and a seed; every value says where it belongs."""
    frames = [
        pd.DataFrame(
            {
                "point": np.int64(point),
                "seed": np.int64(seed),
                "round": np.asarray(rounds, np.int64),
                "scope": scope,
                "metric": metric,
                "value": 1000.0 * point + 100 * seed + np.asarray(rounds) + 0.1 * place,
            }
        )
        for point, seed in pairs
        for scope in scopes
        for place, metric in enumerate(METRICS)
    ]
    return pd.concat(frames, ignore_index=True)


def write_manifest(folder: Path, status: str = "complete", **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "format": 1,
        "method": "family",
        "title": "synthetic",
        "settings": {"rounds": 6, "seeds": [0, 1]},
        "settings_hash": "0123456789abcdef",
        "status": status,
        "seeds": [0, 1],
        "contestants": [{"name": "fedavg"}, {"name": "local"}],
        **fields,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def finished_run(folder: Path) -> Path:
    write_manifest(folder)
    metric_rows([(0, 0), (0, 1)], range(1, 7)).to_parquet(folder / "metrics.parquet", index=False)
    ledger = pd.DataFrame({"point": [0, 0], "seed": [0, 1], "user": [0, 0], "bits": [8.0, 16.0]})
    ledger.to_parquet(folder / "ledger.parquet", index=False)
    pd.DataFrame({"contestant": ["fedavg"], "accuracy": [0.5]}).to_csv(
        folder / "summary.csv", index=False
    )
    return folder


def running_run(folder: Path, status: str = "running", **fields: Any) -> Path:
    write_manifest(folder, status, **fields)
    log = RowLog(folder)
    for first, last in ((1, 1), (2, 3), (4, 6)):
        log.append("fedavg", last, metric_rows([(0, 0), (0, 1)], range(first, last + 1)))
    log.append("local", 2, metric_rows([(0, 0), (0, 1)], range(1, 3), ("local",)))
    return folder


def write_batch(grid: Path, rows: list[int], status: str = "complete", rounds: int = 3) -> Path:
    """A batch of rows; two seeds each point."""
    folder = grid / "batches" / f"{rows[0]:06d}-abcd{len(rows)}"
    write_manifest(folder, status, kind="batch", rows=rows, settled=status == "complete")
    pairs = [(row // 2, row % 2) for row in rows]
    metric_rows(pairs, range(1, rounds + 1)).to_parquet(folder / "metrics.parquet", index=False)
    return folder


def make_grid(folder: Path, points: int = 4) -> Path:
    """A grid of learning rates, of which no row has been run."""
    folder.mkdir(parents=True)
    grid = {"format": 1, "kind": "grid", "title": "rates", "hash": "feed", "n_rows": 2 * points}
    grid |= {"seeds": [0, 1], "axes": [{"list": []}]}
    (folder / "grid.json").write_text(json.dumps(grid))
    numbers = np.arange(2 * points)
    pd.DataFrame(
        {
            "row": numbers,
            "point": numbers // 2,
            "seed": numbers % 2,
            "training.learning_rate": 0.1 * (1 + numbers // 2),
            "contestants": [json.dumps(["fedavg"])] * len(numbers),
        }
    ).to_csv(folder / "rows.csv", index=False)
    return folder


def fail(grid: Path, row: int, kind: str = "diverged", reason: str = "the loss is not finite"):
    folder = grid / "failures"
    folder.mkdir(exist_ok=True)
    told = {"row": row, "kind": kind, "reason": reason, "where": "fedavg"}
    (folder / f"{row}.json").write_text(json.dumps(told))
