from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import population
from fedjax_kd.data import Source, UserSplit, example_table
from fedjax_kd.methods.contract import Federation
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.rounds import one_round
from fedjax_kd.models import build_model
from fedjax_kd.study.memory import (
    Memory,
    StudyTooLarge,
    device_limit_bytes,
    estimate,
    machine_bytes,
    points_that_fit,
)
from fedjax_kd.training import Execution, everywhere, rates

N_USERS, N_EXAMPLES, N_FEATURES = 6, 90, 12
MODEL = build_model("mlp", input_shape=(N_FEATURES,), n_classes=3, hidden=(400,))
HPARAMS = FdRates(rates(0.1), jnp.float32(1), jnp.float32(1))
MEMORY = Memory(1000, 10, 100, 20, 500, 70)


def federation(n_points: int) -> Federation:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(N_EXAMPLES, N_FEATURES)).astype(np.float32)
    labels = rng.integers(0, 3, N_EXAMPLES).astype(np.int32)
    source = Source("noise", inputs, labels, inputs[:0], labels[:0], 3, ("a", "b", "c"))
    rows = np.arange(N_EXAMPLES, dtype=np.int32)
    train, rest = rows[:60].reshape(N_USERS, 10), rows[60:]
    split = UserSplit(tuple(train), tuple(train[:, :2]), tuple(train[:, :1]), rest, rest[:5])
    return Federation(example_table(source), population(range(n_points), [split] * n_points))


def build(execution: Execution):
    return fd(MODEL, epochs=1, batch_size=5, execution=execution)


def execution_of(form, n_devices=1) -> Execution:
    return Execution(form, tuple(jax.local_devices()[:n_devices]), width=2)


def estimated(form, n_devices=1) -> Memory:
    one = federation(1)
    return estimate(build, one.table, one.people, HPARAMS, execution=execution_of(form, n_devices))


@pytest.fixture(scope="module")
def sequential() -> Memory:
    return estimated("sequential")


def test_parts_are_what_the_arrays_take(sequential):
    assert sequential.examples_bytes == 4 * (N_EXAMPLES * (N_FEATURES + 1) + 2 * N_FEATURES)
    indices = N_USERS * (10 + 2 + 1) + 30 + 5 + 1  # a row of no public examples has one place
    counts = 3 * N_USERS + 3
    assert sequential.index_tables_bytes == 4 * (indices + counts + 2 * N_USERS)
    weights = (N_FEATURES + 1) * 400 + 401 * 3
    table = 3 * 3 + 3 + 1
    assert sequential.clients_bytes == 4 * N_USERS * (weights + table)
    assert sequential.server_bytes == 4 * table


@pytest.mark.parametrize("form", ["sequential", "vmap"])
def test_estimate_is_what_the_compiler_asks_for_more_points(form, sequential):
    memory = sequential if form == "sequential" else estimated(form)
    execution, whole = execution_of(form), federation(5)
    method = build(execution)
    state = jax.eval_shape(method.init, whole)
    step = jax.jit(one_round(method, execution), donate_argnums=0)
    found = step.lower(state, whole, HPARAMS, jnp.int32(0)).compile().memory_analysis()
    assert found is not None
    asked = found.argument_size_in_bytes + found.temp_size_in_bytes
    assert memory.total_bytes(5) == pytest.approx(asked, rel=0.15)


def test_vmap_holds_everybody_s_gradients_and_sequential_one_client_s(sequential):
    weights_bytes = 4 * ((N_FEATURES + 1) * 400 + 401 * 3)
    assert estimated("vmap").temporaries_per_point_bytes > N_USERS * weights_bytes
    assert sequential.temporaries_per_point_bytes < 2 * weights_bytes


def test_two_devices_hold_half_of_the_clients_each(sequential):
    two = estimated("sequential", 2)
    assert two.clients_bytes == sequential.clients_bytes // 2
    assert two.examples_bytes == sequential.examples_bytes


def test_arrays_of_several_points_are_as_good_as_shapes_of_one(sequential):
    execution = execution_of("sequential")
    several = jax.tree.map(partial(jnp.full, 3), HPARAMS)
    placed, several = everywhere((federation(3), several), execution)
    found = estimate(build, placed.table, placed.people, several, execution=execution)
    assert found[:4] == sequential[:4]


def test_points_that_fit():
    assert MEMORY.total_bytes(1) == 1700
    assert points_that_fit(MEMORY, 1700) == 1
    assert points_that_fit(MEMORY, 1899) == 1
    assert points_that_fit(MEMORY, 1900) == 2
    assert points_that_fit(MEMORY, 1500 + 200 * 16) == 16


def test_one_point_too_many_names_the_parts():
    large = Memory(*(2**20 * part for part in MEMORY))
    with pytest.raises(StudyTooLarge) as raised:
        points_that_fit(large, 1699 * 2**20)
    text = str(raised.value)
    assert "needs 1,700.0 MiB on a device, 1,699.0 MiB are allowed" in text
    for part in ("table 1,000.0", "tables 10.0", "state 100.0", "state 20.0", "round 570.0"):
        assert f"{part} MiB" in text


def test_devices_of_a_cpu_share_the_machine():
    one = device_limit_bytes(execution_of("sequential"), share=0.5)
    assert one == machine_bytes() // 2
    assert device_limit_bytes(execution_of("sequential", 2), share=0.5) == one // 2
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\]; got 0"):
        device_limit_bytes(execution_of("sequential"), share=0)
