"""What lies in the folder of a grid: how its rows stand, what failed and why, its batches."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from fedjax_kd.results.checkpoints import read_checkpoints, size_of
from fedjax_kd.results.folders import GRID, enumeration, read_json
from fedjax_kd.results.inspect_wording import ago, aligned, counted, last_written, size
from fedjax_kd.results.row_parts import read_parts
from fedjax_kd.results.status import (
    ADDRESS,
    ROW_STATES,
    STATE_COLUMNS,
    Batch,
    count_states,
    read_batches,
    row_states,
)

MOST_BATCHES, MOST_ROWS = 20, 12


def inspect_grid(folder: Path) -> dict[str, Any]:
    """Looks at the folder of a grid.

    Returns:
      `kind, status, title, grid_hash, points, seeds, swept, rows, failures, batches, last_written,
      size_bytes, next`. `rows` counts rows by state; `failures` has one entry for each kind and
      reason, with its rows. The status is `complete` (every row is done or failed), `running`
      (somebody holds a batch) or `pending`.

    Raises:
      ResultsError: `grid.json` or `rows.csv` cannot be read.
    """
    grid = read_json(folder / GRID)
    batches = read_batches(folder)
    states: Any = row_states(folder, batches)
    counts = count_states(states)
    held = any(each.standing.state == "running" for each in batches)
    left = counts["pending"] + counts["running"]
    status = "running" if held else "pending" if left else "complete"
    swept = [name for name in states.columns if name not in (*ADDRESS, *STATE_COLUMNS)]
    return {
        "kind": "grid",
        "folder": str(folder),
        "status": status,
        "title": str(grid.get("title") or ""),
        "grid_hash": str(grid.get("hash") or ""),
        "points": int(states["point"].nunique()),
        "seeds": [int(seed) for seed in states["seed"].unique()],
        "swept": {name: int(states[name].nunique()) for name in swept},
        "rows": counts,
        "failures": _failures(states),
        "batches": [_described(each) for each in batches],
        "last_written": last_written(folder),
        "size_bytes": size_of(folder),
        "next": _next(folder, status, counts),
    }


def grid_lines(found: dict[str, Any], now: datetime) -> list[str]:
    """What was found in the folder of a grid, in lines for a person."""
    counts = found["rows"]
    swept = ", ".join(f"{name} ({values})" for name, values in found["swept"].items())
    total = sum(counts.values())
    lines = [
        f"{found['folder']}: {found['title'] or 'a grid without a title'}",
        f"  grid {found['grid_hash']}: {counted(total, 'row')} = "
        f"{counted(found['points'], 'point')} x {counted(len(found['seeds']), 'seed')}",
        *([f"  swept, with values: {swept}"] if swept else []),
        "  " + ", ".join(f"{counts[state]} {state}" for state in ROW_STATES),
    ]
    if found["last_written"]:
        when = ago(found["last_written"], now)
        lines.append(f"  last written {when}; {size(found['size_bytes'])} on disk")
    if found["failures"]:
        lines += ["", "failed:"]
        for each in found["failures"]:
            rows = enumeration([str(row) for row in each["rows"]], MOST_ROWS)
            lines.append(f"  {each['kind']}, row{'s' * (len(each['rows']) > 1)} {rows}:")
            lines += [f"    {line}" for line in each["reason"].splitlines()]
    batches = sorted(found["batches"], key=lambda each: each["status"] == "complete")
    if batches:
        cells = [_cells(each, now) for each in batches[:MOST_BATCHES]]
        lines += ["", "batches:", *aligned([["", "rows", "status", "", ""], *cells])]
        if len(batches) > MOST_BATCHES:
            rest = Counter(each["status"] for each in batches[MOST_BATCHES:])
            told = ", ".join(f"{count} {status}" for status, count in rest.items())
            lines.append(f"  and {len(batches) - MOST_BATCHES} more: {told}")
    return [*lines, "", *(f"next: {each}" for each in found["next"])]


def _failures(states: Any) -> list[dict[str, Any]]:
    """What failed, one entry for each kind and reason, the one of most rows first."""
    failed = states[states["state"] == "failed"]
    found: dict[tuple[str, str], list[int]] = {}
    for row, kind, reason in zip(failed["row"], failed["kind"], failed["reason"], strict=True):
        found.setdefault((kind, reason), []).append(int(row))
    entries = [
        {"kind": kind, "reason": reason, "rows": rows} for (kind, reason), rows in found.items()
    ]
    return sorted(entries, key=lambda each: -len(each["rows"]))


def _described(batch: Batch) -> dict[str, Any]:
    standing, manifest = batch.standing, batch.manifest
    return {
        "name": batch.path.name,
        "rows": list(batch.rows),
        "failed_rows": [int(row) for row in manifest.get("failed_rows") or []],
        "status": standing.state,
        "reason": standing.reason,
        "signal": standing.signal,
        "last_written": last_written(batch.path),
        "progress": "" if standing.state == "complete" else _progress(batch),
    }


def _progress(batch: Batch) -> str:
    """How far an unfinished batch is, by the part that is under way."""
    done = {part.name: part.last_round for part in read_parts(batch.path)}
    totals: dict[str, int | None] = {}
    for each in read_checkpoints(batch.path):
        if each.state == "sound" and each.step is not None:
            done[each.part] = max(done.get(each.part, 0), each.step)
            totals[each.part] = each.total
    settings = batch.manifest.get("settings") or {}
    contestants = [str(each.get("name")) for each in batch.manifest.get("contestants") or []]
    for name in contestants:
        totals.setdefault(name, settings.get("rounds"))
    under_way = {name: step for name, step in done.items() if step != totals.get(name)}
    finished = len(done) - len(under_way)
    told = [f"{finished} of {len(contestants)} contestants"] if contestants else []
    told += [f"{name} {step} of {totals.get(name) or '?'}" for name, step in under_way.items()]
    return ", ".join(told)


def _cells(each: dict[str, Any], now: datetime) -> list[str]:
    rows = _ranges(sorted([*each["rows"], *each["failed_rows"]]))
    failed = f"{len(each['failed_rows'])} failed" if each["failed_rows"] else ""
    note = "; ".join(text for text in (failed, each["progress"], _first_line(each)) if text)
    return [each["name"], rows, each["status"], ago(each["last_written"], now), note]


def _first_line(each: dict[str, Any]) -> str:
    if each["status"] in ("complete", "running", "killed"):
        return ""
    reason = (each["reason"].splitlines() or [""])[0]
    return f"{each['signal']} {reason}".strip()[:100]


def _ranges(rows: list[int]) -> str:
    """Numbers in a short form, e.g. `0:4 7` for 0 to 3 and 7."""
    pieces: list[list[int]] = []
    for row in rows:
        if pieces and row == pieces[-1][1]:
            pieces[-1][1] = row + 1
        else:
            pieces.append([row, row + 1])
    texts = [str(low) if high == low + 1 else f"{low}:{high}" for low, high in pieces]
    return " ".join(texts[:4]) + (" ..." if len(texts) > 4 else "") if texts else "none"


def _next(folder: Path, status: str, counts: dict[str, int]) -> list[str]:
    """What to type, one line for each choice."""
    told = []
    if status == "running":
        told.append("wait: a process is working on the grid")
    if counts["pending"]:
        told.append(f"fedjax-kd resume {folder}")
    if counts["failed"]:
        told.append(
            f"fedjax-kd sweep {folder / 'grid.yaml'} --out {folder} --retry-failed   (once the "
            "reasons are gone)"
        )
    if counts["done"]:
        told.append(f"fedjax-kd report {folder}")
    return told
