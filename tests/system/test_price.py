import jax
import jax.numpy as jnp
import numpy as np
from system_cases import hand_fleet, hand_shares, hand_workload

from fedjax_kd.system import CAUSES, Shares, price


def test_every_price_by_hand():
    ledger = price(hand_workload(), hand_fleet(), hand_shares())
    # Columns: teacher inference, uplink, training on the device, training at the server, downlink.
    np.testing.assert_allclose(
        ledger.delay_s,
        [
            # 4e9/4e10; 6e6/(1e6 log2 4); -; 2e10/4e10; 2e6/(1e6 log2 16)
            [0.1, 3.0, 0.0, 0.5, 0.5],
            # 8e9/4e10; -; 1.6e10/8e9; -; 4e6/(1e6 log2 16)
            [0.2, 0.0, 2.0, 0.0, 1.0],
        ],
        rtol=1e-6,
    )
    # Server: 1e-30 x 1e20 = 1e-10 J per cycle. User 1's device: 1e-28 x 4e18 = 4e-10 J per cycle.
    np.testing.assert_allclose(
        ledger.energy_j,
        [
            # 1e9 cycles; 0.5 W x 3 s; -; 5e9 cycles; 10 W x 0.5 s
            [0.1, 1.5, 0.0, 0.5, 5.0],
            # 2e9 cycles; -; 4e9 cycles at 4e-10; -; 10 W x 1 s
            [0.2, 0.0, 1.6, 0.0, 10.0],
        ],
        rtol=1e-6,
    )
    np.testing.assert_array_equal(ledger.bits, [[0, 6e6, 0, 0, 2e6], [0, 0, 0, 0, 4e6]])
    np.testing.assert_allclose(
        ledger.flops, [[4e9, 0, 0, 2e10, 0], [8e9, 0, 1.6e10, 0, 0]], rtol=1e-7
    )
    assert ledger.delay_s.shape == (2, len(CAUSES))


def test_energy_and_delay_add_up_over_two_halves_of_the_work():
    work, fleet, shares = hand_workload(), hand_fleet(), hand_shares()
    half = work._replace(
        **{
            name: getattr(work, name) / 2
            for name in ("training_flops", "teacher_flops", "uplink_bits", "downlink_bits")
        }
    )
    whole, part = price(work, fleet, shares), price(half, fleet, shares)
    for all_of_it, half_of_it in zip(whole, part, strict=True):
        np.testing.assert_allclose(2 * half_of_it, all_of_it, rtol=1e-6)


def test_a_load_without_a_share_takes_forever_and_no_load_takes_nothing():
    zeros = jnp.zeros(2)
    ledger = price(hand_workload(), hand_fleet(), Shares(zeros, zeros, zeros))
    assert np.isposinf(ledger.delay_s[0, 1])
    assert np.isposinf(ledger.delay_s[0, 3])
    assert ledger.delay_s[1, 1] == 0.0
    assert not np.isnan(ledger.energy_j).any()


def test_price_is_the_same_compiled():
    arguments = hand_workload(), hand_fleet(), hand_shares()
    for eager, compiled in zip(price(*arguments), jax.jit(price)(*arguments), strict=True):
        np.testing.assert_allclose(eager, compiled, rtol=1e-6)
