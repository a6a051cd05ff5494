"""The interval that every table and picture shows."""

from collections.abc import Iterable

import numpy as np
from scipy import stats

LEVEL = 0.95


def mean_interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean of the finite values and the ends of Student's t interval of that mean at 95 %.

    Args:
        values: one number per seed.

    Returns:
        Mean, lower and upper end; the ends are NaN for fewer than two finite values, the mean too
        for none.
    """
    known = np.array([value for value in values if np.isfinite(value)], dtype=float)
    if not known.size:
        return np.nan, np.nan, np.nan
    mean = float(known.mean())
    if known.size < 2:
        return mean, np.nan, np.nan
    quantile = stats.t.ppf(0.5 + LEVEL / 2, known.size - 1)
    half = float(quantile * known.std(ddof=1) / np.sqrt(known.size))
    return mean, mean - half, mean + half
