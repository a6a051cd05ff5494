"""Numbers as people read them: one unit for a whole column, and digits that mean something."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fedjax_kd.report.names import Kind

# (least middle value that this unit is for, divisor, unit), largest first
_UNITS: dict[Kind, tuple[tuple[float, float, str], ...]] = {
    "seconds": ((2e5, 3600.0, "h"), (0.1, 1.0, "s"), (0.0, 1e-3, "ms")),
    "joules": ((1e7, 1e6, "MJ"), (1e4, 1e3, "kJ"), (0.1, 1.0, "J"), (0.0, 1e-3, "mJ")),
    "bits": ((1e14, 1e12, "Tbit"), (1e10, 1e9, "Gbit"), (1e5, 1e6, "Mbit"), (0.0, 1e3, "kbit")),
    "flops": (
        (1e17, 1e15, "PFLOP"),
        (1e14, 1e12, "TFLOP"),
        (1e11, 1e9, "GFLOP"),
        (0.0, 1e6, "MFLOP"),
    ),
    "fraction": ((0.0, 0.01, "%"),),
    "utility": ((0.0, 1.0, ""),),
    "rounds": ((0.0, 1.0, ""),),
}


class Scale(NamedTuple):
    """How the numbers of one column are written: `value / divisor` with `decimals` and a unit."""

    divisor: float
    unit: str
    decimals: int

    def text(self, value: float) -> str:
        """The number without its unit; `–` where there is none."""
        if not np.isfinite(value):
            return "–"
        written = f"{value / self.divisor:,.{self.decimals}f}"
        if float(written.replace(",", "")) == 0:
            written = written.lstrip("-")
        return written.replace("-", "−")

    def with_unit(self, value: float) -> str:
        """The number and its unit."""
        if not np.isfinite(value):
            return "–"
        return f"{self.text(value)} {self.unit}".rstrip()


def scale_for(kind: Kind, values: Iterable[float]) -> Scale:
    """Chooses unit and decimals for numbers of one kind, so that they can be compared by eye.

    Args:
        kind: what the numbers measure, in SI units (accuracy and shares as fractions).
        values: the numbers; those that are not finite do not count.

    Returns:
        The scale: three digits for the middle number; one decimal for per cent, three for U.
    """
    sizes = np.abs(np.array([value for value in values if np.isfinite(value)], dtype=float))
    middle = float(np.median(sizes)) if sizes.size else 0.0
    divisor, unit = next(each[1:] for each in _UNITS[kind] if middle >= each[0])
    if kind == "fraction":
        return Scale(divisor, unit, 1)
    if kind == "utility":
        return Scale(divisor, unit, 3)
    shown = middle / divisor
    decimals = 2 - int(np.floor(np.log10(shown))) if shown > 0 else 0
    return Scale(divisor, unit, int(np.clip(decimals, 0, 3)))


def count_text(value: float) -> str:
    """A large count in short, e.g. `62.3 k`, `1.2 M`."""
    for least, divisor, suffix in ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k")):
        if abs(value) >= least:
            return f"{value / divisor:,.3g}{suffix}"
    return f"{value:,.0f}"


def duration_text(seconds: float) -> str:
    """Wall-clock time, e.g. `8 min 12 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
