r"""A secure sum by pairwise masks, simulated: what clients send, and how the server adds it up.

Client i holds integers x_i, a secret b_i of its own and a secret s_ij with each neighbour j. With a
pseudo-random generator G it sends

.. math:: y_i = x_i + G(b_i) + \sum_{j > i} G(s_{ij}) - \sum_{j < i} G(s_{ij}) \mod 2^m

Those whose uploads arrive reveal (through shares that others keep) the b_i of each other and the
s_ij of neighbours who dropped out, and the server takes the masks that did not cancel out again.
The result is the plain sum modulo 2^m, to the last bit.

Secrets are drawn from one key here; agreeing on them, sharing them and the threshold of shares are
not simulated, and nothing here keeps a secret from anybody.

References: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", CCS (all clients are neighbours); Bell et al. 2020, "Secure Single-Server Aggregation
with (Poly)Logarithmic Overhead", CCS (sparse graphs).
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.exchange.secure_sum import LARGEST_MODULUS_BITS


def everybody(n_clients: int) -> np.ndarray:
    """The neighbours of each client, int32 [K, K - 1]: all others."""
    clients = np.arange(n_clients)
    return ((clients[:, None] + np.arange(1, n_clients)) % n_clients).astype(np.int32)


def ring(n_clients: int, neighbours: int) -> np.ndarray:
    """The neighbours of each client on a circle, int32 [K, D]: D / 2 on either side.

    Args:
        n_clients: K.
        neighbours: D, even and below K.

    Raises:
        ValueError: if D is odd or out of range.
    """
    if neighbours % 2 or not 2 <= neighbours < n_clients:
        raise ValueError(
            f"neighbours: {neighbours} of {n_clients} clients; allowed: an even number from 2 to"
            f" {n_clients - 1}"
        )
    steps = np.arange(1, neighbours // 2 + 1)
    clients = np.arange(n_clients)[:, None]
    return ((clients + np.concatenate([steps, -steps])) % n_clients).astype(np.int32)


def masked_sum(
    key: jax.Array,
    integers: jax.Array,
    delivered: jax.Array,
    neighbours: np.ndarray | None = None,
    *,
    bits: int,
) -> jax.Array:
    """The server's sum over the clients whose uploads arrived, by way of masked uploads.

    Args:
        key: typed key, from which all secrets are drawn.
        integers: uint32 [K, ...], below 2^m.
        delivered: bool [K]; the others shared masks before they dropped out.
        neighbours: int32 [K, D], not traced: with whom each client shares masks; None for all.
        bits: m, 1 to 32, static. The sum is that of the integers if it is below 2^m.

    Returns:
        uint32 [...].

    Raises:
        ValueError: if the integers or the graph are not as said above.
    """
    neighbours = everybody(integers.shape[0]) if neighbours is None else neighbours
    uploads = masked_uploads(key, integers, neighbours, bits=bits)
    return unmasked_sum(key, uploads, delivered, neighbours, bits=bits)


def masked_uploads(
    key: jax.Array, integers: jax.Array, neighbours: np.ndarray, *, bits: int
) -> jax.Array:
    """What each client sends, uint32 [K, ...]; arguments as for `masked_sum`."""
    _check(integers, neighbours, bits)

    def upload(client, own, theirs):
        every_one = jnp.ones(theirs.shape, bool)
        masks = _pair_masks(key, client, theirs, every_one, own.shape)
        return _modulo(own + _draw(key, client, client, own.shape) + masks, bits)

    clients = jnp.arange(integers.shape[0], dtype=jnp.int32)
    return jax.vmap(upload)(clients, integers, jnp.asarray(neighbours, jnp.int32))


def unmasked_sum(
    key: jax.Array, uploads: jax.Array, delivered: jax.Array, neighbours: np.ndarray, *, bits: int
) -> jax.Array:
    """What the server makes of the uploads that arrived, uint32 [...]; see `masked_sum`."""
    _check(uploads, neighbours, bits)

    def left_over(client, theirs):
        """Masks in a client's upload that nothing cancels: its own, and those of drop-outs."""
        shape = uploads.shape[1:]
        dropped = _pair_masks(key, client, theirs, ~delivered[theirs], shape)
        return _draw(key, client, client, shape) + dropped

    clients = jnp.arange(uploads.shape[0], dtype=jnp.int32)
    masks = jax.vmap(left_over)(clients, jnp.asarray(neighbours, jnp.int32))
    arrived = delivered.reshape(delivered.shape + (1,) * (uploads.ndim - 1))
    each = jnp.where(arrived, uploads - masks, jnp.uint32(0))
    return _modulo(jnp.sum(each, axis=0, dtype=jnp.uint32), bits)


def _pair_masks(key, client, theirs, counted, shape):
    """Sum over those neighbours that count: added by the lower number, taken off by the higher."""

    def add(total, neighbour):
        other, counts = neighbour
        mask = _draw(key, jnp.minimum(client, other), jnp.maximum(client, other), shape)
        signed = jnp.where(client < other, mask, jnp.uint32(0) - mask)
        return total + jnp.where(counts, signed, jnp.uint32(0)), None

    return jax.lax.scan(add, jnp.zeros(shape, jnp.uint32), (theirs, counted))[0]


def _draw(key, low, high, shape):
    """The mask of a pair of clients, or of one alone: uint32, all 32 bits random."""
    secret = jax.random.fold_in(jax.random.fold_in(key, low), high)
    return jax.random.bits(secret, shape, jnp.uint32)


def _modulo(integers: jax.Array, bits: int) -> jax.Array:
    return integers & jnp.uint32(2**bits - 1)


def _check(integers: jax.Array, neighbours: np.ndarray, bits: int) -> None:
    if integers.dtype != jnp.uint32:
        raise ValueError(f"integers: dtype {integers.dtype}; allowed: uint32")
    if not 1 <= bits <= LARGEST_MODULUS_BITS:
        raise ValueError(f"bits: {bits}; allowed: 1 to {LARGEST_MODULUS_BITS}")
    n_clients = integers.shape[0]
    graph = np.asarray(neighbours)
    if graph.ndim != 2 or len(graph) != n_clients:
        raise ValueError(f"neighbours: shape {graph.shape}; allowed: ({n_clients}, D)")
    if graph.size and not (graph.min() >= 0 and graph.max() < n_clients):
        raise ValueError(f"neighbours: allowed: clients 0 to {n_clients - 1}")
    adjacent = np.zeros((n_clients, n_clients), int)
    np.add.at(adjacent, (np.arange(n_clients)[:, None], graph), 1)
    if adjacent.diagonal().any() or (adjacent > 1).any() or (adjacent != adjacent.T).any():
        raise ValueError(
            "neighbours: allowed: each other client at most once, and whoever names a client is"
            " named by it, or masks would not cancel"
        )
