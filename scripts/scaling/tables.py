"""The results in the terminal, as CSV files and in Markdown."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .parts import Claim, Found, Line

TITLES = {
    "clients": "More clients, the same cohort",
    "cohort": "Larger cohorts, the same examples per client",
    "participation": "Some clients against all of them",
    "seeds": "Seeds stacked into one program: whole studies of 20 rounds, compilation included",
    "devices": "Devices of the processor",
}
Column = tuple[str, Callable[[Line], str]]


def _ms(line: Line) -> str:
    ends = f"{1e3 * line.seconds_lowest:.0f}–{1e3 * line.seconds_highest:.0f}"
    return f"{1e3 * line.seconds:.1f} ({ends})"


def _ratio(line: Line) -> str:
    if line.case == line.reference:
        return "1"
    return f"{line.ratio:.3f} ({line.ratio_lowest:.3f}–{line.ratio_highest:.3f})"


_ROUND: Column = ("ms a round", _ms)
_RATE: Column = ("rounds/s", lambda line: f"{line.rounds_per_s:.2f}")
_PEAK: Column = ("peak MiB", lambda line: f"{line.peak_mib:,.0f}")
_RATIO: Column = ("÷ reference", _ratio)
_STEP: Column = ("µs a client-step", lambda line: f"{line.client_step_us:.0f}")
COLUMNS: dict[str, tuple[Column, ...]] = {
    "clients": (
        _ROUND,
        _RATE,
        _RATIO,
        _PEAK,
        ("of it before the case", lambda line: f"{line.loaded_mib:,.0f}"),
        ("clients' state MiB", lambda line: f"{line.state_mib:,.0f}"),
    ),
    "cohort": (_ROUND, _STEP, _RATIO, _PEAK),
    "participation": (_ROUND, _RATE, _RATIO),
    "seeds": (
        ("s a study", lambda line: f"{line.seconds * line.rounds:.1f}"),
        _RATIO,
        _PEAK,
    ),
    "devices": (_ROUND, _RATE, _RATIO),
}


def print_found(console: Console, part: str, found: Found) -> None:
    """A part's table, and what it claims."""
    table = Table(title=TITLES[part], title_justify="left")
    table.add_column("case")
    for heading, _ in COLUMNS[part]:
        table.add_column(heading, justify="right")
    for line in found.lines:
        table.add_row(line.case, *(cell(line) for _, cell in COLUMNS[part]))
    console.print(table)
    for claim in found.claims:
        colour = "green" if claim.met else "red"
        console.print(f"  [{colour}]{_claim(claim)}[/{colour}]", highlight=False)


def markdown(part: str, found: Found) -> str:
    """The same in Markdown."""
    headings = ["case", *(heading for heading, _ in COLUMNS[part])]
    rows = [[line.case, *(cell(line) for _, cell in COLUMNS[part])] for line in found.lines]
    lines = [
        f"## {TITLES[part]}",
        "",
        "| " + " | ".join(headings) + " |",
        "|---" + "|--:" * (len(headings) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        *(f"- {_claim(claim)}" for claim in found.claims),
    ]
    return "\n".join(lines) + "\n"


def write_files(folder: Path, part: str, found: Found) -> None:
    """A part's lines and claims as CSV files."""
    _write(folder / f"{part}.csv", Line._fields, found.lines)
    if found.claims:
        rows = [(*claim, claim.met) for claim in found.claims]
        _write(folder / f"{part}_bounds.csv", (*Claim._fields, "met"), rows)


def _write(path: Path, fields: Sequence[str], rows: Sequence[tuple]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows(
            [f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows
        )


def _claim(claim: Claim) -> str:
    text = f"{claim.what}: {claim.measured:.3g} {claim.unit}".replace(" x", "x")
    if math.isinf(claim.at_most):
        return text
    bound = f"{claim.at_most:g} {claim.unit}".replace(" x", "x")
    return f"{text} (allowed: {bound}; {'met' if claim.met else 'MISSED'})"
