"""The quantisers against exhaustive search, their closed forms, and their limits."""

import math
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_kd.exchange import (
    PublicScores,
    bits_of,
    ideal_entropy_bits,
    largest_remainder,
    rows_of_parameters,
    rows_of_scores,
    to_levels,
    uniform,
)
from fedjax_kd.exchange.quantise import largest_remainder_row_bits

KEY = jax.random.key(0)
levels = jax.jit(to_levels, static_argnums=1)
entropy = jax.jit(ideal_entropy_bits, static_argnums=1)


def simplex(n: int, size: int, seed: int = 0, concentration: float = 0.7) -> np.ndarray:
    drawn = np.random.default_rng(seed).dirichlet([concentration] * size, n)
    return drawn.astype(np.float32)


def probabilities(n: int, size: int, mask=None):
    there = np.ones(n, bool) if mask is None else np.array(mask)
    scores = PublicScores(jnp.asarray(simplex(n, size)), jnp.asarray(there))
    return rows_of_scores(scores, probabilities=True)


def through(channel, sent):
    return jax.jit(channel.send)(KEY, channel.init(sent), channel.numbers, sent)[1]


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_largest_remainders_are_nearest_of_all_rows(bits):
    n = 2**bits - 1
    grid = np.array([q for q in product(range(n + 1), repeat=4) if sum(q) == n]) / n
    for seed, concentration in enumerate((0.2, 1.0, 5.0)):
        rows = simplex(100, 4, seed, concentration)
        found = np.asarray(levels(jnp.asarray(rows), bits), np.float64)
        whole = found * n
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-5)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
        best = np.abs(grid[None] - rows[:, None].astype(np.float64)).sum(2).min(1)
        np.testing.assert_allclose(np.abs(found - rows).sum(1), best, atol=2e-6)


def test_one_bit_is_one_hot_at_the_largest_probability():
    rows = simplex(200, 10)
    found = np.asarray(levels(jnp.asarray(rows), 1))
    np.testing.assert_array_equal(found, np.eye(10, dtype=np.float32)[rows.argmax(1)])
    tie = jnp.array([[0.25, 0.25, 0.25, 0.25], [0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(np.argmax(levels(tie, 1), axis=1), [0, 1, 3])
    np.testing.assert_array_equal(np.sum(levels(tie, 1), axis=1), [1, 1, 1])


@settings(deadline=None, max_examples=30)
@given(bits=st.integers(1, 16), seed=st.integers(0, 10**6))
def test_many_bits_leave_rows_as_they_are(bits, seed):
    rows = simplex(20, 7, seed)
    found = np.asarray(levels(jnp.asarray(rows), bits))
    assert np.abs(found - rows).max() <= 1 / (2**bits - 1) + 1e-6
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "bits", "expected"),
    [
        (10, 1, 3.3),
        (10, 2, 7.8),
        (10, 4, 20.3),
        (10, 8, 53.7),
        (100, 1, 6.6),
        (100, 2, 17.4),
        (100, 4, 60.9),
        (100, 8, 298),
    ],
)
def test_a_row_takes_the_logarithm_of_the_number_of_its_values(classes, bits, expected):
    found = largest_remainder_row_bits(bits, classes)
    assert found == pytest.approx(expected, abs=0.5 if expected > 100 else 0.05)
    sent = probabilities(6, classes, [True, True, False, True, True, False])
    out = through(largest_remainder(bits), sent)
    assert float(bits_of(out)) == pytest.approx(4 * found, rel=1e-6)
    assert not np.asarray(out.values)[2].any()


def test_five_thousand_one_bit_rows_of_a_hundred_classes_take_33_kilobits():
    sent = probabilities(5000, 100)
    out = through(largest_remainder(1), sent)
    assert float(bits_of(out)) == pytest.approx(5000 * math.log2(100), rel=1e-6)
    assert float(bits_of(out)) / 32 == pytest.approx(1040, rel=0.01)


def test_entropy_of_one_bit_rows_is_that_of_their_classes():
    classes = np.array([0, 0, 0, 1, 2, 2])
    mask = jnp.asarray([True] * 5 + [False])
    scores = PublicScores(jnp.eye(4)[jnp.asarray(classes)], mask)
    out = through(largest_remainder(1), rows_of_scores(scores, probabilities=True))
    share = np.array([3, 1, 1]) / 5
    assert float(entropy(out, 1)) == pytest.approx(-5 * (share * np.log2(share)).sum())
    certain = PublicScores(jnp.eye(4)[jnp.zeros(6, jnp.int32)], jnp.ones(6, bool))
    assert float(entropy(rows_of_scores(certain), 1)) == 0


def test_entropy_of_many_levels_is_that_of_the_numbers():
    out = through(largest_remainder(3), probabilities(50, 4, [True] * 40 + [False] * 10))
    symbols = np.round(np.asarray(out.values)[:40] * 7).astype(int).ravel()
    share = np.bincount(symbols) / symbols.size
    share = share[share > 0]
    expected = -symbols.size * (share * np.log2(share)).sum()
    assert float(entropy(out, 3)) == pytest.approx(expected, rel=1e-5)


def test_a_uniform_grid_keeps_the_ends_and_rounds_to_the_nearest():
    rows = np.random.default_rng(3).normal(size=(6, 40)).astype(np.float32)
    mask = jnp.array([True, True, False, True, True, True])
    sent = rows_of_scores(PublicScores(jnp.asarray(rows), mask))
    for bits in (1, 2, 8):
        out = through(uniform(bits), sent)
        found = np.asarray(out.values)[np.asarray(mask)]
        given_rows = rows[np.asarray(mask)]
        span = given_rows.max(1) - given_rows.min(1)
        half_step = span / (2**bits - 1) / 2
        assert (np.abs(found - given_rows).max(1) <= half_step * (1 + 1e-4)).all()
        np.testing.assert_allclose(found.min(1), given_rows.min(1), rtol=1e-6)
        np.testing.assert_allclose(found.max(1), given_rows.max(1), rtol=1e-5)
        assert all(len(np.unique(row)) <= 2**bits for row in found)
        assert float(bits_of(out)) == 5 * (40 * bits + 64)
        assert not np.asarray(out.values)[2].any()


def test_a_uniform_grid_of_equal_numbers_and_of_sub_models():
    tree = {"w": jnp.array([[2.0, 2.0], [2.0, 7.0]]), "b": jnp.ones(2)}
    mask = {"w": jnp.array([[1, 1], [1, 0]]), "b": jnp.zeros(2, bool)}
    out = through(uniform(4), rows_of_parameters(tree, mask))
    np.testing.assert_array_equal(out.values["w"], [[2, 2, 2, 0]])
    np.testing.assert_array_equal(out.values["b"], [[0, 0]])
    assert float(bits_of(out)) == 3 * 4 + 64


@pytest.mark.parametrize("bits", [0, 17, 2.0, True])
@pytest.mark.parametrize("build", [largest_remainder, uniform])
def test_bits_out_of_range_are_refused(build, bits):
    with pytest.raises(ValueError, match=r"bits: .*allowed: an integer from 1 to 16"):
        build(bits)


def test_rows_that_are_no_probabilities_are_refused():
    scores = PublicScores(jnp.zeros((2, 3)), jnp.ones(2, bool))
    with pytest.raises(ValueError, match=r"largest_remainder.*probability vectors"):
        largest_remainder(2).init(rows_of_scores(scores))
