"""What lies in the folder of one run, or of a batch of a grid."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fedjax_kd.results.checkpoints import Checkpoint, read_checkpoints, size_of
from fedjax_kd.results.errors import ResultsError
from fedjax_kd.results.folders import read_manifest
from fedjax_kd.results.inspect_wording import ago, aligned, counted, last_written, size
from fedjax_kd.results.row_parts import read_parts
from fedjax_kd.results.status import Standing, run_standing
from fedjax_kd.results.tables import METRICS, read_run, table_names

_FIGURES = ("accuracy_common", "accuracy_personal", "loss")


def inspect_run(folder: Path) -> dict[str, Any]:
    """Looks at the folder of a run.

    Returns:
      `kind, status, reason, signal, stopped_at, title, method, settings_hash, seeds, started,
      last_written, parts, checkpoints, tables, diverged, size_bytes, next`.

    Raises:
      ResultsError: the manifest cannot be read.
    """
    manifest = read_manifest(folder)
    standing = run_standing(folder, manifest)
    checkpoints = read_checkpoints(folder)
    return {
        "kind": str(manifest.get("kind") or "run"),
        "folder": str(folder),
        "status": standing.state,
        "reason": standing.reason,
        "signal": standing.signal,
        "stopped_at": standing.at,
        "title": str(manifest.get("title") or ""),
        "method": str(manifest.get("method") or ""),
        "settings_hash": str(manifest["settings_hash"]),
        "seeds": _seeds(manifest),
        "started": str(manifest.get("started") or ""),
        "last_written": last_written(folder),
        "parts": _parts(folder, manifest, checkpoints),
        "checkpoints": [_described(each) for each in checkpoints],
        "tables": _tables(folder),
        "diverged": manifest.get("diverged") or [],
        "size_bytes": size_of(folder),
        "next": _next(folder, manifest, standing),
    }


def run_lines(found: dict[str, Any], now: datetime) -> list[str]:
    """What was found in the folder of a run, in lines for a person."""
    seeds = counted(len(found["seeds"]), "seed")
    lines = [
        f"{found['folder']}: {found['title'] or 'a study without a title'}",
        f"  {found['method']}, {seeds}, settings {found['settings_hash']}",
        f"  {_status_line(found, now)}",
    ]
    if found["last_written"]:
        lines.append(
            f"  last written {ago(found['last_written'], now)}; {size(found['size_bytes'])} on disk"
        )
    if found["parts"]:
        lines += ["", "parts:", *aligned([_part_cells(each) for each in found["parts"]])]
    if found["diverged"]:
        lines += ["", "diverged:"]
        lines += [f"  {each.get('name')}: {each.get('reason')}" for each in found["diverged"]]
    if found["checkpoints"]:
        cells = [_checkpoint_cells(each, now) for each in found["checkpoints"]]
        lines += ["", "checkpoints:", *aligned(cells)]
    if found["tables"]:
        lines += ["", "tables:"]
        lines += aligned([_table_cells(name, rows) for name, rows in found["tables"].items()])
    return [*lines, "", f"next: {found['next']}"]


def _seeds(manifest: dict[str, Any]) -> list[int]:
    seeds = manifest.get("seeds") or (manifest.get("settings") or {}).get("seeds") or []
    return [int(seed) for seed in seeds]


def _parts(
    folder: Path, manifest: dict[str, Any], checkpoints: list[Checkpoint]
) -> list[dict[str, Any]]:
    """How far each part is: rounds that a resumption goes on from, and rounds with rows."""
    logged = {part.name: part.last_round for part in read_parts(folder)}
    latest = _latest(folder)
    named = [str(each.get("name")) for each in manifest.get("contestants") or []]
    names = dict.fromkeys([*named, *(each.part for each in checkpoints), *logged])
    parts = []
    for name in names:
        sound = [each for each in checkpoints if each.part == name and each.state == "sound"]
        total = next((each.total for each in sound if each.total), _total(manifest, name, named))
        parts.append(
            {
                "part": name,
                "saved": max((each.step or 0 for each in sound), default=0),
                "logged": max(logged.get(name, 0), latest.get(name, {}).get("round", 0)),
                "total": total,
                "latest": latest.get(name),
            }
        )
    return parts


def _total(manifest: dict[str, Any], part: str, contestants: list[str]) -> int | None:
    """Rounds of a part as the settings say it; None where they do not."""
    settings = manifest.get("settings") or {}
    own = settings if part in contestants else settings.get(part)
    rounds = own.get("rounds") if isinstance(own, dict) else None
    return rounds if isinstance(rounds, int) else None


def _latest(folder: Path) -> dict[str, dict[str, Any]]:
    """Of each scope of metrics with an accuracy or a loss, the mean over the rows at its end."""
    try:
        metrics: Any = read_run(folder, METRICS)
    except ResultsError:
        return {}
    found = {}
    shown = metrics[metrics["metric"].isin(_FIGURES)]
    for scope, rows in shown.groupby("scope", observed=True):
        last = rows[rows["round"] == rows["round"].max()]
        means = last.groupby("metric", observed=True)["value"].mean()
        figures = {name: float(means[name]) for name in _FIGURES if name in means.index}
        figures = {name: value for name, value in figures.items() if np.isfinite(value)}
        found[str(scope)] = {"round": int(last["round"].iloc[0]), **figures}
    return found


def _tables(folder: Path) -> dict[str, int | None]:
    """Rows of each table; None of one that cannot be read."""
    found: dict[str, int | None] = {}
    for name in table_names(folder):
        path = folder / f"{name}.parquet"
        try:
            if path.is_file():
                found[name] = pq.read_metadata(path).num_rows
            elif name == METRICS:
                found[name] = len(read_run(folder, name))
            else:
                found[name] = len(pd.read_csv(folder / f"{name}.csv"))
        except (OSError, ValueError, pa.ArrowException):
            found[name] = None
    return found


def _next(folder: Path, manifest: dict[str, Any], standing: Standing) -> str:
    if manifest.get("kind") == "batch":
        grid = folder.parent.parent
        return f"fedjax-kd inspect {grid}   (this is a batch of that grid)"
    if standing.state == "complete":
        return f"fedjax-kd report {folder}"
    if standing.state == "running":
        return "wait: a process is writing into the folder"
    return f"fedjax-kd resume {folder}"


def _described(each: Checkpoint) -> dict[str, Any]:
    return {
        "part": each.part,
        "step": each.step,
        "total": each.total,
        "state": each.state,
        "size_bytes": each.size_bytes,
        "saved_at": each.saved_at,
        "name": each.path.name,
    }


def _status_line(found: dict[str, Any], now: datetime) -> str:
    status, when = found["status"], ago(found["stopped_at"], now)
    if status == "running":
        return "running: a process holds the folder"
    if status == "complete":
        return "complete"
    by = f" by {found['signal']}" if found["signal"] else ""
    reason = f": {found['reason']}" if found["reason"] else ""
    return f"{status}{by}{f' {when}' if when else ''}{reason}"


def _part_cells(part: dict[str, Any]) -> list[str]:
    total = part["total"]
    done = max(part["saved"], part["logged"])
    if not done:
        how_far = f"not begun, {total} to do" if total else "not begun"
    else:
        how_far = f"{done} of {total}" if total else f"{done} done"
    kept = f"saved at {part['saved']}" if part["saved"] else ""
    latest = part["latest"] or {}
    figures = ", ".join(f"{name} {latest[name]:.3f}" for name in _FIGURES if name in latest)
    return [part["part"], how_far, kept, figures]


def _checkpoint_cells(each: dict[str, Any], now: datetime) -> list[str]:
    step = each["name"] if each["step"] is None else f"{each['step']} of {each['total'] or '?'}"
    return [each["part"], step, size(each["size_bytes"]), each["state"], ago(each["saved_at"], now)]


def _table_cells(name: str, rows: int | None) -> list[str]:
    return [name, "cannot be read" if rows is None else counted(rows, "row")]
