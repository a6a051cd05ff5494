import numpy as np
from system_cases import hand_fleet, hand_shares, hand_workload

from fedjax_kd.system import price, timeline


def test_timeline_lets_causes_follow_each_other():
    ledger = price(hand_workload(), hand_fleet(), hand_shares())
    times = timeline(ledger, start_s=10.0)
    np.testing.assert_allclose(times.finish_s[1], [10.2, 10.2, 12.2, 12.2, 13.2], rtol=1e-6)
    np.testing.assert_allclose(times.start_s[1], [10.0, 10.2, 10.2, 12.2, 12.2], rtol=1e-6)
    np.testing.assert_allclose(times.finish_s[:, -1], 10.0 + ledger.delay_s.sum(axis=1), rtol=1e-6)
