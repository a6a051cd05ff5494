"""A fixed number of local steps, and learning rates that drop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_kd.training import Drop, local_steps, local_update, rates, sgd
from fedjax_kd.training.schedule import dropped

CAPACITY, BATCH = 10, 4
KEY = jax.random.key(1)


def batches(count: int, steps: int) -> list[list[int]]:
    """The positions that each step was given: `params` notes them down."""

    def batch_loss(params, notes, batch):
        row = jnp.where(batch.mask, batch.positions, -1)
        seen, index = notes
        loss = jnp.sum(params * jnp.mean(batch.mask.astype(jnp.float32)))
        return loss, (seen.at[index].set(row), index + 1)

    start = (jnp.full((steps + 1, BATCH), -2, jnp.int32), jnp.int32(0))
    optimiser = sgd(rates(0.1))
    params = jnp.zeros(())
    _, (seen, taken), _, _ = jax.jit(
        lambda count: local_steps(
            KEY,
            params,
            start,
            optimiser.init(params),
            count,
            batch_loss,
            optimiser,
            capacity=CAPACITY,
            steps=steps,
            batch_size=BATCH,
        )
    )(jnp.int32(count))
    assert (np.asarray(seen)[int(taken) :] == -2).all()
    return [[p for p in row if p >= 0] for row in np.asarray(seen)[: int(taken)].tolist()]


def test_rows_are_used_up_before_they_are_shuffled_again():
    found = batches(count=7, steps=5)
    assert [len(batch) for batch in found] == [4, 3, 4, 3, 4]
    first, second = sorted(found[0] + found[1]), sorted(found[2] + found[3])
    assert first == second == list(range(7))
    assert found[:2] != found[2:4]


@pytest.mark.parametrize(("count", "sizes"), [(2, [2] * 5), (4, [4] * 5), (10, [4, 4, 2, 4, 4])])
def test_as_many_steps_as_asked_for(count, sizes):
    assert [len(batch) for batch in batches(count, 5)] == sizes


def test_a_client_without_rows_takes_no_step():
    assert batches(0, 5) == []


def quadratic(target):
    def batch_loss(params, stats, batch):
        pulls = jnp.where(batch.mask, (params - target[batch.positions]) ** 2, 0.0)
        return jnp.sum(pulls) / jnp.sum(batch.mask.astype(jnp.float32)), stats

    return batch_loss


def test_whole_epochs_are_what_local_update_does():
    target, optimiser = jnp.linspace(-1.0, 2.0, CAPACITY), sgd(rates(0.1, momentum=0.9))
    start = {"params": jnp.float32(0.3), "stats": {}}
    shape: dict[str, Any] = {"capacity": CAPACITY, "batch_size": BATCH}
    want, _ = local_update(
        KEY, start, jnp.int32(8), quadratic(target), optimiser, epochs=3, **shape
    )
    got, _, _, _ = local_steps(
        KEY,
        start["params"],
        {},
        optimiser.init(start["params"]),
        jnp.int32(8),
        quadratic(target),
        optimiser,
        steps=6,
        **shape,
    )
    assert float(got) == float(want["params"])


def test_the_optimiser_is_handed_from_phase_to_phase():
    """Two phases of two steps with one velocity, against optax on the same full batches."""
    target, other = jnp.linspace(-1.0, 2.0, BATCH), jnp.linspace(4.0, 5.0, BATCH)
    optimiser = sgd(rates(0.1, momentum=0.9))
    params, momentum = jnp.float32(0.3), optimiser.init(jnp.float32(0.3))
    mean = 0.0
    for goal in (target, other):
        params, _, momentum, mean = local_steps(
            KEY,
            params,
            {},
            momentum,
            jnp.int32(BATCH),
            quadratic(goal),
            optimiser,
            capacity=BATCH,
            steps=2,
            batch_size=BATCH,
        )
    plain = optax.sgd(0.1, momentum=0.9)
    want, state, losses = jnp.float32(0.3), plain.init(jnp.float32(0.3)), []
    for goal in (target, target, other, other):
        loss, slope = jax.value_and_grad(lambda p, goal=goal: jnp.mean((p - goal) ** 2))(want)
        change, state = plain.update(slope, state)
        want = optax.apply_updates(want, change)
        losses.append(float(loss))
    np.testing.assert_allclose(float(params), float(jnp.asarray(want)), rtol=1e-6)
    np.testing.assert_allclose(mean, np.mean(losses[2:]), rtol=1e-6)


@pytest.mark.parametrize(("index", "factor"), [(0, 1.0), (2, 1.0), (3, 0.1), (4, 0.1), (5, 0.01)])
def test_learning_rates_drop_and_nothing_else(index, factor):
    values = {"a": rates(0.2, momentum=0.9), "weight": jnp.float32(3)}
    changed = dropped(values, Drop((3, 5), 0.1), jnp.int32(index))
    np.testing.assert_allclose(changed["a"].learning_rate, 0.2 * factor, rtol=1e-6)
    assert changed["a"].momentum is values["a"].momentum
    assert float(changed["weight"]) == 3.0
    assert dropped(values, Drop(), jnp.int32(index)) is values
