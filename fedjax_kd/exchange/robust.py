"""Means of clients that some bad uploads cannot move far, with absent rows left out.

For ONE server. Values are float32 [K, ..., m] of K clients, `mask` bool [K, ...] says which rows
(vectors of m numbers) a client has, and a row that nobody has comes back as zeros.
"""

import jax
import jax.numpy as jnp

_SMALLEST_DISTANCE = 1e-8


def coordinate_median(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The median of each number over the clients that have its row, float32 [..., m].

    Of an even number of clients the mean of the middle two.
    """
    ordered, count = _ascending(values, mask)
    low = _pick(ordered, jnp.maximum(count - 1, 0) // 2)
    high = _pick(ordered, count // 2)
    return jnp.where((count > 0)[..., None], 0.5 * (low + high), 0.0)


def trimmed_mean(values: jax.Array, mask: jax.Array, share: jax.typing.ArrayLike) -> jax.Array:
    """The mean of each number without the floor(share n) least and largest of its n clients.

    Args:
        values: float32 [K, ..., m].
        mask: bool [K, ...].
        share: of the clients, in [0, 0.5), a scalar; 0 gives the mean.

    Returns:
        float32 [..., m].
    """
    ordered, count = _ascending(values, mask)
    # A whole number that the product misses by its rounding is met.
    trimmed = jnp.floor(share * count.astype(jnp.float32) + 1e-4).astype(jnp.int32)
    trimmed = jnp.minimum(trimmed, jnp.maximum(count - 1, 0) // 2)
    place = jnp.arange(values.shape[0]).reshape(-1, *(1,) * count.ndim)
    kept = (place >= trimmed[None]) & (place < (count - trimmed)[None])
    total = jnp.sum(jnp.where(kept[..., None], ordered, 0.0), axis=0)
    n_kept = jnp.sum(kept, axis=0, dtype=jnp.int32).astype(values.dtype)
    return total / jnp.maximum(n_kept, 1.0)[..., None]


def geometric_median(values: jax.Array, mask: jax.Array, *, iterations: int = 20) -> jax.Array:
    r"""The vector of each row with the least sum of distances to the clients' vectors.

    By Weiszfeld's iteration, from the mean, with distances of at least 1e-8:

    .. math:: y \leftarrow \sum_k x_k / |x_k - y| \Big/ \sum_k 1 / |x_k - y|

    Args:
        values: float32 [K, ..., m].
        mask: bool [K, ...].
        iterations: static.

    Returns:
        float32 [..., m].
    """
    weight = mask.astype(values.dtype)
    clean = jnp.where(mask[..., None], values, 0.0)

    def weighted(weights):
        total = jnp.sum(weights, axis=0)
        return (
            jnp.sum(weights[..., None] * clean, axis=0)
            / jnp.where(total > 0, total, 1.0)[..., None]
        )

    def closer(_, centre):
        distance = jnp.linalg.norm(clean - centre[None], axis=-1)
        return weighted(weight / jnp.maximum(distance, _SMALLEST_DISTANCE))

    return jax.lax.fori_loop(0, iterations, closer, weighted(weight))


def _ascending(values: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each number's clients in ascending order, absent ones last, and how many there are [...]."""
    if mask.shape != values.shape[:-1]:
        raise ValueError(f"mask: shape {mask.shape}; allowed: {values.shape[:-1]}")
    ordered = jnp.sort(jnp.where(mask[..., None], values, jnp.inf), axis=0)
    return ordered, jnp.sum(mask, axis=0, dtype=jnp.int32)


def _pick(ordered: jax.Array, place: jax.Array) -> jax.Array:
    """The client at this place of each row's order: [..., m] of [K, ..., m] and int32 [...]."""
    where = jnp.minimum(place, ordered.shape[0] - 1)[None, ..., None]
    return jnp.take_along_axis(ordered, jnp.broadcast_to(where, (1, *ordered.shape[1:])), axis=0)[0]
