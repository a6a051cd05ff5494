"""Sizes, times and tables in the words of `inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

_LOCK_FILE = ".lock"


def last_written(folder: Path) -> str:
    """When a file of a folder was last written, in ISO format; empty without files."""
    times = []
    for path in folder.rglob("*"):
        try:
            if path.is_file() and path.name != _LOCK_FILE:
                times.append(path.stat().st_mtime)
        except OSError:  # it has gone in the meantime
            continue
    if not times:
        return ""
    return datetime.fromtimestamp(max(times), UTC).isoformat(timespec="seconds")


def size(n_bytes: int) -> str:
    """A size, e.g. `1.2 MB`."""
    value, units = float(n_bytes), ("B", "kB", "MB", "GB")
    for unit in units:
        if value < 1000 or unit == units[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def ago(at: str, now: datetime) -> str:
    """How long something is past, e.g. `3 minutes ago`; empty where nobody knows."""
    try:
        seconds = max((now - datetime.fromisoformat(at)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return ""
    for unit, length_s in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count = int(seconds // length_s)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def counted(count: int, name: str) -> str:
    """A number of things, e.g. `1 seed`, `3 seeds`."""
    return f"{count:,} {name}" + ("" if count == 1 else "es" if name.endswith("ch") else "s")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, its columns aligned to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
