from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_q_learning import numpy_q_learning
from toy_instances import on_device, prefix_utility, stack, total_delay, toy_instance

from fedjax_kd.policy import (
    QLearningRates,
    decode,
    exhaustive,
    offloaded_before,
    q_learning,
    trace_episodes,
)
from fedjax_kd.policy.exploration import draw_exploration, epsilon_at, pack_feasible

USERS, STUDENTS, EPISODES = 6, 3, 4000
ALL = jnp.ones((USERS, 2 * STUDENTS), bool)
TOY = on_device(toy_instance(0, users=USERS, students=STUDENTS))


@partial(jax.jit, static_argnames="episodes")
def learn(key, instance, feasible, rates, episodes):
    return q_learning(
        key,
        partial(prefix_utility, instance),
        feasible,
        rates,
        episodes=episodes,
        trace_points=30,
    )


def learn_toy(seed=0, feasible=ALL, instance=TOY, rates=None):
    return learn(jax.random.key(seed), instance, feasible, rates or QLearningRates(), EPISODES)


def masked():
    mask = np.random.default_rng(5).random(ALL.shape) < 0.6
    mask[2] = False
    mask[2, 4] = True
    mask[:, 0] |= ~mask.any(-1)
    return jnp.asarray(mask)


def test_shapes_and_what_always_holds():
    result = learn_toy()
    points = trace_episodes(EPISODES, 30)
    assert result.q.shape == result.visits.shape == (USERS, USERS, 2 * STUDENTS)
    assert result.q.dtype == jnp.float32
    chex.assert_shape([result.greedy_actions, result.best_actions], (USERS,))
    np.testing.assert_array_equal(result.trace.episode, points)
    assert points[0] == 1
    assert points[-1] == EPISODES
    # Every episode passes every user once, in states that can be reached.
    np.testing.assert_array_equal(np.sum(result.visits, axis=(1, 2)), np.full(USERS, EPISODES))
    above = np.arange(USERS)[None, :] > np.arange(USERS)[:, None]
    assert np.asarray(result.visits)[above].sum() == 0
    # Utilities are those of the decisions returned; the best never falls.
    for actions, utility in [
        (result.greedy_actions, result.greedy_utility),
        (result.best_actions, result.best_utility),
    ]:
        np.testing.assert_allclose(utility, prefix_utility(TOY, actions)[-1], rtol=1e-5)
    assert (np.diff(result.trace.best_utility) >= 0).all()
    assert result.trace.best_utility[-1] == result.best_utility
    assert (result.trace.best_utility >= result.trace.greedy_utility).all()
    assert (result.trace.best_utility >= result.trace.episode_utility - 1e-6).all()


def test_agrees_with_a_numpy_loop_given_the_same_draws():
    episodes, feasible = 400, masked()
    key, rates = jax.random.key(4), QLearningRates(learning_rate=0.2, discount=0.9)
    epsilon = epsilon_at(
        jnp.arange(episodes, dtype=jnp.int32), episodes, *map(jnp.float32, (1.0, 0.02, 0.7))
    )
    draw = jax.vmap(draw_exploration, in_axes=(None, 0, 0, None))
    explored = draw(key, jnp.arange(episodes), epsilon, pack_feasible(feasible))
    jitted = jax.jit(partial(prefix_utility, TOY))
    oracle = numpy_q_learning(
        np.asarray(explored),
        lambda actions: np.asarray(jitted(actions)),
        np.asarray(feasible),
        learning_rate=0.2,
        discount=0.9,
    )
    result = learn(key, TOY, feasible, rates, episodes)
    np.testing.assert_array_equal(result.visits, oracle.visits)
    np.testing.assert_allclose(result.q, oracle.q, rtol=1e-5, atol=1e-6)
    starts = np.concatenate([[0], trace_episodes(episodes, 30)[:-1]])
    means = np.add.reduceat(oracle.utilities, starts) / np.diff([*starts, episodes])
    np.testing.assert_allclose(result.trace.episode_utility, means, rtol=1e-4, atol=1e-5)
    # The roll-outs of the trace may find something better still.
    assert float(result.best_utility) >= oracle.best_utility - 1e-6


def count_game(users=5, n_actions=4, seed=0):
    """Utility whose increments depend on the action and the count alone: exactly Markov."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(size=(users, n_actions)).astype(np.float32)
    load = rng.normal(size=(users + 1, users + 1)).astype(np.float32)
    load[0] = 0

    def utility(actions):
        before = offloaded_before(actions, n_actions // 2)
        after = before + actions // (n_actions // 2)
        own = jnp.cumsum(jnp.asarray(worth)[jnp.arange(users), actions])
        own = own + jnp.asarray(load)[jnp.arange(1, users + 1), after]
        return jnp.concatenate([jnp.zeros(1), own])

    q = np.full((users, users, n_actions), np.nan)
    value = np.zeros(users + 1)
    for n in reversed(range(users)):
        for count in range(n + 1):
            for action in range(n_actions):
                after = count + action // (n_actions // 2)
                reward = worth[n, action] + load[n + 1, after] - load[n, count]
                q[n, count, action] = reward + value[after]
        value = np.concatenate([np.nanmax(q[n, : n + 1], axis=-1), np.zeros(users - n)])
    return utility, q, value[0]


def test_finds_the_values_of_backward_induction():
    utility, exact, optimum = count_game()
    result = jax.jit(lambda key: q_learning(key, utility, jnp.ones((5, 4), bool), episodes=20_000))(
        jax.random.key(0)
    )
    often = np.asarray(result.visits) > 400
    assert often.sum() > 25
    np.testing.assert_allclose(np.asarray(result.q)[often], exact[often], atol=2e-3)
    np.testing.assert_allclose(result.greedy_utility, optimum, atol=1e-5)
    np.testing.assert_allclose(result.best_utility, optimum, atol=1e-5)


def test_a_separable_utility_is_decided_user_by_user():
    worth = np.random.default_rng(1).normal(size=ALL.shape).astype(np.float32)

    def utility(actions):
        gained = jnp.asarray(worth)[jnp.arange(USERS), actions]
        return jnp.concatenate([jnp.zeros(1), jnp.cumsum(gained)])

    result = q_learning(jax.random.key(0), utility, ALL, episodes=6000)
    np.testing.assert_array_equal(result.greedy_actions, worth.argmax(-1))
    np.testing.assert_array_equal(result.best_actions, worth.argmax(-1))


def test_infeasible_actions_are_never_taken():
    feasible = masked()
    result = learn_toy(feasible=feasible)
    allowed = np.broadcast_to(np.asarray(feasible)[:, None, :], result.q.shape)
    assert (np.asarray(result.visits)[~allowed] == 0).all()
    assert (np.asarray(result.q)[~allowed] == -np.inf).all()
    assert np.isfinite(np.asarray(result.q)[allowed]).all()
    for actions in (result.greedy_actions, result.best_actions):
        assert np.asarray(feasible)[np.arange(USERS), np.asarray(actions)].all()


def test_without_discount_the_values_telescope_to_the_utility():
    # One greedy episode at learning rate 1 from a table of zeros: what is learned for user n is
    # the rest of U, wherever that is positive (otherwise an untried action at 0 is better).
    def utility(actions):
        return jnp.arange(USERS + 1, dtype=jnp.float32) ** 2

    result = q_learning(
        jax.random.key(0),
        utility,
        ALL,
        QLearningRates(learning_rate=1.0, epsilon_start=0.0, epsilon_end=0.0),
        episodes=1,
    )
    rest = USERS**2 - np.arange(USERS) ** 2
    np.testing.assert_allclose(result.q[:, 0, 0], rest)
    assert int(result.visits[:, 0, 0].sum()) == USERS


def test_same_key_same_result_other_key_another():
    first, again, other = learn_toy(7), learn_toy(7), learn_toy(8)
    chex.assert_trees_all_equal(first, again)
    assert not np.array_equal(first.visits, other.visits)


def test_without_exploration_the_key_does_not_matter():
    rates = QLearningRates(epsilon_start=0.0, epsilon_end=0.0)
    chex.assert_trees_all_equal(learn_toy(1, rates=rates), learn_toy(2, rates=rates))


def test_loop_is_vmapped_row_over_seeds_instances_masks_and_rates():
    instances = [toy_instance(seed, USERS, STUDENTS) for seed in range(3)]
    masks = jnp.stack([ALL, masked(), ALL])
    keys = jax.random.split(jax.random.key(0), (3, 2))
    learning_rates = [0.1, 0.2, 0.3]

    def one(key, instance, feasible, learning_rate):
        return learn(key, instance, feasible, QLearningRates(learning_rate), 400)

    over_seeds = jax.vmap(one, in_axes=(0, None, None, None))
    batched = jax.vmap(over_seeds)(keys, stack(instances), masks, jnp.asarray(learning_rates))
    assert batched.trace.episode.shape[:2] == (3, 2)
    for i, instance in enumerate(instances):
        alone = one(keys[i, 1], on_device(instance), masks[i], learning_rates[i])
        row = jax.tree.map(lambda x, i=i: x[i, 1], batched)
        chex.assert_trees_all_close(row, alone, rtol=1e-5, atol=1e-6)


def test_sharded_over_devices_is_the_same():
    keys = jax.random.split(jax.random.key(0), 4)
    mesh = jax.make_mesh((2,), ("study",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("study"))
    many = jax.vmap(lambda key: learn(key, TOY, ALL, QLearningRates(), 400))
    sharded = jax.jit(many, in_shardings=spread, out_shardings=spread)(keys)
    assert len(sharded.q.sharding.device_set) == 2
    for i in range(4):
        row = jax.tree.map(lambda x, i=i: x[i], sharded)
        alone = learn(keys[i], TOY, ALL, QLearningRates(), 400)
        chex.assert_trees_all_close(row, alone, rtol=1e-5, atol=1e-6)


def test_rates_and_instances_do_not_recompile():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(key, instance, feasible, rates):
        return q_learning(key, partial(prefix_utility, instance), feasible, rates, episodes=50)

    for seed in range(3):
        instance = on_device(toy_instance(seed, USERS, STUDENTS))
        rates = QLearningRates(learning_rate=0.1 * (seed + 1), epsilon_decay=0.5)
        run(jax.random.key(seed), instance, ALL, rates)


def test_no_weight_on_delay_picks_the_most_accurate_students():
    instance = TOY._replace(delay_weight=jnp.float32(0))
    result = learn_toy(instance=instance)
    best = np.asarray(TOY.tables)[:, :STUDENTS, 4].argmax(-1)
    for actions in (result.greedy_actions, result.best_actions):
        np.testing.assert_array_equal(decode(actions, STUDENTS)[0], best)


def test_all_weight_on_delay_picks_the_least_delay():
    instance = on_device(toy_instance(2, users=4, students=2))
    instance = instance._replace(delay_weight=jnp.float32(1e4))
    feasible = jnp.ones((4, 4), bool)
    result = learn(jax.random.key(0), instance, feasible, QLearningRates(), 4000)
    least = -exhaustive(lambda a: -total_delay(instance, a), feasible).utility
    np.testing.assert_allclose(total_delay(instance, result.best_actions), least, rtol=1e-5)


@pytest.mark.parametrize("points", [1, 2, 7, 200])
@pytest.mark.parametrize("episodes", [1, 2, 5, 1000, 20_000])
def test_trace_episodes_rise_to_the_last(points, episodes):
    stops = trace_episodes(episodes, points)
    assert stops[-1] == episodes
    assert 1 <= stops.size <= points
    assert (np.diff(stops) > 0).all()
    assert stops[0] >= 1


def test_bad_arguments_are_named():
    key, utility = jax.random.key(0), partial(prefix_utility, TOY)
    with pytest.raises(ValueError, match="episodes is 0"):
        q_learning(key, utility, ALL, episodes=0)
    with pytest.raises(ValueError, match="reward is 'final': allowed are incremental, terminal"):
        q_learning(key, utility, ALL, episodes=1, reward="final")  # pyright: ignore
    with pytest.raises(ValueError, match=r"feasible has shape \(6, 5\)"):
        q_learning(key, utility, ALL[:, :5], episodes=1)
    with pytest.raises(ValueError, match="feasible has type float32"):
        q_learning(key, utility, ALL.astype(jnp.float32), episodes=1)
    with pytest.raises(ValueError, match=r"user 3 without an action \(1 such users\)"):
        q_learning(key, utility, ALL.at[3].set(False), episodes=1)
    with pytest.raises(ValueError, match=r"must return float32 \[7\]"):
        q_learning(key, lambda a: utility(a)[-1], ALL, episodes=1)
