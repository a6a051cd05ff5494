"""Server kernels: means, mixing, sharpening and robust means against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.exchange import (
    by_server,
    coordinate_median,
    geometric_median,
    leave_one_out,
    mean_over_clients,
    mix,
    sharpen_by_power,
    sharpen_by_softmax,
    trimmed_mean,
)

K, C, M = 5, 4, 3
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(K, C, M)).astype(np.float32)
MASK = RNG.random((K, C)) < 0.5
MASK[:, 0], MASK[:, 1], MASK[1:, 2], MASK[0, 2] = True, False, False, True


def test_masked_weighted_mean():
    weights = np.array([3.0, 0.0, 1.0, 2.0, 5.0], np.float32)
    old = np.full((C, M), 9.0, np.float32)
    found = mean_over_clients(
        jnp.asarray(VALUES), jnp.asarray(weights), jnp.asarray(MASK), otherwise=jnp.asarray(old)
    )
    for c in range(C):
        share = weights * MASK[:, c]
        expected = (share @ VALUES[:, c]) / share.sum() if share.sum() else old[c]
        np.testing.assert_allclose(found[c], expected, rtol=1e-5)
    np.testing.assert_array_equal(found[1], old[1])


def test_mean_of_parameters_with_masks_of_their_entries():
    tree = {"w": jnp.asarray(VALUES), "b": jnp.asarray(VALUES[:, 0])}
    weights = jnp.arange(1.0, K + 1)
    plain = mean_over_clients(tree, weights)
    share = np.arange(1, K + 1) / 15
    np.testing.assert_allclose(plain["w"], np.einsum("k,kcm->cm", share, VALUES), rtol=1e-5)
    entries = {"w": jnp.asarray(RNG.random((K, C, M)) < 0.6), "b": jnp.ones((K, M), bool)}
    found = mean_over_clients(tree, weights, entries, otherwise={"w": plain["w"], "b": plain["b"]})
    there = np.asarray(entries["w"]) * np.arange(1, K + 1)[:, None, None]
    expected = np.where(
        there.sum(0) > 0,
        (there * VALUES).sum(0) / np.maximum(there.sum(0), 1e-9),
        plain["w"],
    )
    np.testing.assert_allclose(found["w"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["b"], plain["b"], rtol=1e-6)


def test_a_client_of_weight_zero_leaves_the_mean_alone_whatever_it_sends():
    spoilt = VALUES.copy()
    spoilt[2] = np.nan
    weights = jnp.array([1.0, 1.0, 0.0, 1.0, 1.0])
    found = mean_over_clients(jnp.asarray(spoilt), weights)
    np.testing.assert_allclose(found, VALUES[[0, 1, 3, 4]].mean(0), rtol=1e-5)
    nobody = mean_over_clients(jnp.asarray(VALUES), jnp.zeros(K))
    np.testing.assert_array_equal(nobody, np.zeros((C, M)))


def test_the_order_of_clients_does_not_matter():
    order = np.array([3, 1, 4, 0, 2])
    weights = np.arange(1.0, K + 1, dtype=np.float32)
    one = mean_over_clients(*map(jnp.asarray, (VALUES, weights, MASK)))
    other = mean_over_clients(*map(jnp.asarray, (VALUES[order], weights[order], MASK[order])))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_mixing_with_the_identity_is_no_exchange():
    found, heard = mix(jnp.eye(K), jnp.asarray(VALUES), jnp.asarray(MASK))
    np.testing.assert_array_equal(heard, MASK)
    np.testing.assert_array_equal(found, np.where(MASK[..., None], VALUES, 0))
    whole, _ = mix(jnp.eye(K), jnp.asarray(VALUES))
    np.testing.assert_array_equal(whole, VALUES)


def test_one_minus_the_identity_is_leave_one_out_with_absent_classes():
    found, heard = mix(leave_one_out(K), jnp.asarray(VALUES), jnp.asarray(MASK))
    for k in range(K):
        for c in range(C):
            others = [j for j in range(K) if j != k and MASK[j, c]]
            assert bool(heard[k, c]) == bool(others)
            expected = np.mean(VALUES[others, c], axis=0) if others else np.zeros(M)
            np.testing.assert_allclose(found[k, c], expected, atol=1e-6)
    assert not heard[0, 2]
    assert heard[1, 2]


def test_mixing_by_counts_and_by_clusters():
    counts = RNG.integers(0, 4, (K, C)).astype(np.float32)
    found, _ = mix(jnp.ones((1, K)), jnp.asarray(VALUES), jnp.asarray(counts))
    expected = mean_over_clients(jnp.asarray(VALUES), jnp.ones(K), jnp.asarray(counts))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    cluster = jnp.asarray(np.array([[1, 0, 1, 0, 0], [0, 1, 0, 1, 1]], np.float32))
    found, _ = mix(cluster, jnp.asarray(VALUES))
    np.testing.assert_allclose(found[0], VALUES[[0, 2]].mean(0), atol=1e-6)
    with pytest.raises(ValueError, match="mask: shape"):
        mix(cluster, jnp.asarray(VALUES), jnp.ones(K))


def test_servers_side_by_side():
    values = jnp.asarray(RNG.normal(size=(6, C, M)), jnp.float32)
    weights = jnp.arange(1.0, 7.0)
    found = jax.vmap(mean_over_clients)(*by_server((values, weights), 2))
    for s in range(2):
        own = slice(3 * s, 3 * s + 3)
        np.testing.assert_allclose(
            found[s], mean_over_clients(values[own], weights[own]), atol=1e-6
        )
    with pytest.raises(ValueError, match="clients: 6 for 4 servers"):
        by_server(values, 4)


def test_sharpening_by_a_power():
    rows = RNG.dirichlet([0.5] * C, 20).astype(np.float32)
    rows[0] = [0.0, 0.0, 1.0, 0.0]
    np.testing.assert_allclose(sharpen_by_power(jnp.asarray(rows), 1.0), rows, atol=1e-6)
    squared = rows**2 / (rows**2).sum(1, keepdims=True)
    np.testing.assert_allclose(sharpen_by_power(jnp.asarray(rows), 2.0), squared, atol=1e-6)
    np.testing.assert_allclose(sharpen_by_power(jnp.zeros((1, 4)), 2.0), [[0.25] * 4])
    mapped = jax.vmap(sharpen_by_power, in_axes=(None, 0))(jnp.asarray(rows), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(mapped[1], squared, atol=1e-6)


def test_sharpening_by_a_softmax_of_probabilities():
    rows = RNG.dirichlet([0.5] * C, 20).astype(np.float32)
    found = sharpen_by_softmax(jnp.asarray(rows), 0.1)
    expected = np.exp(rows / 0.1) / np.exp(rows / 0.1).sum(1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    flat = np.asarray(sharpen_by_softmax(jnp.asarray(rows), 1.0))
    assert np.abs(flat - rows).max() > 0.1
    np.testing.assert_array_equal(found.argmax(1), rows.argmax(1))


def test_median_over_those_who_are_there():
    found = coordinate_median(jnp.asarray(VALUES), jnp.asarray(MASK))
    for c in range(C):
        there = VALUES[MASK[:, c], c]
        expected = np.median(there, axis=0) if len(there) else np.zeros(M)
        np.testing.assert_allclose(found[c], expected, rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.4, 0.49])
def test_trimmed_mean(share):
    values = RNG.normal(size=(10, C, M)).astype(np.float32)
    mask = RNG.random((10, C)) < 0.7
    mask[:, 0], mask[:, 1] = True, False
    found = trimmed_mean(jnp.asarray(values), jnp.asarray(mask), jnp.float32(share))
    for c in range(C):
        there = np.sort(values[mask[:, c], c], axis=0)
        cut = int(np.floor(round(share * len(there), 6)))
        expected = there[cut : len(there) - cut].mean(0) if len(there) else np.zeros(M)
        np.testing.assert_allclose(found[c], expected, atol=1e-6)


def test_geometric_median_has_the_least_distance_and_bad_uploads_do_not_move_it():
    values = RNG.normal(size=(9, C, M)).astype(np.float32)
    mask = np.ones((9, C), bool)
    mask[5:, 1], mask[:, 3] = False, False
    found = np.asarray(
        geometric_median(jnp.asarray(values), jnp.asarray(mask), iterations=200), np.float64
    )

    def cost(centre, c):
        return np.linalg.norm(values[mask[:, c], c] - centre, axis=1).sum()

    for c in range(3):
        for step in np.vstack([np.eye(M), -np.eye(M)]) * 0.02:
            assert cost(found[c], c) <= cost(found[c] + step, c) + 1e-6
    np.testing.assert_array_equal(found[3], np.zeros(M))
    spoilt = values.copy()
    spoilt[:2] = 1e4
    for robust in (geometric_median, coordinate_median):
        moved = np.asarray(robust(jnp.asarray(spoilt), jnp.asarray(mask)))
        assert np.abs(moved[0]).max() < 4
    trimmed = trimmed_mean(jnp.asarray(spoilt), jnp.asarray(mask), 0.25)
    assert np.abs(np.asarray(trimmed)[0]).max() < 4
    assert np.abs(np.asarray(spoilt)[:, 0].mean(0)).max() > 1e3


def test_robust_means_of_single_rows_may_be_mapped():
    flat = jnp.asarray(VALUES[:, 0])
    for robust in (coordinate_median, geometric_median, lambda v, m: trimmed_mean(v, m, 0.2)):
        alone = jax.jit(robust)(flat, jnp.ones(K, bool))
        mapped = jax.jit(jax.vmap(robust))(jnp.stack([flat, flat]), jnp.ones((2, K), bool))
        np.testing.assert_allclose(mapped[1], alone, atol=1e-6)
