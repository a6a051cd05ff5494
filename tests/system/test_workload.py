from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from system_cases import hand_fleet, hand_workload

from fedjax_kd.system import device_training_s, synchronised_count, workload

COMMON: dict[str, Any] = dict(
    teacher_flops_per_example=1000.0,
    raw_bits_per_example=24_576,
    n_classes=10,
    epochs=5,
    samples=jnp.asarray([300, 300]),
    synchronised=jnp.asarray([150, 150]),
    labelled=jnp.asarray([150, 150]),
    at_server=jnp.asarray([True, False]),
)


def _work(**changes):
    options = COMMON | changes
    return workload(
        training_flops_per_example=jnp.asarray([30.0, 60.0]),
        student_bits=jnp.asarray([3200.0, 6400.0]),
        **options,
    )


def test_counts_by_hand():
    work = _work()
    np.testing.assert_array_equal(work.training_flops, [30 * 300 * 5, 60 * 300 * 5])
    np.testing.assert_array_equal(work.teacher_flops, [150_000, 150_000])
    np.testing.assert_array_equal(work.uplink_bits, [150 * 24_576, 0])
    np.testing.assert_array_equal(work.downlink_bits, [3200, 150 * 10 * 32])
    np.testing.assert_array_equal(work.at_server, [True, False])


def test_everything_synchronised_needs_no_uplink():
    np.testing.assert_array_equal(_work(synchronised=jnp.asarray([300, 300])).uplink_bits, [0, 0])


def test_without_distillation_the_teacher_and_soft_labels_cost_nothing():
    work = _work(labelled=jnp.asarray([0, 0]))
    np.testing.assert_array_equal(work.teacher_flops, [0, 0])
    np.testing.assert_array_equal(work.downlink_bits, [3200, 0])


def test_teacher_inference_can_be_left_out():
    work = _work(teacher_inference=False)
    np.testing.assert_array_equal(work.teacher_flops, [0, 0])
    np.testing.assert_array_equal(work.downlink_bits, _work().downlink_bits)


def test_scalars_broadcast_over_users():
    work = _work(at_server=True, samples=300, synchronised=0, labelled=0)
    assert {leaf.shape for leaf in work} == {(2,)}
    np.testing.assert_array_equal(work.uplink_bits, [300 * 24_576] * 2)


def test_synchronised_count_rounds():
    counts = synchronised_count(np.array([0, 1, 3, 300]), 0.5)
    assert counts.tolist() == [0, 1, 2, 150]
    assert synchronised_count(np.array([7]), 1.0).tolist() == [7]
    with pytest.raises(ValueError, match=r"fraction = 1.5; must lie in \[0, 1\]"):
        synchronised_count(np.array([7]), 1.5)


def test_only_device_users_train_on_the_device():
    np.testing.assert_allclose(device_training_s(hand_workload(), hand_fleet()), [0.0, 2.0])
