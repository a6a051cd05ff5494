"""A secure sum equals the plain integer sum, with drop-outs; fixed point; bits."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_kd.exchange import (
    ClassTable,
    PublicScores,
    bits_of,
    compose,
    largest_remainder,
    masked_sum,
    rows_of_scores,
    rows_of_table,
    secure_sum,
    traced_numbers,
)
from fedjax_kd.exchange.masks import everybody, masked_uploads, ring, unmasked_sum
from fedjax_kd.exchange.secure_sum import modulus_bits, to_integers, to_numbers

KEY = jax.random.key(11)


@partial(jax.jit, static_argnums=3)
def total_of_all(key, x, delivered, bits):
    return masked_sum(key, x, delivered, bits=bits)


def integers(n_clients: int, size: int, bits: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(0, 2**bits, (n_clients, size), dtype=np.uint64)
    return drawn.astype(np.uint32)


@pytest.mark.parametrize(("clients", "bits"), [(2, 1), (7, 4), (10, 8), (20, 16), (3, 24)])
@pytest.mark.parametrize("graph", ["everybody", "ring"])
def test_the_unmasked_sum_is_the_plain_one_with_drop_outs(clients, bits, graph):
    m = modulus_bits(bits, clients)
    neighbours = ring(clients, 2) if graph == "ring" and clients > 2 else everybody(clients)
    x = integers(clients, 13, bits)
    x[:, 0] = 2**bits - 1  # the largest sum that there is
    total = jax.jit(
        lambda delivered: masked_sum(KEY, jnp.asarray(x), delivered, neighbours, bits=m)
    )
    rng = np.random.default_rng(1)
    for share in (1.0, 0.7, 0.3, 0.0):
        delivered = rng.random(clients) < share
        plain = x[delivered].astype(np.uint64).sum(0)
        found = np.asarray(total(jnp.asarray(delivered)))
        assert found.dtype == np.uint32
        np.testing.assert_array_equal(found, plain)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), m=st.sampled_from([1, 17, 32]))
def test_beyond_the_modulus_the_sum_is_modular(seed, m):
    x = integers(5, 4, m, seed)
    delivered = np.random.default_rng(seed).random(5) < 0.6
    found = total_of_all(jax.random.key(seed), jnp.asarray(x), jnp.asarray(delivered), m)
    np.testing.assert_array_equal(found, x[delivered].astype(np.uint64).sum(0) % 2**m)


def test_single_uploads_say_nothing_and_missing_masks_do_not_cancel():
    x, m = integers(6, 4000, 4), 7
    uploads = np.asarray(masked_uploads(KEY, jnp.asarray(x), ring(6, 2), bits=m))
    assert uploads.max() < 2**m
    for upload, own in zip(uploads, x, strict=True):
        counts = np.bincount(upload, minlength=2**m)
        # About even over all 128 values (expected 31 each), whatever the 16 plain ones were.
        assert counts.min() > 8
        assert counts.max() < 62
        assert abs(np.corrcoef(upload, own)[0, 1]) < 0.06
    # With client 2 gone, adding up what arrived is wrong, and taking out what is left over right.
    delivered = np.arange(6) != 2
    naive = uploads[delivered].astype(np.uint64).sum(0) % 2**m
    plain = x[delivered].sum(0)
    assert (naive != plain).mean() > 0.9
    rest = unmasked_sum(KEY, jnp.asarray(uploads), jnp.asarray(delivered), ring(6, 2), bits=m)
    np.testing.assert_array_equal(rest, plain)


def test_another_key_gives_other_masks_and_the_same_sum():
    x = jnp.asarray(integers(4, 50, 4))
    graph, everyone = everybody(4), jnp.ones(4, bool)
    one, other = (masked_uploads(jax.random.key(k), x, graph, bits=9) for k in (0, 1))
    assert (np.asarray(one) != np.asarray(other)).mean() > 0.9
    sums = [masked_sum(jax.random.key(k), x, everyone, graph, bits=9) for k in (0, 1)]
    np.testing.assert_array_equal(sums[0], sums[1])


def test_arrays_of_any_shape():
    x = integers(4, 24, 6).reshape(4, 2, 3, 4)
    delivered = jnp.array([True, False, True, True])
    found = total_of_all(KEY, jnp.asarray(x), delivered, 8)
    np.testing.assert_array_equal(found, x[[0, 2, 3]].sum(0))


def test_graphs():
    np.testing.assert_array_equal(np.sort(everybody(4), 1)[1], [0, 2, 3])
    np.testing.assert_array_equal(np.sort(ring(6, 4), 1)[0], [1, 2, 4, 5])
    for bad, message in ((3, "neighbours: 3 of 6"), (6, "neighbours: 6 of 6")):
        with pytest.raises(ValueError, match=message):
            ring(6, bad)
    x = jnp.zeros((3, 2), jnp.uint32)
    lonely = np.array([[1], [2], [0]])
    with pytest.raises(ValueError, match="masks would not cancel"):
        masked_sum(KEY, x, jnp.ones(3, bool), lonely, bits=4)
    with pytest.raises(ValueError, match="shape"):
        masked_sum(KEY, x, jnp.ones(3, bool), everybody(4), bits=4)
    with pytest.raises(ValueError, match="dtype int32; allowed: uint32"):
        masked_sum(KEY, x.astype(jnp.int32), jnp.ones(3, bool), bits=4)
    with pytest.raises(ValueError, match="bits: 33"):
        masked_sum(KEY, x, jnp.ones(3, bool), bits=33)


@pytest.mark.parametrize(
    ("clients", "expected"),
    [(20, [5, 9, 13, 21]), (100, [7, 11, 15, 23]), (1000, [10, 14, 18, 26])],
)
def test_bits_of_a_sum(clients, expected):
    found = [modulus_bits(bits, clients) for bits in (1, 4, 8, 16)]
    assert found == expected
    closed = [math.ceil(math.log2(clients * (2**bits - 1) + 1)) for bits in (1, 4, 8, 16)]
    assert found == closed


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 8, 16, 24])
def test_integers_and_back_through_a_masked_sum(signed, bits):
    clients = 5
    x = np.random.default_rng(bits).uniform(-1.2 if signed else 0, 1.2, (clients, 60))
    x[:, 0] = 0
    x = x.astype(np.float32)
    whole = to_integers(jnp.asarray(x), bits, 1.0, signed=signed)
    assert int(whole.max()) <= 2**bits - 1
    delivered = np.array([True, True, False, True, True])
    total = total_of_all(KEY, whole, jnp.asarray(delivered), modulus_bits(bits, clients))
    summands = jnp.uint32(delivered.sum())
    found = np.asarray(to_numbers(total, bits, 1.0, signed=signed, summands=summands))
    clipped = np.clip(x, -1, 1)[delivered].astype(np.float64).sum(0)
    step = 1 / (2 ** (bits - 1) - 1) if signed else 1 / (2**bits - 1)
    np.testing.assert_allclose(found, clipped, atol=4 * 0.5 * step + 1e-6)
    assert found[0] == 0
    single = np.asarray(to_numbers(whole, bits, 1.0, signed=signed))
    np.testing.assert_allclose(found, single[delivered].sum(0), atol=1e-6)


def test_absent_rows_cost_as_much_as_present_ones():
    scores = PublicScores(jnp.full((6, 10), 0.1), jnp.array([True] * 2 + [False] * 4))
    sent = rows_of_scores(scores)
    channel = secure_sum(8, 20, signed=False)
    out = channel.send(KEY, (), traced_numbers(channel), sent)[1]
    assert float(bits_of(out)) == 6 * 10 * 13
    np.testing.assert_array_equal(out.rows, scores.mask)
    np.testing.assert_allclose(out.values[0], np.full(10, 0.1), atol=1 / 255)
    counted = secure_sum(8, 20, signed=False, count_rows=True)
    out = counted.send(KEY, (), traced_numbers(counted), sent)[1]
    assert float(bits_of(out)) == 6 * (10 * 13 + 5)


def test_levels_of_a_quantiser_survive_as_they_are():
    drawn = np.random.default_rng(0).dirichlet([0.5] * 10, 30).astype(np.float32)
    sent = rows_of_scores(PublicScores(jnp.asarray(drawn), jnp.ones(30, bool)), probabilities=True)
    alone = largest_remainder(4)
    both = compose(alone, secure_sum(4, 20, signed=False))
    levels = alone.send(KEY, (), (), sent)[1].values
    out = both.send(KEY, both.init(sent), traced_numbers(both), sent)[1]
    np.testing.assert_allclose(out.values, levels, atol=1e-7)
    assert float(bits_of(out)) == 30 * 10 * 9


def test_counts_of_a_class_table_add_up_through_the_sum():
    tables = [
        ClassTable(
            totals=jnp.asarray(np.random.default_rng(k).uniform(0, 1, (3, 4)), jnp.float32),
            counts=jnp.asarray([1.0, 0.0, float(k % 2)]),
            round=jnp.int32(0),
        )
        for k in range(4)
    ]
    channel = secure_sum(12, 4, signed=False)
    numbers = traced_numbers(channel)
    arrived = [channel.send(KEY, (), numbers, rows_of_table(table))[1] for table in tables]
    counts = np.sum([np.asarray(each.values)[:, -1] for each in arrived], axis=0)
    np.testing.assert_allclose(counts, [4, 0, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1, "clients": 5}, "bits: 1 with signed numbers"),
        ({"bits": 0, "clients": 5}, "bits: 0; allowed: an integer from 1 to 24"),
        ({"bits": 24, "clients": 1000}, "bits: 24 for 1000 clients take 34 bits"),
        ({"bits": 4, "clients": 0}, "clients: 0"),
        ({"bits": 4, "clients": 5, "largest": 0.0}, "largest: 0.0; allowed: above 0"),
    ],
)
def test_options_of_a_sum_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        secure_sum(**options)
