"""What a server makes of its clients' uploads by averaging, with absent rows left out.

For ONE server and the K clients stacked on a first axis; `by_server` shapes the common client axis
for `jax.vmap` over servers.
"""

from typing import Any

import jax
import jax.numpy as jnp

Tree = Any
_HIGHEST = jax.lax.Precision.HIGHEST


def mean_over_clients(
    values: Tree, weights: jax.Array, mask: Tree = None, *, otherwise: Tree = None
) -> Tree:
    r"""Weighted mean over those clients that have something, entry by entry.

    .. math:: \sum_k w_k m_k x_k / \sum_k w_k m_k

    Args:
        values: pytree of float32 [K, ...].
        weights: float32 [K], at least 0: 0 for a client that is not there, n_k or 1 for others.
        mask: bool, or floats at least 0: [K, ...] with the first axes of `values`, either one array
            for all leaves or a pytree of one for each; None for all there.
        otherwise: pytree [...], what stands where nobody has anything; None for zeros.

    Returns:
        The pytree of float32 [...].
    """
    if mask is None or isinstance(mask, jax.Array):
        mask = jax.tree.map(lambda _: mask, values) if mask is not None else None
    if otherwise is None:
        otherwise = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), values)

    def average(leaf, fallback, there=None):
        weight = _trailing(weights, 1 if there is None else there.ndim)
        weight = weight if there is None else weight * there.astype(leaf.dtype)
        full = _trailing(weight, leaf.ndim)
        total, sums = jnp.sum(weight, axis=0), jnp.sum(jnp.where(full > 0, full * leaf, 0.0), 0)
        total = _trailing(total, leaf.ndim - 1)
        return jnp.where(total > 0, sums / jnp.where(total > 0, total, 1.0), fallback)

    if mask is None:
        return jax.tree.map(average, values, otherwise)
    return jax.tree.map(average, values, otherwise, mask)


def mix(
    matrix: jax.Array, values: jax.Array, mask: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    r"""Every receiver's own mean: row i of the matrix weighs the senders.

    .. math:: y_i = \sum_j M_{ij} m_j x_j / \sum_j M_{ij} m_j

    Args:
        matrix: float32 [I, J], at least 0; I receivers, J senders.
        values: float32 [J, ..., m].
        mask: bool, or floats at least 0 such as counts, [J, ...]: which rows a sender has; None for
            all.

    Returns:
        float32 [I, ..., m], zeros where a receiver hears of nobody, and bool [I, ...], where it
        does.
    """
    lead = values.shape[:-1]
    share = jnp.ones(lead, values.dtype) if mask is None else mask.astype(values.dtype)
    if share.shape != lead:
        raise ValueError(f"mask: shape {share.shape}; allowed: {lead}, as the rows of the values")
    there = jnp.where(share[..., None] > 0, share[..., None] * values, 0.0)
    sums = jnp.einsum("ij,j...->i...", matrix, there, precision=_HIGHEST)
    total = jnp.einsum("ij,j...->i...", matrix, share, precision=_HIGHEST)
    heard = total > 0
    return jnp.where(heard[..., None], sums / jnp.where(heard, total, 1.0)[..., None], 0.0), heard


def leave_one_out(n_clients: int) -> jax.Array:
    """The mixing matrix 1 - I, [K, K]: everybody learns from all others."""
    return 1.0 - jnp.eye(n_clients, dtype=jnp.float32)


def by_server(tree: Tree, n_servers: int) -> Tree:
    """Arrays [K, ...] of the common client axis as [S, K / S, ...], one row per server.

    Args:
        tree: pytree of arrays, clients in the order of their servers, equally many of each.
        n_servers: S.

    Raises:
        ValueError: if K is no multiple of S.
    """

    def split(leaf):
        if leaf.shape[0] % n_servers:
            raise ValueError(
                f"clients: {leaf.shape[0]} for {n_servers} servers; allowed: equally many each"
            )
        return leaf.reshape(n_servers, -1, *leaf.shape[1:])

    return jax.tree.map(split, tree)


def _trailing(array: jax.Array, ndim: int) -> jax.Array:
    return array.reshape(array.shape + (1,) * (ndim - array.ndim))
