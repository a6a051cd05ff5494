"""Public examples: taken out of the training set, or appended from another data set."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.data import (
    Dirichlet,
    DirichletPooled,
    Iid,
    Source,
    build_split,
    class_counts,
    example_table,
    gather,
    host_rng,
    public_of_source,
    with_extra,
)

SEEDS = (0, 1, 2)


def pictures(name="private", n_train=200, n_test=50, shape=(2, 3, 1), dtype: type = np.uint8):
    rng = host_rng(len(name), "pictures")
    return Source(
        name=name,
        train_inputs=rng.integers(0, 256, (n_train, *shape)).astype(dtype),
        train_labels=rng.integers(0, 4, n_train).astype(np.int32),
        test_inputs=rng.integers(0, 256, (n_test, *shape)).astype(dtype),
        test_labels=rng.integers(0, 4, n_test).astype(np.int32),
        n_classes=4,
        class_names=tuple("abcd"),
    )


def every_other(split):
    parts = [*split.train, *split.validation, *split.test]
    return np.concatenate([*parts, split.common_validation, split.common_test])


@pytest.mark.parametrize(
    ("spec", "n_test"), [(Iid(), 50), (Iid(), 0), (DirichletPooled(alpha=2.0, min_examples=4), 50)]
)
def test_public_examples_are_training_examples_that_nobody_else_has(spec, n_test):
    source = pictures(n_test=n_test)
    drawn = []
    for seed in SEEDS:
        split = build_split(
            source, spec, 4, rng=host_rng(seed, "split"), common_validation=10, n_public=30
        )
        assert split.public.dtype == np.int32
        assert len(set(split.public.tolist())) == 30
        assert split.public.max() < 200
        assert not set(split.public) & set(every_other(split))
        assert len({*split.public, *every_other(split)}) == 200 + n_test
        drawn.append(frozenset(split.public.tolist()))
    assert len(set(drawn)) == len(SEEDS)


def test_no_public_examples_is_no_change():
    source, spec = pictures(), Dirichlet(alpha=0.5, min_examples=5)
    before = build_split(source, spec, 4, rng=host_rng(0, "split"), common_validation=10)
    split = build_split(source, spec, 4, rng=host_rng(0, "split"), common_validation=10, n_public=0)
    assert len(before.public) == len(split.public) == 0
    for one, two in zip(before.train + before.test, split.train + split.test, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_common_set_is_the_same_with_and_without_public_examples():
    for n_test in (0, 50):
        source = pictures(n_test=n_test)
        plain, public = (
            build_split(source, Iid(), 4, rng=host_rng(0, "split"), common_validation=9, n_public=n)
            for n in (0, 40)
        )
        np.testing.assert_array_equal(plain.common_test, public.common_test)


def test_examples_of_another_data_set_stand_behind_the_private_ones():
    source, other = pictures(), pictures("other", n_train=80)
    longer, rows = public_of_source(source, other, 30, SEEDS)
    table, plain = example_table(longer), example_table(source)
    np.testing.assert_array_equal(table.mean, plain.mean)  # the private set's statistics
    np.testing.assert_array_equal(table.std, plain.std)
    np.testing.assert_array_equal(table.inputs[:250], plain.inputs)
    np.testing.assert_array_equal(table.labels[:250], plain.labels)
    assert table.labels.shape[0] == table.inputs.shape[0] == len(longer.labels)
    assert not np.asarray(table.labels[250:]).any()
    for seed, chosen in zip(SEEDS, rows, strict=True):
        assert chosen.dtype == np.int32
        assert len(set(chosen.tolist())) == 30
        want = other.train_inputs[host_rng(seed, "public").permutation(80)[:30]]
        np.testing.assert_array_equal(table.inputs[chosen], want)
        inputs, _ = gather(table, jnp.asarray(chosen))
        mean, std = np.asarray(plain.mean), np.asarray(plain.std)
        wanted = (want.astype(np.float32) - mean) / std
        np.testing.assert_allclose(inputs, wanted, rtol=1e-6)
    # What no seed drew is not in the table, what several drew is there once.
    assert set(np.concatenate(rows).tolist()) == set(range(250, len(longer.labels)))
    assert not np.array_equal(rows[0], rows[1])


def test_a_seed_draws_the_same_examples_whatever_the_other_seeds_are():
    source, other = pictures(), pictures("other", n_train=80)
    many, rows = public_of_source(source, other, 20, SEEDS)
    alone, (row,) = public_of_source(source, other, 20, SEEDS[1:2])
    np.testing.assert_array_equal(
        example_table(many).inputs[rows[1]], example_table(alone).inputs[row]
    )


def test_extra_examples_are_nobodys():
    source = with_extra(pictures(), pictures("other").train_inputs[:7])
    assert len(source.labels) == 257
    split = build_split(source, Iid(), 3, rng=host_rng(0, "split"), common_validation=10)
    assert every_other(split).max() < 250
    counts = class_counts(source.labels, split.train, 4)
    assert counts.sum() == sum(len(part) for part in split.train)
    twice = with_extra(source, pictures("other").train_inputs[7:9])
    assert twice.extra_inputs is not None
    np.testing.assert_array_equal(twice.extra_inputs, pictures("other").train_inputs[:9])


def test_what_does_not_fit_is_refused():
    source = pictures()
    with pytest.raises(ValueError, match=r"data\.public\.source: 'private' is the private data"):
        public_of_source(source, source, 5, SEEDS)
    wide = pictures("wide", shape=(2, 4, 1))
    with pytest.raises(
        ValueError, match=r"uint8\[2, 4, 1\]; allowed: those of private, uint8\[2, "
    ):
        public_of_source(source, wide, 5, SEEDS)
    with pytest.raises(ValueError, match=r"found uint8\[2, 4, 1\]; allowed"):
        with_extra(source, wide.train_inputs)
    with pytest.raises(ValueError, match=r"float32.*allowed: those of private, uint8"):
        public_of_source(source, pictures("floats", dtype=np.float32), 5, SEEDS)
    for n_examples in (0, 201):
        with pytest.raises(ValueError, match=r"data\.public\.examples: .* 1 to 200"):
            public_of_source(source, pictures("other"), n_examples, SEEDS)
    with pytest.raises(ValueError, match=r"data\.public\.examples: 200 of 200 .* at most 199"):
        build_split(source, Iid(), 2, rng=host_rng(0, "split"), n_public=200, common_validation=10)
    recorded = replace(source, train_groups=np.arange(200, dtype=np.int32) // 5)
    with pytest.raises(ValueError, match=r"data\.public\.kind: 'split' .*recordings"):
        build_split(recorded, Iid(), 2, rng=host_rng(0, "split"), n_public=5)


def test_a_validation_fraction_of_zero_leaves_all_for_training():
    source = pictures()
    split = build_split(
        source,
        Iid(),
        4,
        rng=host_rng(0, "split"),
        validation_fraction=0.0,
        common_validation=10,
    )
    assert [len(part) for part in split.validation] == [0] * 4
    assert sum(len(part) for part in split.train + split.test) == 200
    groups = np.repeat(np.arange(50, dtype=np.int32), 4)
    recorded = replace(source, train_groups=groups, train_labels=groups % 4)
    with pytest.raises(ValueError, match=r"data\.validation_fraction: 0; .*recordings"):
        build_split(recorded, Iid(), 2, rng=host_rng(0, "split"), validation_fraction=0.0)
