"""Pools in step: against local training, and what a pool that is through does not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.data import ExampleTable, training_batch
from fedjax_kd.distill import masked_mean
from fedjax_kd.models import build_model
from fedjax_kd.training import Execution, local_update, rates, sgd
from fedjax_kd.training.pool_loop import Lessons, Seats, _deal, train_pools

MODEL = build_model("mlp", input_shape=(3,), n_classes=4, hidden=(5,))
ONE = Execution("sequential", tuple(jax.local_devices()[:1]))
COUNTS = (7, 3)
BATCH, EPOCHS = 4, 2


def table() -> ExampleTable:
    inputs = jax.random.normal(jax.random.key(0), (12, 3))
    labels = jnp.arange(12, dtype=jnp.int32) % 4
    return ExampleTable(inputs, labels, jnp.zeros((3,)), jnp.ones((3,)))


def answer(logits, weight, numbers):
    del numbers
    return weight * jnp.mean(logits, axis=0)


def loss(logits, labels, mask, sums, weight, numbers):
    """Squared distance to the labels, and `numbers` of the sums of everybody."""
    del weight
    wanted = jax.nn.one_hot(labels, logits.shape[1])
    pull = numbers * jnp.sum(logits * sums[None, :], axis=1)
    return masked_mean(jnp.sum((logits - wanted) ** 2, axis=1) + pull, mask)


def seats(member) -> Seats:
    return Seats(
        point=jnp.asarray([0, 0, 0, 1, 1, 1], jnp.int32),
        user=jnp.asarray([0, 1, 2, 0, 1, 2], jnp.int32),
        member=jnp.asarray(member, bool),
        weight=jnp.ones(6),
    )


def lessons(pull=0.0) -> Lessons:
    own = rates(0.1, momentum=0.5)
    return Lessons(
        keys=jax.random.split(jax.random.key(7), 2),
        rows=jnp.asarray([[0, 1, 2, 3, 4, 5, 6], [8, 9, 10, 8, 8, 8, 8]], jnp.int32),
        counts=jnp.asarray(COUNTS, jnp.int32),
        rates=jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), own),
        numbers=jnp.full(2, pull),
    )


@pytest.fixture(scope="module")
def stack():
    return jax.vmap(MODEL.init)(jax.random.split(jax.random.key(1), 6))


@jax.jit
def train(stack, member, pull):
    (learnt,) = train_pools(
        (MODEL,),
        (stack,),
        (seats(member),),
        lessons(pull),
        table(),
        answer,
        loss,
        ONE,
        epochs=EPOCHS,
        batch_size=BATCH,
        largest=3,
    )
    return learnt


EVERYBODY = jnp.ones(6, bool)


def test_members_that_say_nothing_learn_as_at_home(stack):
    """Without the sums, each member is trained like a client of its own on the pool's rows."""
    got, given = train(stack, EVERYBODY, 0.0), lessons()

    def alone(variables, s):
        def batch_loss(params, stats, batch):
            inputs, labels = training_batch(table(), given.rows[s][batch.positions], batch.key)
            variables = {"params": params, "stats": stats}
            logits, stats = MODEL.apply(variables, inputs, True, batch.mask)
            zeros = jnp.zeros(4)
            return loss(logits, labels, batch.mask, zeros, 1.0, 0.0), stats

        return local_update(
            given.keys[s],
            variables,
            given.counts[s],
            batch_loss,
            sgd(rates(0.1, momentum=0.5)),
            capacity=7,
            epochs=EPOCHS,
            batch_size=BATCH,
        )

    want, losses = jax.jit(jax.vmap(alone))(stack, jnp.asarray([0, 0, 0, 1, 1, 1]))
    for a, b in zip(jax.tree.leaves(got.models), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-6, atol=5e-6)
    np.testing.assert_allclose(got.loss, losses, rtol=5e-6)


def test_examples_that_were_computed_on(stack):
    """7 examples are two batches of 4, 3 are one: over two epochs 16 and 8 for each member."""
    member = jnp.asarray([1, 0, 1, 1, 1, 0], bool)
    got = train(stack, member, 0.0)
    np.testing.assert_array_equal(got.executed, [16, 0, 16, 8, 8, 0])
    np.testing.assert_array_equal(got.loss > 0, member)


def test_sums_reach_the_members_of_the_own_pool_and_nobody_else(stack):
    member = jnp.asarray([1, 0, 1, 1, 1, 0], bool)
    want = train(stack, member, 0.3)
    for changed, reached in ((2, {0, 2}), (1, {1}), (4, {3, 4})):
        other = jax.tree.map(lambda leaf, k=changed: leaf.at[k].add(0.5), stack)
        got = train(other, member, 0.3)
        for k in range(6):
            pairs = zip(jax.tree.leaves(got.models), jax.tree.leaves(want.models), strict=True)
            same = all(bool((a[k] == b[k]).all()) for a, b in pairs)
            assert same == (k not in reached), (changed, k)


def test_rows_of_the_others_are_bit_for_bit_what_they_were(stack):
    got = train(stack, jnp.asarray([1, 0, 1, 0, 0, 0], bool), 0.3)
    for a, b in zip(jax.tree.leaves(got.models), jax.tree.leaves(stack), strict=True):
        np.testing.assert_array_equal(a[jnp.asarray([1, 3, 4, 5])], b[jnp.asarray([1, 3, 4, 5])])
        assert not np.array_equal(a[0], b[0])


def test_members_are_dealt_evenly_and_the_busiest_first():
    """Two devices; point 0 takes 2 steps, point 1 takes 1; four of six are members."""
    given = seats([1, 0, 1, 1, 1, 0])
    chosen, live = _deal(given, jnp.asarray([2, 1], jnp.int32), 6, jnp.int32(0), 2)
    np.testing.assert_array_equal(chosen, [0, 3, 1, 2, 4, 5])
    np.testing.assert_array_equal(live, [1, 1, 0, 1, 1, 0])
    # after an architecture with one member the second device begins
    chosen, live = _deal(given, jnp.asarray([2, 1], jnp.int32), 5, jnp.int32(1), 2)
    assert chosen.shape == (6,)
    np.testing.assert_array_equal(chosen[live], [2, 4, 0, 3])
    assert int(live[:3].sum()) == int(live[3:].sum()) == 2
