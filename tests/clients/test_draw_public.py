from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import (
    Part,
    Purpose,
    branch,
    draw_key,
    draw_public,
    draw_public_places,
    population,
    select,
)
from fedjax_kd.data import IndexTable, UserSplit

SEEDS, SIZE = (5, 9), 12


def split(first, n_public=SIZE):
    rows = tuple(np.asarray([first + n], np.int32) for n in range(3))
    public = first + 100 + np.arange(n_public, dtype=np.int32)[::-1]
    return UserSplit(rows, rows, rows, rows[0], rows[0], public=public)


@pytest.fixture(scope="module")
def people():
    return population(SEEDS, [split(0), split(1000)])


def test_public_rows_stand_point_by_point_in_their_order(people):
    assert people.public.counts.tolist() == [SIZE, SIZE]
    np.testing.assert_array_equal(people.public.indices[1], 1100 + np.arange(SIZE)[::-1])


def test_a_split_without_public_examples_has_no_count(people):
    without = population(SEEDS, [replace(split(0), public=np.zeros(0, np.int32))] * 2)
    assert without.public.counts.tolist() == [0, 0]
    with pytest.raises(ValueError, match="between 1 and the 0 public examples"):
        draw_public(without, 0, 1)


def test_selections_and_branches_keep_the_public_examples_whole(people):
    for other in (select(people, jnp.asarray([0, 4])), branch(people, Part.STUDENTS)):
        np.testing.assert_array_equal(other.public.indices, people.public.indices)
        np.testing.assert_array_equal(other.public.counts, people.public.counts)


def test_a_draw_is_the_examples_with_the_smallest_numbers(people):
    for index in (0, 7):
        rows = np.asarray(draw_public(people, index, 5))
        for point, seed in enumerate(SEEDS):
            key = draw_key(jax.random.key(seed), index, Purpose.PUBLIC)
            order = np.argsort(np.asarray(jax.random.bits(key, (SIZE,))), kind="stable")
            want = np.asarray(people.public.indices)[point, order[:5]]
            np.testing.assert_array_equal(rows[point], want)


@pytest.mark.parametrize("size", [1, 5, SIZE - 1])
def test_rows_are_distinct_public_ones_and_rounds_and_points_differ(people, size):
    places = np.stack([draw_public_places(people, index, size) for index in range(30)])
    assert places.shape == (30, 2, size)
    assert places.dtype == np.int32
    assert places.min() >= 0
    assert places.max() < SIZE
    assert all(len(set(row)) == size for row in places.reshape(-1, size).tolist())
    assert len({row.tobytes() for row in places.reshape(-1, size)}) > min(SIZE, 30) / 2
    larger = np.stack([draw_public_places(people, index, SIZE - 1) for index in range(30)])
    np.testing.assert_array_equal(places, larger[..., :size])


def test_all_of_them_come_in_one_fixed_order(people):
    for index in (0, 3):
        np.testing.assert_array_equal(draw_public(people, index, SIZE), people.public.indices)


def test_every_example_is_drawn_equally_often(people):
    rounds = jnp.arange(3000, dtype=jnp.int32)
    places = jax.vmap(lambda index: draw_public_places(people, index, 4))(rounds)
    counts = np.bincount(np.asarray(places).ravel(), minlength=SIZE)
    expected = 3000 * 2 * 4 / SIZE
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_a_traced_round_and_traced_people_draw_what_the_host_does(people):
    drawn = jax.jit(lambda people, index: draw_public(people, index, 4))(people, 6)
    np.testing.assert_array_equal(drawn, draw_public(people, 6, 4))


def test_a_point_alone_or_with_fewer_clients_draws_the_same(people):
    whole = draw_public(people, 2, 4)
    alone = replace(
        select(people, jnp.asarray([0, 1])),
        roots=people.roots[:1],
        public=IndexTable(people.public.indices[:1], people.public.counts[:1]),
    )
    np.testing.assert_array_equal(draw_public(alone, 2, 4), whole[:1])


def test_padding_is_never_drawn(people):
    uneven = population(SEEDS, [split(0, 4), split(1000)])
    for index in range(20):
        rows = np.asarray(draw_public(uneven, index, 4))
        assert set(rows[0].tolist()) == {100, 101, 102, 103}
    with pytest.raises(ValueError, match="between 1 and the 4 public examples"):
        draw_public(uneven, 0, 5)


@pytest.mark.parametrize(
    ("size", "message"),
    [(0, "between 1 and the 12"), (13, "got 13"), (True, "an integer"), (2.0, "an integer")],
)
def test_impossible_numbers_are_refused(people, size, message):
    with pytest.raises(ValueError, match=message):
        draw_public(people, 0, size)
