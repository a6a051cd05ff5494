"""Groups of architectures on the client axis, and the draw of roles."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import draw_roles, groups_by_turns, population, select, whole_axis
from fedjax_kd.data import UserSplit

N_USERS, SEEDS = 7, (0, 1, 2)


@pytest.fixture(scope="module")
def people():
    rows = tuple(np.arange(3, dtype=np.int32) + 3 * n for n in range(N_USERS))
    split = UserSplit(rows, rows, rows, rows[0], rows[0])
    return population(SEEDS, [split] * len(SEEDS))


def test_users_take_architectures_by_turns(people):
    groups = groups_by_turns(people, 3)
    assert [group.tolist() for group in groups] == [
        [0, 3, 6, 7, 10, 13, 14, 17, 20],
        [1, 4, 8, 11, 15, 18],
        [2, 5, 9, 12, 16, 19],
    ]
    assert groups_by_turns(people, 1) == ()


@pytest.mark.parametrize("count", [0, 8])
def test_every_architecture_needs_a_user(people, count):
    with pytest.raises(ValueError, match=f"models: found {count} for 7 users; allowed: 1 to as"):
        groups_by_turns(people, count)


def test_parts_of_groups_come_back_in_the_common_order(people):
    groups = groups_by_turns(people, 3)
    own = jnp.arange(21, dtype=jnp.float32)
    parts = tuple({"a": own[group], "b": jnp.stack([own[group]] * 2, 1)} for group in groups)
    whole = whole_axis(parts, groups, 21)
    np.testing.assert_array_equal(whole["a"], own)
    np.testing.assert_array_equal(whole["b"], np.stack([own, own], 1))
    np.testing.assert_array_equal(whole_axis((own,), (), 21), own)
    np.testing.assert_array_equal(whole_axis((own[1:],), (jnp.arange(1, 21),), 21), own)


def names(people, positions):
    """The users drawn, by point."""
    return np.asarray(people.user[positions]).reshape(people.n_points, -1)


def test_roles_go_to_distinct_eligible_users_in_the_order_of_their_draws(people):
    eligible = jnp.asarray(np.tile([1, 1, 0, 1, 1, 0, 1], 3), bool)
    positions, filled = draw_roles(people, 4, 3, eligible)
    assert filled.all()
    assert (np.asarray(people.point[positions]) == np.repeat([0, 1, 2], 3)).all()
    for row in names(people, positions):
        assert len(set(row)) == 3
        assert set(row) <= {0, 1, 3, 4, 6}
    fewer, _ = draw_roles(people, 4, 2, eligible)
    np.testing.assert_array_equal(names(people, fewer), names(people, positions)[:, :2])


def test_everybody_is_drawn_first_about_as_often_and_rounds_differ(people):
    eligible = jnp.ones(21, bool)
    draw = jax.jit(lambda index: draw_roles(people, index, 1, eligible)[0])
    first = np.concatenate([names(people, draw(index))[:, 0] for index in range(400)])
    share = np.bincount(first, minlength=N_USERS) / len(first)
    error = np.sqrt(1 / N_USERS * (1 - 1 / N_USERS) / len(first))
    assert (abs(share - 1 / N_USERS) < 4 * error).all()


def test_roles_do_not_depend_on_places_or_on_who_is_not_eligible(people):
    order = np.concatenate([np.random.default_rng(0).permutation(7) + 7 * s for s in range(3)])
    eligible = np.tile([1, 0, 1, 1, 1, 0, 1], 3).astype(bool)
    want, _ = draw_roles(people, 2, 3, jnp.asarray(eligible))
    shuffled = select(people, jnp.asarray(order))
    got, _ = draw_roles(shuffled, 2, 3, jnp.asarray(eligible[order]))
    np.testing.assert_array_equal(names(shuffled, got), names(people, want))
    alone = select(people, jnp.flatnonzero(jnp.asarray(eligible)))
    got, _ = draw_roles(alone, 2, 3, jnp.ones(15, bool))
    np.testing.assert_array_equal(names(alone, got), names(people, want))


def test_roles_that_nobody_can_take_are_marked(people):
    eligible = jnp.asarray([1, 0, 0, 0, 0, 0, 1] + [0] * 7 + [1] * 7, bool)
    positions, filled = draw_roles(people, 0, 9, eligible)
    assert filled.reshape(3, 9).sum(axis=1).tolist() == [2, 0, 7]
    assert filled.reshape(3, 9)[0, :2].all()
    assert set(names(people, positions)[0, :2]) == {0, 6}
    other = replace(people, roots=jnp.roll(people.roots, 1))
    assert (
        names(people, positions)[2] != names(other, draw_roles(other, 0, 9, eligible)[0])[2]
    ).any()
