import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_instances import on_device, prefix_utility, prefix_utility_numpy, stack, toy_instance

from fedjax_kd.policy import count_decisions, exhaustive

MASK = np.ones((3, 4), bool)
MASK[0, [1, 3]] = False
MASK[2, 0] = False


def utility(instance, actions):
    return prefix_utility(instance, actions)[-1]


def brute_force(instance, feasible):
    decisions = itertools.product(*(np.flatnonzero(row) for row in feasible))
    scored = [(prefix_utility_numpy(instance, np.asarray(d))[-1], d) for d in decisions]
    return max(scored), len(scored)


@pytest.mark.parametrize("chunk", [1, 7, 24, 1000])
def test_equals_itertools_over_feasible_decisions(chunk):
    instance = toy_instance(3, users=3, students=2)
    (best, actions), number = brute_force(instance, MASK)
    result = exhaustive(partial(utility, on_device(instance)), jnp.asarray(MASK), chunk=chunk)
    np.testing.assert_array_equal(result.actions, actions)
    np.testing.assert_allclose(result.utility, best, rtol=1e-5)
    assert int(result.evaluated) == number == 24
    assert result.actions.dtype == jnp.int32


def test_vmaps_over_instances_and_masks():
    instances = [toy_instance(seed, users=3, students=2) for seed in range(4)]
    masks = np.stack([MASK, np.ones_like(MASK), MASK[::-1], MASK])
    result = jax.jit(jax.vmap(lambda i, f: exhaustive(partial(utility, i), f, chunk=10)))(
        stack(instances), masks
    )
    for row, (instance, mask) in enumerate(zip(instances, masks, strict=True)):
        (best, actions), number = brute_force(instance, mask)
        np.testing.assert_array_equal(result.actions[row], actions)
        np.testing.assert_allclose(result.utility[row], best, rtol=1e-5)
        assert int(result.evaluated[row]) == number


def test_ties_and_nan():
    def flat(actions):
        return jnp.where(actions[0] == 0, jnp.nan, 1.0)

    result = exhaustive(flat, jnp.ones((2, 2), bool))
    np.testing.assert_array_equal(result.actions, [1, 0])
    assert float(result.utility) == 1.0


def test_too_many_decisions_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"5 users with up to 6 actions make 7776 .* to 7775"):
        exhaustive(lambda a: a[0].astype(jnp.float32), jnp.ones((5, 6), bool), limit=7775)
    # Only feasible decisions count, where the mask is known.
    narrow = jnp.ones((30, 2), bool).at[2:, 0].set(False)
    assert count_decisions(narrow) == 4
    assert int(exhaustive(lambda a: a[0].astype(jnp.float32), narrow).evaluated) == 4
    with pytest.raises(ValueError, match="1073741824 decisions"):
        jax.jit(lambda f: exhaustive(lambda a: a[0].astype(jnp.float32), f))(narrow)


def test_bad_chunk():
    with pytest.raises(ValueError, match="chunk is 0"):
        exhaustive(lambda a: a[0].astype(jnp.float32), jnp.ones((2, 2), bool), chunk=0)
