"""Strong users' unlabelled data: disjoint from everything else, and with classes of their own."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedjax_kd.data import (
    Dirichlet,
    Iid,
    Natural,
    Source,
    UnlabelledShards,
    UnlabelledShare,
    build_split,
    class_counts,
    host_rng,
)


def pictures(n_train, n_test=200, n_classes=10):
    labels = np.arange(n_train + n_test, dtype=np.int32) % n_classes
    inputs = np.zeros((n_train + n_test, 2, 2, 1), np.uint8)
    return Source(
        "tiny",
        inputs[:n_train],
        labels[:n_train],
        inputs[n_train:],
        labels[n_train:],
        n_classes,
        tuple("abcdefghij"[:n_classes]),
    )


def recordings(lengths, n_users=2, overlap=1):
    """Two classes; the recordings of each user in turn, `lengths[i]` windows each."""
    groups = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    labels = (groups // n_users % 2).astype(np.int32)
    return Source(
        "recorded",
        np.zeros((len(groups), 10, 6), np.float32),
        labels,
        np.zeros((0, 10, 6), np.float32),
        labels[:0],
        2,
        ("a", "b"),
        train_users=groups % n_users,
        train_groups=groups,
        group_overlap=overlap,
    )


def build(source, spec, n_users, unlabelled, seed=0, **more):
    options = {"common_validation": 20, **more}
    return build_split(
        source, spec, n_users, rng=host_rng(seed, "split"), unlabelled=unlabelled, **options
    )


def users_parts(split):
    return [*split.train, *split.validation, *split.test, *split.unlabelled]


@settings(max_examples=30, deadline=None)
@given(
    n_users=st.integers(2, 8),
    strong=st.integers(1, 8),
    each=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
def test_shards_divide_all_examples_and_weak_users_have_none(n_users, strong, each, seed):
    strong = min(strong, n_users)
    spec = Dirichlet(alpha=5.0, min_examples=10)
    split = build(pictures(2400), spec, n_users, UnlabelledShards(strong, each), seed)
    together = np.concatenate(users_parts(split))
    np.testing.assert_array_equal(np.sort(together), np.arange(2400))  # each once, all of them
    assert len(split.unlabelled) == n_users
    sizes = np.asarray([len(held) for held in split.unlabelled])
    assert (sizes[:strong] >= 10 * each).all()
    assert (sizes[strong:] == 0).all()
    labelled = zip(split.train, split.validation, split.test, strict=True)
    assert min(sum(map(len, parts)) for parts in labelled) >= 10
    assert {held.dtype for held in split.unlabelled} == {np.dtype(np.int32)}


def test_the_paper_s_numbers_of_users_and_shards():
    source = pictures(50_000, 10_000)
    spec = Dirichlet(alpha=0.1, min_examples=10, max_tries=10_000)
    split = build(source, spec, 100, UnlabelledShards())
    assert sum(len(part) for part in users_parts(split)) == 50_000
    held = [len(part) for part in split.unlabelled]
    assert min(held[:20]) >= 50
    assert held[20:] == [0] * 80
    # Independent draws: what a strong user holds with labels says nothing of what it holds without.
    mine = zip(split.train, split.validation, split.test, strict=True)
    mixes = []
    for parts in (split.unlabelled[:20], [np.concatenate(parts) for parts in mine][:20]):
        counts = class_counts(source.labels, parts, 10)
        mixes.append(counts / counts.sum(axis=1, keepdims=True))
    apart = 0.5 * np.abs(mixes[0] - mixes[1]).sum(axis=1)  # total variation
    assert apart.mean() > 0.5
    centred = [mix - mix.mean(axis=0) for mix in mixes]
    assert abs(np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1]) < 0.25


def test_shards_of_an_even_partition_have_the_same_classes():
    source = pictures(40_000)
    split = build(source, Iid(), 10, UnlabelledShards(4, 5))
    counts = class_counts(source.labels, [split.train[0], split.unlabelled[0]], 10)
    mix = counts / counts.sum(axis=1, keepdims=True)
    assert 0.5 * np.abs(mix[0] - mix[1]).sum() < 0.1


@pytest.mark.parametrize("unlabelled", [UnlabelledShards(2, 3), UnlabelledShare(2, 0.4)])
def test_a_larger_cap_only_adds_examples(unlabelled):
    few, many, all_of_them = (
        build(pictures(2000), Iid(), 5, unlabelled, max_unlabelled=cap) for cap in (7, 30, 0)
    )
    for one, two, three in zip(
        few.unlabelled, many.unlabelled, all_of_them.unlabelled, strict=True
    ):
        np.testing.assert_array_equal(one, two[:7])
        np.testing.assert_array_equal(two, three[:30])
    assert [len(held) for held in few.unlabelled] == [7, 7, 0, 0, 0]
    for one, two in zip(few.train, all_of_them.train, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_share_divides_the_training_part_of_strong_users_only():
    plain = build(pictures(2000), Iid(), 5, None)
    split = build(pictures(2000), Iid(), 5, UnlabelledShare(2, 0.25))
    assert plain.unlabelled == ()
    for user in range(5):
        both = np.concatenate([split.train[user], split.unlabelled[user]])
        np.testing.assert_array_equal(np.sort(both), np.sort(plain.train[user]))
        expected = round(0.25 * len(plain.train[user])) if user < 2 else 0
        assert len(split.unlabelled[user]) == expected
        np.testing.assert_array_equal(split.test[user], plain.test[user])
    np.testing.assert_array_equal(split.common_test, plain.common_test)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 30), min_size=8, max_size=16),
    share=st.floats(0.1, 0.9),
    overlap=st.integers(0, 3),
    how=st.sampled_from(["in_time", "whole"]),
    seed=st.integers(0, 2**31),
)
def test_windows_that_share_samples_never_stand_in_two_parts(lengths, share, overlap, how, seed):
    source = recordings([25, 25, 25, 25, *lengths], overlap=overlap)
    try:
        split = build(
            source, Natural(), 2, UnlabelledShare(1, share), seed, recordings=how, max_train=0
        )
    except ValueError as error:  # whole recordings may leave too few windows
        if how == "in_time" or "at least one" not in str(error):
            raise
        assume(False)
    part_of = np.full(len(source.train_labels), -1)
    for number, part in enumerate((split.train, split.validation, split.test, split.unlabelled)):
        part_of[np.concatenate(part)] = number
    assert source.train_groups is not None
    for gap in range(1, overlap + 1):
        same = source.train_groups[:-gap] == source.train_groups[gap:]
        one, other = part_of[:-gap][same], part_of[gap:][same]
        used = (one >= 0) & (other >= 0)
        assert (one == other)[used].all()
    assert len(split.unlabelled[0]) > 0
    assert len(split.unlabelled[1]) == 0


def test_a_recording_keeps_its_first_windows_labelled():
    source = recordings([40, 40, 40, 40])
    split = build(source, Natural(), 2, UnlabelledShare(1, 0.5))
    for name in (0, 2):  # user 0's; 40 - 10 test - 6 validation - 2 gaps leave 22
        of_user = np.arange(40 * name, 40 * name + 40)
        np.testing.assert_array_equal(np.intersect1d(split.train[0], of_user), of_user[:10])
        np.testing.assert_array_equal(np.intersect1d(split.unlabelled[0], of_user), of_user[11:22])


@pytest.mark.parametrize(
    ("spec", "n_users", "unlabelled", "message"),
    [
        (Iid(), 4, UnlabelledShards(5), r"data\.unlabelled\.strong: 5 of 4 users; at most 4"),
        (Iid(), 4, UnlabelledShare(5), r"data\.unlabelled\.strong: 5 of 4 users; at most 4"),
        (Natural(), 2, UnlabelledShards(1), r"data\.unlabelled\.kind: 'shards' needs .* 'share'"),
        (Iid(), 90, UnlabelledShare(1, 0.05), r"data\.unlabelled\.share: 0.05 of the \d+ training"),
        (
            Dirichlet(min_examples=200),
            4,
            UnlabelledShards(2, 5),
            r"at most \d+ is feasible \(data\.unlabelled asks for 10 shards beside the 4 users'",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(spec, n_users, unlabelled, message):
    with pytest.raises(ValueError, match=message):
        build(pictures(900), spec, n_users, unlabelled)


def test_specs_refuse_what_cannot_be():
    for share in (0.0, 1.0):
        with pytest.raises(ValidationError, match="share"):
            UnlabelledShare(share=share)
    with pytest.raises(ValidationError, match="strong"):
        UnlabelledShards(strong=0)
