"""Class tables: vectors added up by class, what distillation by class statistics exchanges.

A table is a sum and a count per class, so tables of clients add up to the server's, a client can
take its own share out of a server's table, and a class that somebody lacks is a zero count. Rows of
absent classes are not sent: a present class costs its vector, and its count where it needs one.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.data import ExampleTable, gather

BITS_PER_VALUE = 32
SMALLEST_PROBABILITY = 1e-7


@struct.dataclass
class ClassTable:
    """Vectors [m] added up by class, of one client or server, or stacked ones.

    Attributes:
        totals: float32 [..., C, m], row c for class c.
        counts: float32 [..., C], what to divide row c by; 0 for a class without vectors.
        round: int32 [...], the round it was made in; -1 for none yet.
    """

    totals: jax.Array
    counts: jax.Array
    round: jax.Array


def empty(n: int, n_classes: int, size: int) -> ClassTable:
    """`n` stacked tables without any class, for vectors of this size."""
    return ClassTable(
        totals=jnp.zeros((n, n_classes, size), jnp.float32),
        counts=jnp.zeros((n, n_classes), jnp.float32),
        round=jnp.full(n, -1, jnp.int32),
    )


def add_by_class(
    totals: jax.Array, counts: jax.Array, vectors: jax.Array, labels: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Adds a batch's vectors [B, m] to the row of their label, where `mask` [B] is True.

    Args:
        totals: float32 [C, m].
        counts: float32 [C].
        vectors: float32 [B, m].
        labels: int32 [B].
        mask: bool [B].

    Returns:
        The new totals and counts.
    """
    belongs = jax.nn.one_hot(labels, counts.shape[0]) * mask.astype(jnp.float32)[:, None]
    added = jnp.matmul(belongs.T, vectors, precision=jax.lax.Precision.HIGHEST)
    return totals + added, counts + jnp.sum(belongs, axis=0)


def of_rows(
    vectors: Callable[[jax.Array], jax.Array],
    table: ExampleTable,
    rows: jax.Array,
    count: jax.Array,
    *,
    n_classes: int,
    size: int,
    batch_size: int,
) -> tuple[jax.Array, jax.Array]:
    """Totals and counts over all examples of ONE client.

    Args:
        vectors: inputs [B, ...] to vectors [B, m].
        table: the example table.
        rows: int32 [n_max], the client's rows of it.
        count: int32 scalar, valid entries of `rows`; the work follows it.
        n_classes: C.
        size: m.
        batch_size: examples at a time, static.

    Returns:
        float32 [C, m] and [C].
    """
    padded = jnp.pad(rows, (0, -rows.shape[0] % batch_size))

    def add_batch(index, carry):
        start = index * batch_size
        inputs, labels = gather(table, jax.lax.dynamic_slice(padded, (start,), (batch_size,)))
        mask = start + jnp.arange(batch_size) < count
        totals, counts = carry
        return add_by_class(totals, counts, vectors(inputs), labels, mask)

    blank = (jnp.zeros((n_classes, size), jnp.float32), jnp.zeros(n_classes, jnp.float32))
    return jax.lax.fori_loop(0, (count + batch_size - 1) // batch_size, add_batch, blank)


def one_vote_a_class(totals: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """ONE client's means [C, m] and counts [C] of 1, so that clients that hold a class weigh alike.

    Args:
        totals: float32 [C, m].
        counts: float32 [C].
    """
    return totals / jnp.maximum(counts, 1.0)[:, None], (counts > 0.5).astype(jnp.float32)


def renewed(
    old: ClassTable,
    totals: jax.Array,
    counts: jax.Array,
    heard: jax.Array,
    index: jax.Array,
    *,
    keep_absent: bool = False,
) -> ClassTable:
    """The servers' tables after a round.

    Args:
        old: the servers' tables [S] so far, kept by servers that heard of nobody.
        totals: float32 [S, C, m], sums of what the participants sent.
        counts: float32 [S, C], likewise.
        heard: int32 [S], how many participants there were.
        index: int32 scalar, the round.
        keep_absent: static; whether a class that nobody sent keeps its old row, or is forgotten.

    Returns:
        Tables [S].
    """
    news = jnp.broadcast_to((heard > 0)[:, None], counts.shape)
    if keep_absent:
        news &= counts > 0.5
    return ClassTable(
        totals=jnp.where(news[..., None], totals, old.totals),
        counts=jnp.where(news, counts, old.counts),
        round=jnp.where(heard > 0, index.astype(jnp.int32), old.round),
    )


def without(server: ClassTable, own: ClassTable) -> ClassTable:
    """One server's table less the share of one client, if the client's table is part of it.

    Args:
        server: one table.
        own: what the client sent last; part of the server's table if both are of one round.
    """
    included = ((own.round == server.round) & (own.round >= 0)).astype(jnp.float32)
    return ClassTable(
        totals=server.totals - included * own.totals,
        counts=server.counts - included * own.counts,
        round=server.round,
    )


def means(table: ClassTable) -> tuple[jax.Array, jax.Array]:
    """Mean vectors [..., C, m], zeros for absent classes, and which are present, bool [..., C]."""
    present = table.counts > 0.5  # whole numbers
    mean = table.totals / jnp.where(present, table.counts, 1.0)[..., None]
    return jnp.where(present[..., None], mean, 0.0), present


def soft_targets(table: ClassTable) -> tuple[jax.Array, jax.Array]:
    """What the examples of each class learn from, for tables of probability vectors.

    Args:
        table: one table. Entries may have been rounded to below zero by `without`; they are raised
            to 1e-7.

    Returns:
        Logarithms of the mean vectors, [C, C], finite, to be used as a teacher's logits; and
        float32 [C], 1 for the classes that have a mean.
    """
    mean, present = means(table)
    return jnp.log(jnp.maximum(mean, SMALLEST_PROBABILITY)), present.astype(jnp.float32)


def bits(table: ClassTable, *, counted: bool = True) -> jax.Array:
    """What it takes to send each of the tables, with or without its counts, float32 [...]."""
    rows = jnp.sum(table.counts > 0.5, axis=-1).astype(jnp.float32)
    return rows * (BITS_PER_VALUE * (table.totals.shape[-1] + counted))
