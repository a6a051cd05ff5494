"""Laws of the partitioners, and what they say when a partition cannot exist."""

import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedjax_kd.data import (
    ClassesPerUser,
    Dirichlet,
    DirichletCounts,
    DirichletPooled,
    Iid,
    Natural,
    QuantitySkew,
    class_counts,
    host_rng,
    partition,
)
from fedjax_kd.data.partitioners import PARTITIONERS


def assert_is_partition(parts, n_examples):
    together = np.concatenate(parts)
    assert len(together) == n_examples
    np.testing.assert_array_equal(np.sort(together), np.arange(n_examples))


def random_labels(n_examples, n_classes, seed):
    return host_rng(seed, "labels").integers(0, n_classes, n_examples)


specs = st.one_of(
    st.just(Iid()),
    st.builds(
        Dirichlet,
        alpha=st.floats(0.01, 100.0),
        min_examples=st.integers(1, 3),
        max_tries=st.just(50),
    ),
    st.builds(DirichletCounts, alpha=st.floats(0.01, 100.0)),
    st.builds(
        DirichletPooled,
        alpha=st.floats(0.01, 100.0),
        min_examples=st.just(1),
        max_tries=st.just(50),
        seed=st.none() | st.integers(0, 2**32 - 1),
    ),
    st.builds(
        QuantitySkew,
        alpha=st.floats(0.05, 100.0),
        min_examples=st.integers(1, 3),
        max_tries=st.just(50),
    ),
    st.builds(
        ClassesPerUser, classes=st.integers(1, 5), low=st.just(0.2), high=st.floats(0.2, 1.0)
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    spec=specs,
    n_examples=st.integers(20, 400),
    n_classes=st.integers(1, 7),
    n_users=st.integers(1, 15),
    seed=st.integers(0, 2**31),
)
def test_every_example_has_exactly_one_holder(spec, n_examples, n_classes, n_users, seed):
    labels = random_labels(n_examples, n_classes, seed)
    try:
        parts = partition(spec, labels, n_users, host_rng(seed, "partition"))
    except ValueError as error:
        if not str(error).startswith(("data.partition.", "data.users")):
            raise
        assume(False)  # refused for a stated reason
    assert len(parts) == n_users
    assert_is_partition(parts, n_examples)
    sizes = np.asarray([len(part) for part in parts])
    assert sizes.min() >= getattr(spec, "min_examples", 1)


def test_the_catalog_covers_every_kind_that_draws():
    assert set(PARTITIONERS) == {
        Iid,
        Dirichlet,
        DirichletCounts,
        DirichletPooled,
        ClassesPerUser,
        QuantitySkew,
    }


@pytest.mark.parametrize(
    "spec",
    [
        Iid(),
        Dirichlet(),
        DirichletCounts(),
        DirichletPooled(),
        ClassesPerUser(),
        QuantitySkew(),
    ],
)
def test_the_seed_decides_everything(spec):
    labels = random_labels(1000, 10, 0)
    first, again, other = (
        partition(spec, labels, 8, host_rng(seed, "partition")) for seed in (3, 3, 4)
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_iid_sizes_differ_by_at_most_one():
    sizes = [len(part) for part in partition(Iid(), np.zeros(103, int), 10, host_rng(0, 0))]
    assert sorted(sizes) == [10] * 7 + [11] * 3


@settings(max_examples=60, deadline=None)
@given(alpha=st.floats(0.05, 10.0), n_users=st.integers(2, 30), seed=st.integers(0, 2**31))
def test_dirichlet_users_at_their_fair_share_take_no_more(alpha, n_users, seed):
    labels = random_labels(900, 6, seed)
    spec = Dirichlet(alpha=alpha, min_examples=1, max_tries=30)
    try:
        parts = partition(spec, labels, n_users, host_rng(seed, "partition"))
    except ValueError:
        assume(False)
    counts = class_counts(labels, parts, 6)
    before = np.cumsum(counts, axis=1) - counts
    full = before >= 900 / n_users
    assert counts[full].sum() == 0


def test_dirichlet_alpha_sets_how_far_users_differ():
    labels = np.repeat(np.arange(10), 600)

    def spread(alpha):
        parts = partition(Dirichlet(alpha=alpha), labels, 10, host_rng(0, "partition"))
        counts = class_counts(labels, parts, 10)
        return (counts / counts.sum(axis=1, keepdims=True)).std()

    assert spread(1000.0) < 0.01 < 0.08 < spread(1.0) < spread(0.1)


def test_dirichlet_shares_of_a_class_have_the_dirichlet_variance():
    # With one class nobody is full, so the first user's share is Beta(alpha, (N - 1) alpha).
    labels, alpha, n_users = np.zeros(20_000, int), 0.5, 4
    rng = host_rng(1, "partition")
    spec = Dirichlet(alpha=alpha, min_examples=1)
    shares = np.asarray(
        [[len(p) for p in partition(spec, labels, n_users, rng)] for _ in range(400)]
    )
    shares = shares / 20_000
    mean = 1 / n_users
    variance = mean * (1 - mean) / (n_users * alpha + 1)
    np.testing.assert_allclose(shares.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(shares.var(axis=0), variance, rtol=0.25)


@settings(max_examples=60, deadline=None)
@given(alpha=st.floats(0.01, 10.0), n_users=st.integers(1, 30), seed=st.integers(0, 2**31))
def test_dirichlet_counts_give_every_user_every_class(alpha, n_users, seed):
    labels = np.repeat(np.arange(6), 40)
    parts = partition(DirichletCounts(alpha=alpha), labels, n_users, host_rng(seed, "partition"))
    assert_is_partition(parts, 240)
    assert class_counts(labels, parts, 6).min() >= 1


def test_dirichlet_counts_have_the_dirichlet_variance_in_every_class():
    labels, alpha, n_users = np.repeat(np.arange(2), 20_000), 0.5, 4
    rng = host_rng(1, "partition")
    spec = DirichletCounts(alpha=alpha)
    shares = np.stack(
        [class_counts(labels, partition(spec, labels, n_users, rng), 2) for _ in range(300)]
    )
    shares = shares / 20_000  # [draws, users, classes]; the one example each is nothing here
    mean = 1 / n_users
    variance = mean * (1 - mean) / (n_users * alpha + 1)
    np.testing.assert_allclose(shares.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(shares.var(axis=0), variance, rtol=0.25)
    # No class minds what a user holds of the other, unlike where full users take no more.
    correlation = np.corrcoef(shares[:, 0, 0], shares[:, 0, 1])[0, 1]
    assert abs(correlation) < 0.2


def test_a_minimum_above_what_there_is_names_the_feasible_one():
    with pytest.raises(
        ValueError, match=r"min_examples: 10 .* 20 users needs 200 .* 150; at most 7"
    ):
        partition(Dirichlet(min_examples=10), np.zeros(150, int), 20, host_rng(0, 0))
    with pytest.raises(ValueError, match=r"at most 7 is feasible"):
        partition(QuantitySkew(min_examples=10), np.zeros(150, int), 20, host_rng(0, 0))


@pytest.mark.parametrize("kind", [Dirichlet, QuantitySkew])
def test_retries_are_bounded_and_the_error_names_the_best_draw(kind):
    spec = kind(alpha=0.05, min_examples=40, max_tries=7)
    labels = random_labels(450, 5, 0)
    with pytest.raises(ValueError, match=r"max_tries = 7 draws with alpha = 0\.05") as caught:
        partition(spec, labels, 10, host_rng(0, "partition"))
    assert "the smallest user held" in str(caught.value)
    assert "Raise data.partition.alpha or max_tries" in str(caught.value)


def test_the_minimum_that_the_error_proposes_is_reached():
    labels = random_labels(2000, 10, 0)
    spec = Dirichlet(alpha=0.5, min_examples=190, max_tries=20)
    with pytest.raises(ValueError, match="or lower") as caught:
        partition(spec, labels, 10, host_rng(0, "partition"))
    proposed = int(str(caught.value).rsplit(" ", 1)[1])
    assert 0 < proposed < 190
    lower = Dirichlet(alpha=0.5, min_examples=proposed, max_tries=20)
    parts = partition(lower, labels, 10, host_rng(0, "partition"))
    assert min(len(part) for part in parts) == proposed


@settings(max_examples=80, deadline=None)
@given(
    n_users=st.integers(1, 20),
    n_classes=st.integers(2, 12),
    classes=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
def test_every_user_holds_exactly_so_many_distinct_classes(n_users, n_classes, classes, seed):
    assume(classes <= n_classes <= n_users * classes)
    labels = np.repeat(np.arange(n_classes), 60)
    parts = partition(ClassesPerUser(classes=classes), labels, n_users, host_rng(seed, "partition"))
    held = class_counts(labels, parts, n_classes) > 0
    np.testing.assert_array_equal(held.sum(axis=1), classes)
    holders = held.sum(axis=0)
    assert holders.max() - holders.min() <= 1


def test_shares_of_a_class_stay_within_the_drawn_range():
    labels = np.repeat(np.arange(10), 6000)
    parts = partition(ClassesPerUser(classes=2), labels, 50, host_rng(0, "partition"))
    counts = class_counts(labels, parts, 10)
    held = counts[counts > 0]
    assert len(held) == 100
    # Ten holders a class, weights in [0.4, 0.6]: a share lies between these.
    assert held.min() >= 6000 * 0.4 / (0.4 + 9 * 0.6) - 10
    assert held.max() <= 6000 * 0.6 / (0.6 + 9 * 0.4) + 10
    assert held.max() > 1.2 * held.min()


@pytest.mark.parametrize(
    ("spec", "n_users", "message"),
    [
        (ClassesPerUser(classes=11), 5, "at most 10 is allowed"),
        (ClassesPerUser(classes=2), 4, "leave 2 of 10 classes with nobody; at least 3 classes"),
        (ClassesPerUser(classes=2), 60, "has 10 examples for 12 holders"),
        (DirichletCounts(), 11, "class 0 has 10 examples for 11 users.* at most 10 users"),
        (DirichletCounts(), 0, "at least 1"),
        (Iid(), 101, "at most 100 are allowed"),
        (Iid(), 0, "at least 1"),
        (Natural(), 3, "needs a source that names its users"),
    ],
)
def test_a_partition_that_cannot_exist_is_refused(spec, n_users, message):
    with pytest.raises(ValueError, match=message):
        partition(spec, np.repeat(np.arange(10), 10), n_users, host_rng(0, 0))


def test_natural_users_keep_their_examples():
    users = np.asarray([1, 0, 2, 1, 1, 0])
    parts = partition(Natural(), np.zeros(6, int), 3, host_rng(0, 0), users=users)
    assert [list(part) for part in parts] == [[1, 5], [0, 3, 4], [2]]
    with pytest.raises(ValueError, match=r"data\.users: 5, but the source names 3"):
        partition(Natural(), np.zeros(6, int), 5, host_rng(0, 0), users=users)


@pytest.mark.parametrize("spec", [Iid(), Dirichlet(min_examples=2), ClassesPerUser(classes=2)])
def test_recordings_are_given_out_whole(spec):
    groups = np.repeat(np.arange(40), 5)
    labels = groups % 4
    parts = partition(spec, labels, 6, host_rng(0, "partition"), groups=groups)
    assert_is_partition(parts, 200)
    holders = [set(groups[part]) for part in parts]
    assert sum(len(held) for held in holders) == 40


def test_a_recording_with_two_labels_is_refused():
    with pytest.raises(ValueError, match="several labels"):
        partition(Iid(), np.arange(4), 2, host_rng(0, 0), groups=np.asarray([0, 0, 1, 1]))


def test_sixty_thousand_examples_over_a_hundred_users_are_quick():
    labels = np.repeat(np.arange(10), 6000)
    for spec in (Dirichlet(alpha=0.5), ClassesPerUser(classes=3), QuantitySkew(alpha=2.0)):
        started = time.perf_counter()
        partition(spec, labels, 100, host_rng(0, "partition"))
        assert time.perf_counter() - started < 1.0


def test_specs_refuse_what_cannot_be():
    with pytest.raises(ValidationError, match=r"low = 0\.7 must not exceed high = 0\.6"):
        ClassesPerUser(low=0.7)
    with pytest.raises(ValidationError, match="greater than 0"):
        Dirichlet(alpha=0.0)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        QuantitySkew(min_examples=0)
