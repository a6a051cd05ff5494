"""The results as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from peers.tables import ratio_text
from rich.console import Console
from rich.table import Table

from .contestants import METHODS
from .summary import Line


def print_tables(console: Console, lines: Sequence[Line]) -> None:
    """One table per method."""
    for method, label in METHODS.items():
        rows = [line for line in lines if line.method == method]
        if not rows:
            continue
        title = f"{label}: {rows[0].steps} steps on {rows[0].examples} examples a round"
        table = Table(title=title, title_justify="left")
        table.add_column("contestant", no_wrap=True)
        columns = ("ms a round", "ours ÷ this", "canonical ÷ this", "loss gap", "weights gap")
        for column in (*columns, "test loss", "accuracy"):
            table.add_column(column, justify="right")
        for line in rows:
            table.add_row(
                line.label,
                f"{1e3 * line.round_s.median:.1f}",
                ratio_text(line.ours_ratio),
                ratio_text(line.canonical_ratio),
                f"{line.loss_gap:.1e}",
                f"{line.weights_gap:.1e}",
                f"{line.test_loss:.4f}",
                f"{100 * line.accuracy:.1f} %",
                style="bold" if line.counts else "dim",
            )
        console.print(table)
