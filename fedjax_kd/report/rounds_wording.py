"""How differences, titles and lists are written in the sentences of a rounds study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def signed(gap: tuple[float, float, float]) -> str:
    """A difference in points with its sign and half its interval, e.g. `+3.2 ± 1.1`."""
    mean, low, high = (100 * value for value in gap)
    half = f" ± {(high - low) / 2:.1f}" if np.isfinite(low) else ""
    return f"{round(mean, 1) + 0.0:+.1f}{half}".replace("-", "−")


def quoted(title: str) -> str:
    """A title as it stands in a list; one with a comma in it takes quotation marks."""
    return f"“{title}”" if "," in title else title


def listed(parts: Sequence[str]) -> str:
    """Parts as a list in a sentence, e.g. `a, b and c`."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
