import jax
import jax.numpy as jnp
import numpy as np
import pytest
from allocation_instances import solve_one

from fedjax_kd.allocation import AllocationProblem, problem_for, validate
from fedjax_kd.system import load_profile, price, sample_fleet, workload

GOOD = dict(
    compute_flops=[1.0, 0.0],
    uplink_bits=[3, 0],
    downlink_bits=[2.0, 4.0],
    uplink_snr_hz=[5.0, 0.0],
    downlink_snr_hz=[5.0, 5.0],
    server_flops_per_s=1.0,
    uplink_hz=1.0,
    downlink_hz=1,
)


def _problem(**changes):
    return AllocationProblem(**(GOOD | changes))  # type: ignore[arg-type]


def test_validate_fills_in_and_converts():
    problem = validate(_problem())
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(problem))
    np.testing.assert_array_equal(problem.fixed_s, [0.0, 0.0])
    assert np.isfinite(solve_one(problem).total_s)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uplink_hz": -2.0}, r"uplink_hz = -2.0; must be finite and >= 0"),
        ({"compute_flops": [1.0, np.nan]}, r"compute_flops\[1\] = nan; must be finite"),
        ({"downlink_bits": [1.0, np.inf]}, r"downlink_bits\[1\] = inf; must be finite"),
        ({"uplink_bits": [1.0, 2.0, 3.0]}, r"uplink_bits: shape \(3,\); must be \(2,\)"),
        ({"downlink_hz": [1.0, 1.0]}, r"downlink_hz: shape \(2,\); must be \(\)"),
        ({"fixed_s": [0.0]}, r"fixed_s: shape \(1,\); must be \(2,\)"),
        ({"server_flops_per_s": 0.0}, r"server_flops_per_s = 0 while compute_flops\[0\] > 0"),
        ({"uplink_snr_hz": [0.0, 0.0]}, r"uplink_snr_hz\[0\] = 0 while uplink_bits > 0"),
        ({"uplink_bits": ["a", "b"]}, r"uplink_bits: .* is not a number type"),
    ],
)
def test_validate_names_what_is_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        validate(_problem(**changes))


def _setting():
    fleet = sample_fleet(jax.random.key(0), load_profile("cell_500m"), 4)
    work = workload(
        training_flops_per_example=jnp.asarray([1e6, 2e6, 1e6, 5e6]),
        student_bits=jnp.asarray([1e5, 2e5, 1e5, 9e5]),
        teacher_flops_per_example=1e7,
        raw_bits_per_example=6272,
        n_classes=10,
        epochs=5,
        samples=jnp.asarray([100, 200, 300, 50]),
        synchronised=jnp.asarray([50, 100, 300, 0]),
        labelled=jnp.asarray([50, 100, 300, 0]),
        at_server=jnp.asarray([True, False, True, True]),
    )
    return fleet, work


def test_the_solver_and_the_ledger_agree_on_every_delay():
    fleet, work = _setting()
    solution = solve_one(validate(problem_for(work, fleet)))
    ledger = price(work, fleet, solution)
    np.testing.assert_allclose(ledger.delay_s.sum(axis=1), solution.delay_s, rtol=2e-6)
    np.testing.assert_allclose(ledger.delay_s[:, 1], solution.uplink_s, rtol=2e-6)
    np.testing.assert_allclose(ledger.delay_s[:, 3], solution.compute_s, rtol=2e-6)
    np.testing.assert_allclose(ledger.delay_s[:, 4], solution.downlink_s, rtol=2e-6)


def test_undecided_users_weigh_nothing():
    fleet, work = _setting()
    decided = jnp.asarray([True, True, False, False])
    solution = solve_one(problem_for(work, fleet, decided))
    np.testing.assert_array_equal(solution.delay_s[2:], 0.0)
    np.testing.assert_allclose(solution.server_flops_per_s[0], fleet.server_flops_per_s, rtol=1e-6)
