import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.training.client_loop import run_clients, sum_over_clients
from fedjax_kd.training.execution import FORMS, Execution, default_execution

N_CLIENTS = 7


def executions():
    one, two = tuple(jax.local_devices()[:1]), tuple(jax.local_devices()[:2])
    return [
        pytest.param(Execution(form, devices, width=2), id=f"{form}-{len(devices)}")
        for form in FORMS
        for devices in (one, two)
    ]


def one_client(state, inputs, shared):
    key, size = inputs
    noise = jax.random.normal(key, state["w"].shape)
    moved = jax.lax.fori_loop(0, size, lambda i, w: w * shared + noise, state["w"])
    return {"w": moved, "visits": state["visits"] + 1}, jnp.sum(moved)


def stack():
    state = {
        "w": jnp.arange(N_CLIENTS * 6, dtype=jnp.float32).reshape(N_CLIENTS, 2, 3),
        "visits": jnp.zeros(N_CLIENTS, jnp.int32),
    }
    keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.key(3), k))(jnp.arange(N_CLIENTS))
    return state, (keys, jnp.arange(N_CLIENTS) % 4)


def by_python_loop(active):
    state, inputs = stack()
    outputs = np.zeros(N_CLIENTS, np.float32)
    for k in np.flatnonzero(active):
        row = jax.tree.map(lambda leaf: leaf[k], state)  # noqa: B023
        new, outputs[k] = one_client(row, jax.tree.map(lambda leaf: leaf[k], inputs), 0.5)  # noqa: B023
        state = jax.tree.map(lambda leaf, value: leaf.at[k].set(value), state, new)  # noqa: B023
    return state, outputs


@pytest.mark.parametrize("execution", executions())
@pytest.mark.parametrize(
    "active", [[1] * 7, [0, 1, 1, 0, 0, 1, 0], [0] * 7], ids=["all", "some", "none"]
)
def test_every_form_equals_the_python_loop(execution, active):
    active = np.array(active, bool)
    state, inputs = stack()
    run = jax.jit(lambda s, i, a: run_clients(one_client, s, i, jnp.float32(0.5), a, execution))
    got_state, got_outputs = run(state, inputs, jnp.asarray(active))
    want_state, want_outputs = by_python_loop(active)
    chex.assert_trees_all_close(got_state, want_state, rtol=1e-6)
    np.testing.assert_allclose(got_outputs, want_outputs, rtol=1e-6)
    before = jax.tree.map(lambda leaf: leaf[~active], state)
    after = jax.tree.map(lambda leaf: leaf[~active], got_state)
    chex.assert_trees_all_equal(before, after)


@pytest.mark.parametrize("execution", executions())
def test_sums_go_to_their_own_server_and_leave_out_inactive_clients(execution):
    values = jnp.arange(1.0, N_CLIENTS + 1)
    servers = jnp.array([1.0, 10.0, 100.0])
    server = jnp.array([0, 0, 1, 1, 2, 2, 2], jnp.int32)
    active = jnp.array([1, 1, 1, 0, 0, 0, 0], bool)

    def message(value, own, scale):
        return {"value": value * own * scale, "n": jnp.int32(1)}, value

    run = jax.jit(
        lambda v, a: sum_over_clients(message, v, servers, jnp.float32(10), server, a, execution)
    )
    sums, outputs = run(values, active)
    np.testing.assert_allclose(sums["value"], [30.0, 300.0, 0.0])
    np.testing.assert_array_equal(sums["n"], [2, 1, 0])
    np.testing.assert_allclose(outputs, [1, 2, 3, 0, 0, 0, 0])


def test_sequential_form_skips_inactive_clients_work():
    """The loop's trip count is the number of active clients: counted by a callback on the host."""
    visited = []
    execution = Execution("sequential", tuple(jax.local_devices()[:1]))

    def counted(state, inputs, shared):
        jax.debug.callback(lambda k: visited.append(int(k)), inputs)
        return state, inputs

    active = jnp.array([0, 1, 0, 0, 1, 0, 0], bool)
    run = jax.jit(lambda i, a: run_clients(counted, (), i, (), a, execution))
    jax.block_until_ready(run(jnp.arange(N_CLIENTS), active))
    jax.effects_barrier()
    assert sorted(visited) == [1, 4]


def test_asking_for_more_devices_than_there_are_is_refused():
    with pytest.raises(ValueError, match="devices = 64"):
        default_execution(64)
