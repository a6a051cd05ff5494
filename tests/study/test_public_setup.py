"""Public examples and pooled partitions from a settings file to the population of a study."""

from dataclasses import replace
from itertools import chain

import jax.numpy as jnp
import numpy as np
import pytest
from family_tiny import family
from rounds_tiny import TINY_ROUNDS

from fedjax_kd.data import DataSetMissing, class_counts, gather, load_source
from fedjax_kd.study import set_up
from fedjax_kd.study.check import check_study
from fedjax_kd.study.load import (
    SettingsError,
    settings_from_dict,
    settings_hash,
    settings_to_dict,
)
from fedjax_kd.study.rounds_setup import prepare_rounds
from fedjax_kd.study.settings_rounds import PublicSource, PublicSplit, Reach
from fedjax_kd.training import default_execution

POOLED = "data.partition={kind: dirichlet_pooled, alpha: 0.5, seed: 1}"


def prepared(*changes):
    settings = family("contestants=[local, fd]", "data.public=null", *changes)
    check_study(settings)
    assert settings_from_dict(settings_to_dict(settings)) == settings
    return prepare_rounds(settings, default_execution())  # pyright: ignore[reportArgumentType]


def rows(table, k):
    return np.asarray(table.indices)[k, : int(table.counts[k])].tolist()


def test_a_split_takes_public_examples_away_from_everybody():
    people = prepared("data.public={kind: split, examples: 50}").federation.people
    assert people.public.counts.tolist() == [50, 50]
    for point in range(2):
        public = set(rows(people.public, point))
        assert len(public) == 50
        assert not public & set(rows(people.common_test, point))
        for k in np.flatnonzero(np.asarray(people.point) == point):
            for table in (people.train, people.validation, people.test):
                assert not public & set(rows(table, k))
    assert set(rows(people.public, 0)) != set(rows(people.public, 1))


def test_another_data_set_stands_behind_the_private_one(monkeypatch):
    inverted = load_source("digits")
    inverted = replace(inverted, name="inverted", train_inputs=16 - inverted.train_inputs)

    def load(name, **options):
        return inverted if name == "mnist" else load_source(name, **options)

    monkeypatch.setattr(set_up, "load_source", load)
    plain = prepared()
    setup = prepared("data.public={kind: source, source: mnist, examples: 50}")
    table, people = setup.federation.table, setup.federation.people
    np.testing.assert_array_equal(people.train.indices, plain.federation.people.train.indices)
    np.testing.assert_array_equal(table.mean, plain.federation.table.mean)
    assert people.public.counts.tolist() == [50, 50]
    for point in range(2):
        index = np.asarray(people.public.indices)[point]
        assert index.min() >= 1797
        inputs, labels = gather(table, jnp.asarray(index))
        assert not np.asarray(labels).any()
        pictures = np.asarray(table.inputs)[index]
        assert {picture.tobytes() for picture in pictures} <= {
            picture.tobytes() for picture in inverted.train_inputs
        }
        assert np.isfinite(np.asarray(inputs)).all()
    assert setup.partition.equals(plain.partition)


def test_a_pooled_partition_reaches_the_population():
    setup = prepared(POOLED, "data.validation_fraction=0.0", "data.max_train=0", "data.max_test=0")
    people = setup.federation.people
    assert people.validation.counts.tolist() == [0] * 8
    for k in range(4):  # the partition's own seed: the same users under both seeds of the study
        assert rows(people.train, k) == rows(people.train, k + 4)
    held = [rows(people.train, k) + rows(people.test, k) for k in range(4)]
    assert sorted(chain(*held)) == list(range(1797))
    for k, own in enumerate(held):
        assert int(people.train.counts[k]) == len(own) * 3 // 4
    union = set(chain(*(rows(people.test, k) for k in range(4))))
    assert sorted(rows(people.common_test, 0)) == sorted(set(rows(people.common_test, 0)))
    assert set(rows(people.common_test, 0)) <= union
    counts = class_counts(setup.source.labels, [np.asarray(own) for own in held], 10)
    assert counts.sum() == 1797


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("data.public={kind: pieces}", ["data.public.kind: found 'pieces'", "split | source"]),
        ("data.public={kind: source}", ["data.public.source: missing"]),
        ("data.public={kind: split, examples: 0}", ["data.public.examples: found 0", "at least 1"]),
        ("data.public={kind: split, labelled: 1}", ["data.public.labelled: found 1", "true or"]),
        (
            "data.public={kind: source, source: mnist, labelled: true}",
            ["data.public.labelled: unknown key"],
        ),
        ("data.partition={kind: dirichlet_pooled, seed: -1}", ["data.partition.seed: found -1"]),
        ("data.validation_fraction=-0.1", ["data.validation_fraction: found -0.1", "at least 0"]),
    ],
)
def test_bad_public_settings_are_refused_in_plain_words(change, parts):
    with pytest.raises(SettingsError) as error:
        settings_from_dict(TINY_ROUNDS["pfedafm"], [change])
    for part in parts:
        assert part in str(error.value)


def test_a_source_that_cannot_be_had_is_named(tmp_path):
    source = load_source("digits")
    with pytest.raises(ValueError, match=r"data\.public\.source: 'mnits' is unknown"):
        set_up.with_public(source, PublicSource(source="mnits"), (0,))
    with pytest.raises(ValueError, match=r"data\.public\.source: 'digits' is the private data set"):
        set_up.with_public(source, PublicSource(source="digits"), (0,))
    with pytest.raises(DataSetMissing):
        set_up.with_public(source, PublicSource(source="cifar100"), (0,), tmp_path)


def test_labels_of_another_data_set_never_count():
    assert PublicSplit(labelled=True).labelled
    assert not PublicSplit().labelled
    assert not PublicSource(source="mnist").labelled


def test_public_examples_are_part_of_a_study_s_identity():
    plain = settings_from_dict(TINY_ROUNDS["pfedafm"])
    public = settings_from_dict(TINY_ROUNDS["pfedafm"], ["data.public={kind: split}"])
    assert settings_hash(plain) != settings_hash(public)


def test_only_sampling_without_a_cohort_is_poisson():
    assert Reach().poisson_rate == 1.0
    assert Reach(drop_out=0.9).poisson_rate == pytest.approx(0.1)
    assert Reach(cohort=3, drop_out=0.5).poisson_rate is None
