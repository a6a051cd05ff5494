from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_kd.clients import Purpose, client_keys, keep_first, pooled
from fedjax_kd.data import gather
from fedjax_kd.methods.contract import Round
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.models import profile
from fedjax_kd.training import epoch_order, everywhere, rates


def one_round(method, federation, active, index=0, hparams=None):
    state = jax.jit(method.init)(federation)
    hparams = rates(0.1, 0.9) if hparams is None else hparams
    step = jax.jit(method.round)
    return state, *step(state, federation, hparams, Round(jnp.int32(index), jnp.asarray(active)))


def by_hand(model, federation, start, k, hparams, epochs, batch_size):
    """Plain SGD with momentum for client k, written as Python loops."""
    people = federation.people
    count = int(people.train.counts[k])
    key = client_keys(people, 0, Purpose.BATCH_ORDER)[k]
    params = jax.tree.map(lambda leaf: leaf[people.point[k]], start)["params"]
    velocity = jax.tree.map(jnp.zeros_like, params)

    def loss(params, inputs, labels):
        logits, _ = model.apply({"params": params, "stats": {}}, inputs, train=True)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    for epoch in range(epochs):
        capacity = people.train.indices.shape[1]
        order = epoch_order(
            jax.random.fold_in(key, epoch), people.train.counts[k], capacity, batch_size
        )
        for start_at in range(0, count, batch_size):
            positions = np.asarray(order)[start_at : min(start_at + batch_size, count)]
            inputs, labels = gather(federation.table, people.train.indices[k][positions])
            grads = jax.grad(loss)(params, inputs, labels)
            velocity = jax.tree.map(lambda v, g: hparams.momentum * v + g, velocity, grads)
            params = jax.tree.map(lambda p, v: p - hparams.learning_rate * v, params, velocity)
    return params


def test_a_round_is_the_weighted_mean_of_hand_written_sgd(model, federation, solo):
    method = fedavg(model, epochs=2, batch_size=4, execution=solo)
    hparams = rates(0.1, 0.9)
    active = np.zeros(federation.people.n_clients, bool)
    active[[1, 3, 6]] = True
    start, state, _ = one_round(method, federation, active, hparams=hparams)
    trained = {k: by_hand(model, federation, start.server, k, hparams, 2, 4) for k in (1, 3, 6)}
    n = [float(count) for count in federation.people.train.counts]
    first = jax.tree.map(lambda a, b: (n[1] * a + n[3] * b) / (n[1] + n[3]), trained[1], trained[3])
    got = jax.tree.map(lambda leaf: leaf[0], state.server)["params"]
    chex.assert_trees_all_close(got, first, rtol=2e-5, atol=2e-6)
    second = jax.tree.map(lambda leaf: leaf[1], state.server)["params"]
    chex.assert_trees_all_close(second, trained[6], rtol=2e-5, atol=2e-6)


def test_nobody_taking_part_leaves_the_server_bit_for_bit(model, federation, solo):
    method = fedavg(model, epochs=1, batch_size=4, execution=solo)
    start, state, report = one_round(method, federation, np.zeros(10, bool))
    chex.assert_trees_all_equal(start.server, state.server)
    assert float(report.work_flops.sum()) == 0.0


def test_all_executions_agree(model, federation, executions):
    active = np.array([1, 0, 1, 1, 0, 1, 1, 1, 0, 1], bool)
    results = [
        one_round(
            fedavg(model, epochs=2, batch_size=4, execution=e), everywhere(federation, e), active
        )[1:]
        for e in executions
    ]
    results = [  # what the simulator spends depends on the form, and on nothing else does
        (state, replace(report, executed_flops=report.work_flops)) for state, report in results
    ]
    for other in results[1:]:
        chex.assert_trees_all_close(
            jax.device_get(results[0]), jax.device_get(other), rtol=1e-5, atol=1e-6
        )


def test_the_order_of_clients_does_not_matter(model, federation, solo):
    method = fedavg(model, epochs=1, batch_size=4, execution=solo)
    people = federation.people
    order = jnp.asarray([4, 2, 0, 3, 1, 9, 8, 5, 6, 7])
    shuffled = replace(
        people,
        point=people.point[order],
        user=people.user[order],
        train=jax.tree.map(lambda leaf: leaf[order], people.train),
    )
    _, state, _ = one_round(method, federation, np.ones(10, bool))
    _, other, _ = one_round(method, replace(federation, people=shuffled), np.ones(10, bool))
    chex.assert_trees_all_close(state.server, other.server, rtol=1e-5, atol=1e-6)


def test_bits_and_work_follow_from_the_profile(model, federation, solo):
    method = fedavg(model, epochs=3, batch_size=4, execution=solo)
    active = np.array([1] * 5 + [0] * 5, bool)
    _, _, report = one_round(method, federation, active)
    costs = profile(model)
    counts = np.asarray(federation.people.train.counts)
    np.testing.assert_allclose(report.uplink_bits, active * costs.bits)
    np.testing.assert_allclose(report.downlink_bits, active * costs.bits)
    np.testing.assert_allclose(report.work_flops, active * counts * 3 * costs.training_flops)


def test_pooled_rows_are_the_union_of_each_point(federation):
    people = federation.people
    rows = pooled(people, keep_first(people.train, jnp.full(10, 3, jnp.int32)))
    assert rows.counts.tolist() == [15, 15]
    held = {int(i) for k in range(5) for i in people.train.indices[k][:3]}
    assert set(np.asarray(rows.indices[0][:15]).tolist()) == held


def test_rounds_lower_the_training_loss(model, federation, solo):
    method = fedavg(model, epochs=2, batch_size=4, execution=solo)
    state = jax.jit(method.init)(federation)
    step = jax.jit(method.round, donate_argnums=0)
    losses = []
    for index in range(8):
        everybody = Round(jnp.int32(index), jnp.ones(10, bool))
        state, report = step(state, federation, rates(0.05, 0.9), everybody)
        losses.append(float(report.loss.mean()))
    assert losses[-1] < 0.5 * losses[0]
    (server,) = method.predict(state, federation)["model"]
    assert server.row.tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_an_epoch_visits_each_example_once(count):
    order = np.asarray(epoch_order(jax.random.key(1), jnp.int32(count), 7, 4))
    assert len(order) == 8
    assert sorted(order[:count]) == list(range(count))
