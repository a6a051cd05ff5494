from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import (
    Purpose,
    client_key,
    drop_out,
    population,
    put_rows,
    sample_cohort,
    select,
    take_rows,
)
from fedjax_kd.data import UserSplit

SEEDS, N_USERS = (5, 9), 6


def split(first):
    rows = tuple(
        np.arange(first + 10 * n, first + 10 * n + n + 1, dtype=np.int32) for n in range(N_USERS)
    )
    common = np.arange(first + 100, first + 104, dtype=np.int32)
    return UserSplit(rows, rows, rows, common, common)


@pytest.fixture(scope="module")
def people():
    return population(SEEDS, [split(0), split(1000)])


def identities(people, members):
    return [(int(people.point[k]), int(people.user[k])) for k in np.asarray(members)]


@pytest.mark.parametrize("size", range(1, N_USERS + 1))
def test_a_cohort_has_distinct_users_of_each_point_in_order(people, size):
    for index in range(5):
        members = identities(people, sample_cohort(people, index, size))
        assert members == sorted(set(members))
        assert [point for point, _ in members] == [0] * size + [1] * size


def test_a_cohort_is_the_users_with_the_smallest_draws(people):
    members = identities(people, sample_cohort(people, 3, 2))
    for point, seed in enumerate(SEEDS):
        draws = [
            int(jax.random.bits(client_key(jax.random.key(seed), 3, Purpose.PARTICIPATION, user)))
            for user in range(N_USERS)
        ]
        want = sorted(np.argsort(draws)[:2].tolist())
        assert [user for where, user in members if where == point] == want


def test_the_order_of_the_clients_does_not_show(people):
    order = jnp.asarray([4, 2, 0, 3, 1, 5, 9, 11, 8, 6, 10, 7])
    shuffled = select(people, order)
    for index in range(5):
        want = identities(people, sample_cohort(people, index, 3))
        assert identities(shuffled, sample_cohort(shuffled, index, 3)) == want


def test_rounds_and_points_draw_apart_and_a_point_alone_draws_the_same(people):
    cohorts = np.stack([np.asarray(sample_cohort(people, index, 3)) for index in range(8)])
    assert len({tuple(row) for row in cohorts}) > 4
    assert any((row[:3] != row[3:] - N_USERS).any() for row in cohorts)
    alone = population(SEEDS[1:], [split(1000)])
    for index in range(8):
        np.testing.assert_array_equal(sample_cohort(alone, index, 3), cohorts[index, 3:] - N_USERS)


def test_every_user_is_drawn_equally_often():
    """4000 cohorts of 2 of 6 users: each user in a third of them, give or take 4.5 deviations."""
    people = population((0,), [split(0)])
    n_rounds, size = 4000, 2
    draw = jax.jit(jax.vmap(lambda index: sample_cohort(people, index, size)))
    members = np.asarray(draw(jnp.arange(n_rounds)))
    share = np.bincount(members.ravel(), minlength=N_USERS) / n_rounds
    deviation = np.sqrt(1 / 3 * 2 / 3 / n_rounds)
    np.testing.assert_allclose(share, 1 / 3, atol=4.5 * deviation)
    pairs = {tuple(row) for row in members}
    assert len(pairs) == 15


def test_a_scan_over_rounds_samples_what_the_host_does(people):
    def body(carry, index):
        return carry, sample_cohort(people, index, 2)

    _, traced = jax.jit(lambda: jax.lax.scan(body, 0, jnp.arange(4)))()
    for index in range(4):
        np.testing.assert_array_equal(traced[index], sample_cohort(people, index, 2))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "size must be between 1 and the 6 users of a study point; got 0"),
        (7, "size must be between 1 and the 6 users of a study point; got 7"),
        (2.0, "size must be an integer, the users per study point; got 2.0"),
        (True, "size must be an integer"),
    ],
)
def test_impossible_sizes_are_refused(people, size, message):
    with pytest.raises(ValueError, match=message):
        sample_cohort(people, 0, size)


def test_points_of_different_sizes_are_refused(people):
    odd = replace(people, point=people.point[:-1], user=people.user[:-1])
    with pytest.raises(ValueError, match="11 clients over 2 study points"):
        sample_cohort(odd, 0, 1)


def test_a_selection_keeps_the_rows_and_the_common_part(people):
    members = jnp.asarray([1, 4, 6, 11])
    cohort = select(people, members)
    assert (cohort.n_clients, cohort.n_points, cohort.n_users) == (4, 2, 2)
    assert cohort.point.tolist() == [0, 0, 1, 1]
    assert cohort.user.tolist() == [1, 4, 0, 5]
    for table in ("train", "validation", "test"):
        assert getattr(cohort, table).counts.tolist() == [2, 5, 1, 6]
        assert getattr(cohort, table).indices[3].tolist() == list(range(1050, 1056))
    chex.assert_trees_all_equal(cohort.common_test, people.common_test)
    chex.assert_trees_all_equal(cohort.common_validation, people.common_validation)
    assert cohort.roots is people.roots


def test_rows_come_back_to_their_places_unless_their_client_left():
    tree = {"w": jnp.arange(15.0).reshape(5, 3), "n": jnp.arange(5)}
    members, present = jnp.asarray([4, 0, 2]), jnp.asarray([True, False, True])
    rows = take_rows(tree, members)
    assert rows["n"].tolist() == [4, 0, 2]
    after = jax.jit(put_rows)(tree, members, jax.tree.map(lambda leaf: leaf + 100, rows), present)
    assert after["n"].tolist() == [0, 1, 102, 3, 104]
    np.testing.assert_array_equal(after["w"][0], tree["w"][0])
    np.testing.assert_array_equal(after["w"][4], tree["w"][4] + 100)
    everybody = jnp.ones(3, bool)
    chex.assert_trees_all_equal(put_rows(tree, members, rows, everybody), tree)


def test_rows_may_be_keys_and_a_tree_may_be_empty():
    keys = jax.random.split(jax.random.key(0), 4)
    members, present = jnp.asarray([3, 1]), jnp.asarray([True, True])
    after = put_rows(keys, members, take_rows(keys, jnp.asarray([0, 0])), present)
    assert (jax.random.key_data(after[3]) == jax.random.key_data(keys[0])).all()
    assert put_rows((), members, (), present) == ()


def test_dropping_out_depends_on_who_one_is_and_not_on_the_company(people):
    everybody = jnp.arange(2 * N_USERS)
    stay = drop_out(people, everybody, 4, 0.5)
    assert 0 < int(stay.sum()) < 2 * N_USERS
    some = jnp.asarray([7, 2, 10, 5])
    np.testing.assert_array_equal(drop_out(people, some, 4, 0.5), stay[some])
    others = [np.asarray(drop_out(people, everybody, index, 0.5)) for index in range(5)]
    assert any((other != np.asarray(stay)).any() for other in others)


def test_the_chance_of_dropping_out_is_kept_per_point(people):
    everybody = jnp.arange(2 * N_USERS)
    assert bool(drop_out(people, everybody, 0, 0.0).all())
    assert not bool(drop_out(people, everybody, 0, 1.0).any())
    stay = drop_out(people, everybody, 0, jnp.asarray([1.0, 0.0]))
    assert stay.tolist() == [False] * N_USERS + [True] * N_USERS
    stayed = jax.vmap(lambda index: drop_out(people, everybody, index, 0.3))(jnp.arange(500))
    np.testing.assert_allclose(stayed.mean(), 0.7, atol=4.5 * np.sqrt(0.21 / 6000))


@pytest.mark.parametrize(
    ("probability", "message"),
    [
        (-0.1, r"probability must be in \[0, 1\]; got -0.1"),
        (1.5, r"probability must be in \[0, 1\]; got 1.5"),
        (float("nan"), "probability must be in"),
        (np.zeros(3, np.float32), r"one number or one per study point \(2\); got shape \(3,\)"),
    ],
)
def test_impossible_chances_are_refused(people, probability, message):
    with pytest.raises(ValueError, match=message):
        drop_out(people, jnp.arange(2), 0, probability)


def test_dropping_out_alone_is_poisson_sampling():
    """Everybody is there with probability q, whatever the others and the other rounds do."""
    n_users, rounds, rate = 40, 1500, 0.3
    rows = tuple(np.asarray([n], np.int32) for n in range(n_users))
    many = population((0,), [UserSplit(rows, rows, rows, rows[0], rows[0])])
    everybody = jnp.arange(n_users, dtype=jnp.int32)
    there = np.asarray(
        jax.vmap(lambda index: drop_out(many, everybody, index, 1 - rate))(
            jnp.arange(rounds, dtype=jnp.int32)
        ),
        float,
    )
    noise = 1 / np.sqrt(rounds)
    assert np.abs(there.mean(axis=0) - rate).max() < 5 * noise * np.sqrt(rate * (1 - rate))
    between = np.corrcoef(there.T)[~np.eye(n_users, dtype=bool)]
    assert np.abs(between).max() < 5 * noise
    in_time = [np.corrcoef(row[1:], row[:-1])[0, 1] for row in there.T]
    assert np.abs(in_time).max() < 5 * noise
    sizes = there.sum(axis=1)  # binomial, where a cohort of one size has no variance
    assert abs(sizes.var() / (n_users * rate * (1 - rate)) - 1) < 0.2
