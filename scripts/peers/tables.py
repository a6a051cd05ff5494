"""The results as rows of a CSV file and as tables in the terminal."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from .contestants import METHODS, MODELS, OURS
from .summary import Line, Spread


def write_rows(path: Path, rows: Sequence[NamedTuple]) -> None:
    """Writes named tuples as a CSV file; a spread becomes three columns."""
    flat = [_flat(row) for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(flat[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)


def _flat(row: NamedTuple) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    hints = type(row).__annotations__
    for name, value in row._asdict().items():
        if "Spread" in str(hints[name]):
            for part in Spread._fields:
                cells[f"{name}_{part}"] = "" if value is None else f"{getattr(value, part):.6g}"
        else:
            cells[name] = f"{value:.6g}" if isinstance(value, float) else value
    return cells


def print_tables(console: Console, lines: Sequence[Line]) -> None:
    """One table per model and method."""
    for model, model_label in MODELS.items():
        for method, method_label in METHODS.items():
            rows = [line for line in lines if (line.model, line.method) == (model, method)]
            if not rows:
                continue
            table = Table(title=f"{model_label}, {method_label}", title_justify="left")
            table.add_column("contestant", no_wrap=True)
            for column in ("ms a round", "examples/s", "ours ÷ this", "canonical ÷ this"):
                table.add_column(column, justify="right")
            table.add_column("parameters", justify="right")
            table.add_column("accuracy", justify="right")
            for line in rows:
                apart = " (beside Flower)" if line.contestant == OURS and line.sitting > 1 else ""
                table.add_row(
                    line.label + apart,
                    f"{1e3 * line.round_s.median:.1f}",
                    f"{line.examples_per_s.median:,.0f}",
                    ratio_text(line.ours_ratio),
                    ratio_text(line.canonical_ratio),
                    f"{line.parameters:,}",
                    f"{100 * line.accuracy:.1f} %",
                    style="bold" if line.counts else "dim",
                )
            console.print(table)


def ratio_text(ratio: Spread | None) -> str:
    """Median and range, as `2.31 (2.10–2.45)`."""
    if ratio is None:
        return ""
    return f"{ratio.median:.2f} ({ratio.lowest:.2f}–{ratio.highest:.2f})"
