"""A user's examples are divided without overlap, also where examples share raw samples."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_kd.data import (
    ClassesPerUser,
    Dirichlet,
    Iid,
    Natural,
    Source,
    build_split,
    class_counts,
    hold_out,
    host_rng,
)
from fedjax_kd.data.raw_watch import STEP_SAMPLES, WINDOW_SAMPLES, cut_windows


def image_source(n_train=400, n_test=0, n_classes=5):
    rng = host_rng(0, "pictures")
    return Source(
        name="tiny",
        train_inputs=rng.integers(0, 256, (n_train, 2, 2, 1), dtype=np.uint8),
        train_labels=rng.integers(0, n_classes, n_train).astype(np.int32),
        test_inputs=rng.integers(0, 256, (n_test, 2, 2, 1), dtype=np.uint8),
        test_labels=rng.integers(0, n_classes, n_test).astype(np.int32),
        n_classes=n_classes,
        class_names=tuple("abcdefgh"[:n_classes]),
    )


def recorded_source(recordings_of, lengths=(300, 800)):
    """`recordings_of[user][class]` recordings; each raw sample's six values are all its number."""
    rng = host_rng(7, "recordings")
    series, labels, subjects, start = [], [], [], 0
    for user, per_class in enumerate(recordings_of):
        for class_id, count in enumerate(per_class):
            for _ in range(count):
                length = int(rng.integers(*lengths))
                samples = np.arange(start, start + length, dtype=np.float64)
                series.append(np.repeat(samples[:, None], 6, axis=1))
                labels.append(class_id)
                subjects.append(user)
                start += length
    windows = cut_windows(series, np.asarray(labels), np.asarray(subjects))
    n_classes = len(recordings_of[0])
    return Source(
        name="recorded",
        train_inputs=windows.inputs,
        train_labels=windows.labels.astype(np.int32),
        test_inputs=windows.inputs[:0],
        test_labels=np.zeros(0, np.int32),
        n_classes=n_classes,
        class_names=tuple("abcdefgh"[:n_classes]),
        train_users=np.asarray(windows.other["client_id"], np.int32),
        train_groups=np.asarray(windows.other["series"], np.int32),
        group_overlap=1,
    )


def raw_samples(source, indices):
    return set(source.train_inputs[indices, :, 0].ravel().tolist())


def assert_disjoint(arrays):
    together = np.concatenate(list(arrays))
    assert len(np.unique(together)) == len(together)


@settings(max_examples=60, deadline=None)
@given(
    n_train=st.integers(60, 400),
    n_test=st.sampled_from([0, 80]),
    n_users=st.integers(1, 8),
    test_fraction=st.floats(0.05, 0.5),
    validation_fraction=st.floats(0.05, 0.45),
    cap=st.integers(0, 9),
    seed=st.integers(0, 2**31),
)
def test_no_example_is_used_twice_and_caps_are_kept(
    n_train, n_test, n_users, test_fraction, validation_fraction, cap, seed
):
    source = image_source(n_train, n_test)
    split = build_split(
        source,
        Iid(),
        n_users,
        rng=host_rng(seed, "split"),
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        max_train=cap,
        max_validation=cap,
        max_test=cap,
        common_validation=5,
    )
    users = split.train + split.validation + split.test
    assert_disjoint([*users, split.common_validation, split.common_test])
    for part in users:
        assert len(part) >= 1
        assert not cap or len(part) <= cap
    assert np.concatenate(users).max() < n_train
    common = np.concatenate([split.common_validation, split.common_test])
    assert len(split.common_validation) == 5
    assert len(common) == (n_test or round(0.2 * n_train))
    assert (common >= n_train).all() if n_test else (common < n_train).all()


def test_without_caps_nothing_is_lost_and_the_fractions_hold():
    source = image_source(1000, 50)
    split = build_split(source, Iid(), 4, rng=host_rng(0, "split"), common_validation=10)
    assert sum(map(len, split.train + split.validation + split.test)) == 1000
    assert [len(part) for part in split.test] == [62] * 4  # a quarter of 250, rounded to even
    assert [len(part) for part in split.validation] == [38] * 4
    assert not split.common_is_union


def test_a_user_s_test_part_has_its_classes_in_its_shares():
    # pFedAFM's code: two classes a user of CIFAR-10, four training examples for a test example.
    # There the test part is of the stock test split; here it is of the user's own training share.
    source = image_source(50_000, 100, n_classes=5)
    split = build_split(
        source,
        ClassesPerUser(classes=2),
        10,
        rng=host_rng(0, "split"),
        test_fraction=0.2,
        validation_fraction=0.0,
        common_validation=10,
    )
    train, test = (class_counts(source.labels, part, 5) for part in (split.train, split.test))
    assert ((train > 0) == (test > 0)).all()
    assert (train > 0).sum(axis=1).tolist() == [2] * 10
    assert abs(train.sum(axis=1).mean() - 4000) <= 1  # less the one validation example
    assert abs(test.sum(axis=1).mean() - 1000) <= 1
    mixes = [counts / counts.sum(axis=1, keepdims=True) for counts in (train, test)]
    assert np.abs(mixes[0] - mixes[1]).max() < 0.06


def test_a_larger_cap_only_adds_examples():
    source = image_source()
    few, many = (
        build_split(
            source, Dirichlet(), 4, rng=host_rng(0, "split"), max_train=cap, common_validation=10
        )
        for cap in (5, 11)
    )
    for small, large in zip(few.train, many.train, strict=True):
        np.testing.assert_array_equal(small, large[:5])
    np.testing.assert_array_equal(few.common_test, many.common_test)


def test_the_seed_moves_every_part_and_nothing_else_does():
    source = image_source()
    one, again, other = (
        build_split(source, Iid(), 3, rng=host_rng(seed, "split"), common_validation=10)
        for seed in (1, 1, 2)
    )
    for name in ("train", "validation", "test"):
        for first, second in zip(getattr(one, name), getattr(again, name), strict=True):
            np.testing.assert_array_equal(first, second)
        assert not np.array_equal(getattr(one, name)[0], getattr(other, name)[0])
    assert not np.array_equal(one.common_test, other.common_test)


def test_common_sizes():
    source = image_source(200, 100)
    split = build_split(
        source, Iid(), 2, rng=host_rng(0, "split"), common_validation=30, common_test=20
    )
    assert (len(split.common_validation), len(split.common_test)) == (30, 20)
    with pytest.raises(ValueError, match=r"common_test: 90 \+ 20 examples, but 100 are held out"):
        build_split(
            source, Iid(), 2, rng=host_rng(0, "split"), common_validation=90, common_test=20
        )
    with pytest.raises(ValueError, match=r"100 \+ 1 examples"):
        build_split(source, Iid(), 2, rng=host_rng(0, "split"), common_validation=100)


def test_hold_out_divides_all_examples():
    kept, held = hold_out(50, 0.3, host_rng(0, "hold"))
    assert len(held) == 15
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(50))
    with pytest.raises(ValueError, match=r"data\.common_fraction: 0.001 of 50"):
        hold_out(50, 0.001, host_rng(0, "hold"))


def test_fractions_that_leave_no_training_part_are_refused():
    with pytest.raises(ValueError, match=r"0\.6 \+ 0\.4 leave nothing for training"):
        build_split(
            image_source(),
            Iid(),
            2,
            rng=host_rng(0, 0),
            test_fraction=0.6,
            validation_fraction=0.4,
            common_validation=5,
        )


def test_a_user_with_too_few_examples_is_named():
    with pytest.raises(ValueError, match=r"user 0 holds 2 examples and has none for test"):
        build_split(image_source(6, 10), Iid(), 3, rng=host_rng(0, 0), common_validation=2)


recordings = st.lists(
    st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(lambda counts: max(counts) >= 2),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(
    recordings_of=recordings,
    test_fraction=st.floats(0.1, 0.6),
    validation_fraction=st.floats(0.05, 0.35),
    seed=st.integers(0, 2**31),
    how=st.sampled_from(["in_time", "whole"]),
)
def test_no_raw_sample_of_a_recording_is_in_two_parts(
    recordings_of, test_fraction, validation_fraction, seed, how
):
    if how == "in_time":  # long enough for three parts and two gaps
        test_fraction, validation_fraction = 0.6 * test_fraction, 0.6 * validation_fraction
    lengths = (1000, 1500) if how == "in_time" else (300, 800)
    source = recorded_source(recordings_of, lengths)
    split = build_split(
        source,
        Natural(),
        len(recordings_of),
        rng=host_rng(seed, "split"),
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        recordings=how,
    )
    parts = [np.concatenate(part) for part in (split.train, split.validation, split.test)]
    for one, two in itertools.combinations(parts, 2):
        assert not raw_samples(source, one) & raw_samples(source, two)
    assert source.train_groups is not None
    train_groups, test_groups = source.train_groups[parts[0]], source.train_groups[parts[2]]
    if how == "whole":
        assert not set(train_groups) & set(test_groups)
    for user in range(len(recordings_of)):
        mine = np.concatenate([split.train[user], split.validation[user], split.test[user]])
        assert source.train_users is not None
        assert (source.train_users[mine] == user).all()


def test_two_recordings_a_class_give_one_to_the_test_part_and_a_gap_before_the_tail():
    source = recorded_source([[2, 2]], lengths=(1100, 1101))  # 21 windows a recording
    split = build_split(source, Natural(), 1, rng=host_rng(0, "split"), recordings="whole")
    assert source.train_groups is not None
    assert len(split.test[0]) == 2 * 21
    assert len(split.validation[0]) == 2 * 6  # 15 % of the class's 42 windows
    assert len(split.train[0]) == 2 * (21 - 6 - 1)
    for class_id in range(2):
        chosen = source.train_labels[split.validation[0]] == class_id
        tail = np.sort(split.validation[0][chosen])
        np.testing.assert_array_equal(np.diff(tail), 1)
        before = split.train[0][source.train_labels[split.train[0]] == class_id]
        assert before.max() == tail.min() - 2


def test_a_recording_cut_in_time_ends_with_the_test_part_after_two_gaps():
    source = recorded_source([[2, 2]], lengths=(1100, 1101))  # 21 windows a recording
    split = build_split(source, Natural(), 1, rng=host_rng(0, "split"))
    assert source.train_groups is not None
    for name in range(4):
        train, validation, test = (
            np.sort(part[0][source.train_groups[part[0]] == name])
            for part in (split.train, split.validation, split.test)
        )
        assert (len(train), len(validation), len(test)) == (21 - 5 - 3 - 2, 3, 5)
        assert validation[0] == train[-1] + 2
        assert test[0] == validation[-1] + 2
        np.testing.assert_array_equal(np.diff(train), 1)


def test_many_recordings_are_divided_whole():
    source = recorded_source([[8, 8, 8]])
    split = build_split(source, Natural(), 1, rng=host_rng(0, "split"), recordings="whole")
    assert source.train_groups is not None
    groups = [
        set(source.train_groups[part[0]]) for part in (split.train, split.validation, split.test)
    ]
    assert [len(group) for group in groups] == [3 * 5, 3 * 1, 3 * 2]
    assert len(groups[0] | groups[1] | groups[2]) == 24
    assert sum(map(len, split.train + split.validation + split.test)) == len(source.train_labels)


def test_the_common_set_of_recordings_is_the_union_of_the_users_held_out_parts():
    source = recorded_source([[3, 3], [3, 3]])
    split = build_split(source, Natural(), 2, rng=host_rng(0, "split"), common_validation=10_000)
    assert split.common_is_union
    assert set(split.common_test) == set(np.concatenate(split.test))
    assert set(split.common_validation) == set(np.concatenate(split.validation))
    capped = build_split(source, Natural(), 2, rng=host_rng(0, "split"), common_validation=4)
    assert len(capped.common_validation) == 4


def test_recordings_are_not_torn_apart_by_other_partitions_either():
    source = recorded_source([[6, 6, 6], [6, 6, 6]])
    split = build_split(source, Iid(), 3, rng=host_rng(0, "split"))
    train, test = (np.concatenate(part) for part in (split.train, split.test))
    assert not raw_samples(source, train) & raw_samples(source, test)


def test_windows_start_every_step_and_never_cross_recordings():
    lengths = [WINDOW_SAMPLES - 1, WINDOW_SAMPLES, WINDOW_SAMPLES + 2 * STEP_SAMPLES + 7]
    series = [np.full((n, 6), i) + np.arange(n)[:, None] * 0.001 for i, n in enumerate(lengths)]
    windows = cut_windows(series, np.asarray([4, 5, 6]), np.asarray([9, 9, 3]))
    assert windows.inputs.shape == (0 + 1 + 3, WINDOW_SAMPLES, 6)
    assert windows.inputs.dtype == np.float32
    np.testing.assert_array_equal(windows.labels, [5, 6, 6, 6])
    np.testing.assert_array_equal(windows.other["client_id"], [1, 0, 0, 0])
    np.testing.assert_array_equal(windows.other["series"], [1, 2, 2, 2])
    np.testing.assert_array_equal(windows.other["position"], [0, 0, 1, 2])
    np.testing.assert_allclose(windows.inputs[2, 0], 2.05, rtol=1e-6)
