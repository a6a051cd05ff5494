"""Interquartile means against SciPy and by hand; bootstrap intervals against all resamples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from fedjax_kd.report.grid_statistics import (
    Estimate,
    estimates,
    interquartile_mean,
    seed_intervals,
    stratified_interval,
)


def test_by_hand():
    assert interquartile_mean(np.array([9.0, 1.0, 3.0, 100.0])) == 6.0  # of 3 and 9
    assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 3.0  # too few to cut any
    assert interquartile_mean(np.array([7.0, 5.0, 0.0, 6.0, 99.0])) == 6.0  # of 5, 6 and 7
    assert interquartile_mean(np.arange(8.0)[::-1]) == 3.5


@pytest.mark.parametrize("count", range(1, 26))
def test_as_scipy_trims(count):
    scores = np.random.default_rng(count).normal(size=(3, count))
    expected = stats.trim_mean(scores, 0.25, axis=-1)
    np.testing.assert_allclose(interquartile_mean(scores), expected, rtol=1e-12)


def test_interval_is_that_of_all_resamples():
    """Four seeds have 256 equally likely resamples: their percentiles are known exactly."""
    scores = np.array([0.1, 0.2, 0.4, 0.8])
    every = [interquartile_mean(np.array(drawn)) for drawn in itertools.product(scores, repeat=4)]
    low, high = np.quantile(every, [0.025, 0.975])
    found = stratified_interval([scores], resamples=100_000)
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-3)
    assert found.seeds == 4


def test_strata_are_resampled_each_by_itself():
    """Constant strata leave nothing to chance; resampled together they would."""
    found = stratified_interval([np.full(4, 1.0), np.full(4, 3.0)])
    assert found == Estimate(2.0, 2.0, 2.0, 4)
    rng = np.random.default_rng(1)
    near, far = rng.normal(0, 0.01, 6), rng.normal(5, 0.01, 6)
    together = stratified_interval([np.concatenate([near, far])])
    apart = stratified_interval([near, far])
    assert apart.value == pytest.approx(together.value)
    assert apart.high - apart.low < 0.1 * (together.high - together.low)


def test_unequal_strata_weigh_by_their_scores():
    found = stratified_interval([np.full(3, 0.0), np.full(9, 4.0)])
    assert found.value == pytest.approx(stats.trim_mean([0.0] * 3 + [4.0] * 9, 0.25))


@pytest.mark.parametrize("scores", [[0.4], [0.2, 0.6]])
def test_few_seeds_have_no_interval(scores):
    found = stratified_interval([np.array(scores)])
    assert found[:1] == pytest.approx((np.mean(scores),))
    assert np.isnan(found[1:3]).all()
    assert np.isnan(seed_intervals(np.array([scores]))[1]).all()


def test_what_is_not_there_does_not_count():
    assert stratified_interval([]).seeds == 0
    assert np.isnan(stratified_interval([np.array([np.nan, np.inf])]).value)
    found = stratified_interval([np.array([0.1, np.nan, 0.2, 0.3]), np.array([np.nan])])
    assert found.seeds == 3
    assert found.value == pytest.approx(0.2)


def test_many_at_once_are_as_one_by_one():
    rng = np.random.default_rng(4)
    groups = [rng.normal(size=size) for size in (5, 1, 5, 8, 0, 3)]
    groups[3][2] = np.nan
    found = estimates(groups)
    for group, mine in zip(groups, found, strict=True):
        alone = stratified_interval([group])
        assert mine == pytest.approx(alone, nan_ok=True)
    scores = rng.normal(size=(3000, 6))
    value, low, high = seed_intervals(scores, resamples=700)  # in several blocks
    assert (low <= value).all()
    assert (value <= high).all()
    again = seed_intervals(scores[-2:], resamples=700)
    np.testing.assert_array_equal(np.stack(again), np.stack([value, low, high])[:, -2:])


def test_coverage_is_near_what_it_claims():
    """Of 20 seeds from a known law, intervals hold the true value about 95 times in 100."""
    scores = np.random.default_rng(0).normal(size=(400, 20))
    _, low, high = seed_intervals(scores, resamples=500)
    assert 0.88 < ((low <= 0) & (high >= 0)).mean() < 0.98
