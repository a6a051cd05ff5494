"""The Dirichlet of PFLlib and HtFLlib: published counts, a slow oracle, and its way to divide."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.model_selection import train_test_split

from fedjax_kd.data import (
    DirichletPooled,
    Source,
    UnlabelledShards,
    build_split,
    class_counts,
    host_rng,
    partition,
)
from fedjax_kd.data.partition_pooled import pooled_partition

PUBLISHED = Path(__file__).with_name("cifar10_dirichlet_01_clients.json")


def source_of(train_labels, test_labels, groups=None):
    labels = [np.asarray(each, np.int32) for each in (train_labels, test_labels)]
    n_classes = int(np.concatenate(labels).max()) + 1
    inputs = [np.zeros((len(each), 1, 1, 1), np.uint8) for each in labels]
    return Source(
        name="labels",
        train_inputs=inputs[0],
        train_labels=labels[0],
        test_inputs=inputs[1],
        test_labels=labels[1],
        n_classes=n_classes,
        class_names=tuple("abcdefghij"[:n_classes]),
        train_groups=groups,
    )


def slow_reference(labels, n_users, alpha, batch_size, seed):
    """Lists of indices as the reference's loops make them, and the generator after them."""
    random = np.random.RandomState(seed)
    n_examples, tries = len(labels), 0
    least = int(min(batch_size / (1 - 0.75), n_examples / n_users / 2))
    users = [[]]
    while min(len(user) for user in users) < least:
        tries += 1
        users = [[] for _ in range(n_users)]
        for class_id in range(max(labels) + 1):
            members = [index for index, label in enumerate(labels) if label == class_id]
            random.shuffle(members)
            shares = random.dirichlet([alpha] * n_users)
            for user in range(n_users):
                if len(users[user]) >= n_examples / n_users:
                    shares[user] = 0.0
            shares = shares / np.sum(shares)
            start, running = 0, 0.0
            for user in range(n_users):
                running += shares[user]
                end = len(members) if user == n_users - 1 else int(running * len(members))
                users[user].extend(members[start:end])
                start = end
    return users, random, tries


def legacy_state():
    name, keys, place, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return name, np.asarray(keys).tolist(), place, rest


def test_the_published_class_counts_come_out_exactly():
    published = np.asarray(json.loads(PUBLISHED.read_text())["counts"])
    labels = np.repeat(np.arange(10), 6000)
    spec = DirichletPooled(alpha=0.1, seed=1, max_tries=1)  # at the first try
    counts = class_counts(labels, partition(spec, labels, 20, host_rng(0, "unused")), 10)
    np.testing.assert_array_equal(counts, published)
    assert np.count_nonzero(counts) == 102
    for_training = counts.sum(axis=1) * 3 // 4
    assert (for_training.min(), for_training.max()) == (873, 4495)


def test_the_published_counts_do_not_depend_on_the_order_of_the_examples():
    published = np.asarray(json.loads(PUBLISHED.read_text())["counts"])
    labels = host_rng(3, "order").permutation(np.repeat(np.arange(10), 6000))
    source = source_of(labels[:50_000], labels[50_000:])
    split = build_split(
        source,
        DirichletPooled(alpha=0.1, seed=1),
        20,
        rng=host_rng(5, "split"),
        validation_fraction=0.0,
    )
    train = class_counts(source.labels, split.train, 10)
    test = class_counts(source.labels, split.test, 10)
    np.testing.assert_array_equal(train + test, published)
    np.testing.assert_array_equal(train.sum(axis=1), published.sum(axis=1) * 3 // 4)


@settings(max_examples=40, deadline=None)
@given(
    n_train=st.integers(60, 200),
    n_test=st.integers(0, 60),
    n_classes=st.integers(1, 6),
    n_users=st.integers(1, 6),
    alpha=st.sampled_from([0.1, 0.3, 1.0, 10.0]),
    batch_size=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_example_goes_where_the_reference_puts_it(
    n_train, n_test, n_classes, n_users, alpha, batch_size, seed
):
    labels = np.asarray(host_rng(seed, "labels").integers(0, n_classes, n_train + n_test))
    users, random, tries = slow_reference(labels.tolist(), n_users, alpha, batch_size, seed)
    assume(min(len(user) for user in users) >= 2)  # scikit-learn refuses to divide less
    assume(tries <= 1000)
    split = build_split(
        source_of(labels[:n_train], labels[n_train:]),
        DirichletPooled(alpha=alpha, seed=seed, min_examples=4 * batch_size),
        n_users,
        rng=host_rng(0, "split"),
        validation_fraction=0.0,
    )
    for user, held in enumerate(users):
        train, test = train_test_split(held, train_size=0.75, shuffle=True, random_state=random)
        assert split.train[user].tolist() == train
        assert split.test[user].tolist() == test
        assert split.validation[user].tolist() == []


@pytest.mark.parametrize("n_test", [0, 120])
def test_validation_comes_out_of_training_and_the_common_set_is_the_union(n_test):
    labels = host_rng(0, "labels").integers(0, 5, 500 + n_test)
    source = source_of(labels[:500], labels[500:])
    spec = DirichletPooled(alpha=0.5, min_examples=8)
    without, split = (
        build_split(source, spec, 6, rng=host_rng(1, "split"), validation_fraction=fraction)
        for fraction in (0.0, 0.15)
    )
    everything = np.concatenate([*split.train, *split.validation, *split.test])
    assert sorted(everything.tolist()) == list(range(500 + n_test))
    for user in range(6):
        assert split.test[user].tolist() == without.test[user].tolist()
        kept = [*split.validation[user], *split.train[user]]
        assert [int(index) for index in kept] == without.train[user].tolist()
        held = len(kept) + len(split.test[user])
        assert len(split.test[user]) == held - held * 3 // 4
        assert len(split.validation[user]) == max(1, round(0.15 * held))
    assert split.common_is_union
    assert set(split.common_test.tolist()) == set(np.concatenate(split.test).tolist())
    assert len(split.common_test) == sum(len(part) for part in split.test)
    assert set(split.common_validation) <= set(np.concatenate(split.validation))
    assert len(without.common_validation) == 0


def test_caps_keep_the_head_of_every_part():
    labels = host_rng(0, "labels").integers(0, 5, 600)
    source, spec = source_of(labels[:500], labels[500:]), DirichletPooled(alpha=1.0, seed=3)
    whole = build_split(source, spec, 4, rng=host_rng(1, "split"))
    capped = build_split(source, spec, 4, rng=host_rng(1, "split"), max_train=7, max_test=5)
    for user in range(4):
        assert capped.train[user].tolist() == whole.train[user][:7].tolist()
        assert capped.test[user].tolist() == whole.test[user][:5].tolist()
    assert len(capped.common_test) == 20


def test_without_a_seed_the_study_decides_and_with_one_it_does_not():
    labels = host_rng(0, "labels").integers(0, 5, 400)
    source = source_of(labels[:300], labels[300:])

    def held(spec, study_seed):
        split = build_split(source, spec, 5, rng=host_rng(study_seed, "split"))
        return [part.tolist() for part in split.train + split.test]

    free, pinned = DirichletPooled(alpha=0.5), DirichletPooled(alpha=0.5, seed=1)
    assert held(free, 0) == held(free, 0) != held(free, 1)
    assert held(pinned, 0) == held(pinned, 1) != held(free, 0)
    assert held(pinned, 0) != held(DirichletPooled(alpha=0.5, seed=2), 0)


def test_the_global_generator_is_left_alone():
    labels = np.repeat(np.arange(4), 100)
    before = legacy_state()
    partition(DirichletPooled(seed=1, alpha=1.0), labels, 4, host_rng(0, 0))
    assert legacy_state() == before


def test_further_shards_without_labels_are_of_the_same_partition():
    labels = np.repeat(np.arange(5), 200)
    split = build_split(
        source_of(labels[:800], labels[800:]),
        DirichletPooled(alpha=5.0, seed=1),
        3,
        rng=host_rng(0, "split"),
        unlabelled=UnlabelledShards(strong=1, shards_per_strong=2),
    )
    everything = np.concatenate([*split.train, *split.validation, *split.test, *split.unlabelled])
    assert sorted(everything.tolist()) == list(range(1000))
    assert [len(part) > 0 for part in split.unlabelled] == [True, False, False]


class Scripted:
    """Proportions as written down; nothing is shuffled."""

    def __init__(self, *proportions):
        self.left = [np.asarray(each) for each in proportions]

    def shuffle(self, members):
        pass

    def dirichlet(self, alpha):
        return self.left.pop(0)


@pytest.mark.parametrize("useless", [[1.0, 0.0], [np.nan, np.nan]])
def test_a_class_that_only_full_users_could_take_is_drawn_again(useless):
    draws: Any = Scripted([1.0, 0.0], useless, [0.0, 1.0], [0.5, 0.5])
    parts = pooled_partition(DirichletPooled(), np.repeat(np.arange(2), 30), 2, draws)
    # The second try: user 1 takes the first class, is full, and user 0 takes all of the other.
    assert [part.tolist() for part in parts] == [list(range(30, 60)), list(range(30))]
    assert draws.left == []


def test_what_rounding_leaves_goes_to_the_last_user_though_it_is_full():
    proportions = np.random.RandomState(30).dirichlet(np.ones(3))
    proportions[-1] = 0.0
    assert np.cumsum(proportions / proportions.sum())[1] < 1.0
    draws: Any = Scripted([0.0, 0.0, 1.0], proportions)
    spec = DirichletPooled(min_examples=1)
    parts = pooled_partition(spec, np.repeat(np.arange(2), 15), 3, draws)
    assert len(parts[2]) == 16


def test_what_cannot_be_had_is_refused():
    labels = np.repeat(np.arange(5), 20)
    with pytest.raises(ValueError, match=r"min_examples: 10 .* max_tries = 2 draws"):
        partition(
            DirichletPooled(alpha=0.01, max_tries=2, min_examples=40, seed=0),
            labels,
            5,
            host_rng(0, 0),
        )
    with pytest.raises(ValueError, match=r"data\.users: 101 users cannot share 100 examples"):
        partition(DirichletPooled(), labels, 101, host_rng(0, 0))
    recorded = source_of(labels, labels[:0], groups=np.arange(100, dtype=np.int32) // 5)
    with pytest.raises(ValueError, match=r"data\.partition\.kind: 'dirichlet_pooled' .*recordings"):
        build_split(recorded, DirichletPooled(), 2, rng=host_rng(0, "split"))
    for seed in (-1, 2**32, 1.0):
        with pytest.raises(ValidationError, match="seed"):
            DirichletPooled(seed=seed)  # pyright: ignore[reportArgumentType]
