import numpy as np
import pytest

from fedjax_kd.statistics import mean_interval


def test_the_interval_equals_the_t_table():
    # Two values 0 and 2: mean 1, standard error 1, t(0.975, 1) = 12.706.
    assert mean_interval([0.0, 2.0]) == pytest.approx((1, 1 - 12.706, 1 + 12.706), abs=1e-3)
    # Three values: t(0.975, 2) = 4.303, standard error 1 / sqrt(3).
    assert mean_interval([1, 2, 3])[2] == pytest.approx(2 + 4.303 / np.sqrt(3), abs=1e-3)


def test_missing_values_do_not_count():
    assert mean_interval([1.0, np.nan, 3.0]) == pytest.approx(mean_interval([1.0, 3.0]))
    mean, low, high = mean_interval([5.0])
    assert mean == 5.0
    assert np.isnan([low, high, *mean_interval([])]).all()
