from dataclasses import replace

import jax
import numpy as np
import pytest

from fedjax_kd.clients import (
    Part,
    Purpose,
    branch,
    client_key,
    client_keys,
    draw_key,
    keep_first,
    population,
    stack_tables,
)
from fedjax_kd.data import UserSplit, index_table


def split(first, n_users=3):
    rows = tuple(
        np.arange(first + 10 * n, first + 10 * n + n + 2, dtype=np.int32) for n in range(n_users)
    )
    common = np.arange(first + 100, first + 104, dtype=np.int32)
    return UserSplit(rows, rows, rows, common, common)


@pytest.fixture
def people():
    return population((5, 9), [split(0), split(1000)])


def test_clients_are_the_users_of_every_point_in_order(people):
    assert (people.n_clients, people.n_points, people.n_users) == (6, 2, 3)
    assert people.point.tolist() == [0, 0, 0, 1, 1, 1]
    assert people.user.tolist() == [0, 1, 2, 0, 1, 2]
    assert people.train.counts.tolist() == [2, 3, 4, 2, 3, 4]
    assert people.train.indices[4][:3].tolist() == [1010, 1011, 1012]
    assert people.common_test.indices[1].tolist() == [1100, 1101, 1102, 1103]


def test_points_with_different_numbers_of_users_are_refused():
    with pytest.raises(ValueError, match=r"2 seeds with splits of \[2, 3\] users"):
        population((0, 1), [split(0, 2), split(0, 3)])


def test_a_draw_depends_on_seed_round_purpose_and_user_only(people):
    keys = client_keys(people, 3, Purpose.INIT)
    for k in range(6):
        seed, user = (5, 9)[int(people.point[k])], int(people.user[k])
        want = client_key(jax.random.key(seed), 3, Purpose.INIT, user)
        assert (jax.random.key_data(keys[k]) == jax.random.key_data(want)).all()


def test_no_two_uses_share_a_key():
    root = jax.random.key(0)
    seen = set()
    for part in Part:
        for round_index in range(3):
            for purpose in Purpose:
                inner = jax.random.fold_in(root, part)
                key = draw_key(inner, round_index, purpose)
                seen.add(tuple(np.asarray(jax.random.key_data(key)).tolist()))
                for user in range(3):
                    key = client_key(inner, round_index, purpose, user)
                    seen.add(tuple(np.asarray(jax.random.key_data(key)).tolist()))
    assert len(seen) == len(Part) * 3 * len(Purpose) * 4


def test_a_branch_has_its_own_draws(people):
    teacher, students = (branch(people, part) for part in (Part.TEACHER, Part.STUDENTS))
    keys = [client_keys(p, 0, Purpose.INIT) for p in (people, teacher, students)]
    data = [np.asarray(jax.random.key_data(key)) for key in keys]
    assert not (data[0] == data[1]).all(axis=1).any()
    assert not (data[1] == data[2]).all(axis=1).any()


def test_keeping_the_first_rows_only_lowers_counts(people):
    kept = keep_first(people.train, people.train.counts * 0 + 3)
    assert kept.counts.tolist() == [2, 3, 3, 2, 3, 3]
    assert (kept.indices == people.train.indices).all()


def test_stacked_tables_keep_their_rows():
    one, two = index_table([np.arange(3), np.arange(1)]), index_table([np.arange(5)])
    stacked = stack_tables([one, two])
    assert stacked.counts.tolist() == [3, 1, 5]
    assert stacked.indices.shape == (3, 5)
    assert stacked.indices[2].tolist() == [0, 1, 2, 3, 4]
    assert stacked.indices[0][:3].tolist() == [0, 1, 2]


def test_a_split_without_unlabelled_data_gives_empty_rows(people):
    assert people.unlabelled.counts.tolist() == [0] * 6
    assert people.unlabelled.indices.shape == (6, 1)


def test_unlabelled_rows_stand_beside_those_of_users_without():
    strong = replace(
        split(0),
        unlabelled=(np.arange(50, 54, dtype=np.int32), *(np.zeros(0, np.int32),) * 2),
    )
    people = population((5, 9), [strong, split(1000)])
    assert people.unlabelled.counts.tolist() == [4, 0, 0, 0, 0, 0]
    assert people.unlabelled.indices[0].tolist() == [50, 51, 52, 53]
    assert people.unlabelled.indices[3].tolist() == [0, 0, 0, 0]


def test_unlabelled_rows_of_another_number_of_users_are_refused():
    wrong = replace(split(0), unlabelled=(np.arange(3, dtype=np.int32),))
    with pytest.raises(ValueError, match="unlabelled: 1 rows for 3 users"):
        population((5,), [wrong])
