"""The interquartile mean over seeds and its stratified bootstrap interval.

Reference: Agarwal, Schwarzer, Castro, Courville and Bellemare 2021, "Deep Reinforcement Learning at
the Edge of the Statistical Precipice", sections 4.1 and 4.3, arXiv:2108.13264.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
LEAST_SEEDS = 3  # below, nothing can be said about chance
RESAMPLES = 2000
_BLOCK = 4_000_000  # numbers that are resampled at once


class Estimate(NamedTuple):
    """An interquartile mean, the ends of its interval (NaN where there is none), and its seeds."""

    value: float
    low: float
    high: float
    seeds: int


NOTHING = Estimate(np.nan, np.nan, np.nan, 0)


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    r"""The mean of the middle half of the scores, along the last axis.

    .. math:: \mathrm{IQM}(x) = \frac{1}{n - 2k} \sum_{i=k+1}^{n-k} x_{(i)},
        \qquad k = \lfloor n / 4 \rfloor

    with :math:`x_{(1)} \le \dots \le x_{(n)}`. Of fewer than four scores it is their mean.

    Args:
        scores: [..., n] without NaN, in any order, n ≥ 1.

    Returns:
        [...].
    """
    count = scores.shape[-1]
    cut = count // 4
    if cut == 0:
        return scores.mean(axis=-1)
    return np.sort(scores, axis=-1)[..., cut : count - cut].mean(axis=-1)


def stratified_interval(
    strata: Sequence[np.ndarray], resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    r"""The interquartile mean over everything, with a stratified bootstrap interval.

    Each of B resamples draws, within every stratum by itself, as many scores with replacement as
    the stratum has; the interval is from the 2.5th to the 97.5th percentile of the B interquartile
    means of all strata together. So how many scores a stratum gives is never left to chance.

    Args:
        strata: one array [S_k] of scores per stratum (one per seed); NaN counts as not there, and a
            stratum without a number as none.
        resamples: B.
        seed: of the draws; equal arguments give equal ends.

    Returns:
        The estimate; its ends are NaN where any stratum has fewer than three scores. `seeds` is the
        number of scores of the smallest stratum.
    """
    known = [values[np.isfinite(values)] for values in (np.asarray(s, float) for s in strata)]
    known = [values for values in known if values.size]
    if not known:
        return NOTHING
    least = min(values.size for values in known)
    value = float(interquartile_mean(np.concatenate(known)))
    if least < LEAST_SEEDS:
        return Estimate(value, np.nan, np.nan, least)
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = [values[rng.integers(values.size, size=(resamples, values.size))] for values in known]
    low, high = _ends(interquartile_mean(np.concatenate(drawn, axis=1)))
    return Estimate(value, float(low), float(high), least)


def seed_intervals(
    scores: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Many interquartile means of one stratum each, all resampled by the same draws of seeds.

    Args:
        scores: [M, S] without NaN: M quantities (say, the rounds of a curve) of S seeds.
        resamples: as for `stratified_interval`.
        seed: of the draws.

    Returns:
        Value, lower and upper end, each [M]; the ends are NaN for fewer than three seeds.
    """
    many, seeds = scores.shape
    value = interquartile_mean(scores) if seeds else np.full(many, np.nan)
    if seeds < LEAST_SEEDS:
        nothing = np.full(many, np.nan)
        return value, nothing, nothing
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = rng.integers(seeds, size=(resamples, seeds))
    size = max(1, _BLOCK // drawn.size)
    ends = [
        _ends(interquartile_mean(scores[start : start + size][:, drawn]))
        for start in range(0, many, size)
    ]
    low, high = np.concatenate(ends, axis=1) if ends else np.empty((2, 0))
    return value, low, high


def estimates(groups: Iterable[Sequence[float] | np.ndarray]) -> list[Estimate]:
    """One estimate for each group of seeds' scores; groups of one size are resampled together.

    Args:
        groups: of scores, one number per seed; NaN counts as not there.
    """
    known = [np.asarray(group, float) for group in groups]
    known = [group[np.isfinite(group)] for group in known]
    found = [NOTHING] * len(known)
    for size in sorted({group.size for group in known} - {0}):
        places = [place for place, group in enumerate(known) if group.size == size]
        ends = seed_intervals(np.stack([known[place] for place in places]))
        for place, value, low, high in zip(places, *ends, strict=True):
            found[place] = Estimate(float(value), float(low), float(high), size)
    return found


def _ends(means: np.ndarray) -> np.ndarray:
    """The ends [2, ...] of the middle 95 % along the last axis."""
    return np.quantile(means, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=-1)
