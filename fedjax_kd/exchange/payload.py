"""What is exchanged, and how a channel sees it: as rows, some of them absent, each with its bits.

Three payloads have fixed shapes: a class table (`fedjax_kd.exchange.class_table`), scores on public
examples, and the arrays of a model or of a part of it. Channels know none of them. They work on
`Sent`, arrays of rows of one client, to which each payload turns and from which it comes back: a
class is a row of its vector and its count, a public example is a row of scores, an array of a model
is one row. Absence is a mask. Which rows are there goes unpriced: the rows' numbers are counted.
"""

from dataclasses import replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.exchange.class_table import BITS_PER_VALUE, ClassTable

Tree = Any


@struct.dataclass
class PublicScores:
    """What one model says of P examples that everybody holds, or stacked ones.

    Attributes:
        values: float32 [..., P, C], logits or probabilities.
        mask: bool [..., P], which examples it speaks of.
    """

    values: jax.Array
    mask: jax.Array


@struct.dataclass
class Sent:
    """The upload of ONE client on its way: what its receiver has of it, and what has crossed.

    Attributes:
        values: pytree of float32 [R, m], what the receiver reads; zeros where nothing is held.
        rows: the same pytree of bool [R], which rows the receiver has.
        row_bits: the same pytree of float32 [R], the bits that crossed for each row, whether the
            receiver has it or not.
        entries: the same pytree of bool [R, m], which numbers of a row there are at all, for
            sub-models; None for all of them.
        simplex: static; whether every row that is there is a probability vector.
        counted: static; whether the last number of every row is its count, which channels neither
            scale nor round.
    """

    values: Tree
    rows: Tree
    row_bits: Tree
    entries: Tree = None
    simplex: bool = struct.field(pytree_node=False, default=False)
    counted: bool = struct.field(pytree_node=False, default=False)


def rows_of_scores(scores: PublicScores, *, probabilities: bool = False) -> Sent:
    """One client's scores, a row for each public example.

    Args:
        scores: values [P, C], mask [P].
        probabilities: whether the rows are probability vectors, static.
    """
    chex.assert_rank([scores.values, scores.mask], [2, 1])
    chex.assert_equal_shape_prefix([scores.values, scores.mask], 1)
    return _exactly(scores.values, scores.mask, None, simplex=probabilities)


def scores_of_rows(sent: Sent) -> PublicScores:
    """The scores [P, C] that the receiver has."""
    return PublicScores(values=sent.values, mask=sent.rows)


def rows_of_table(table: ClassTable, *, counted: bool = True) -> Sent:
    """One client's class table [C, m], a row for each class.

    Args:
        table: a class is present if its count is above one half (counts are whole numbers).
        counted: whether a row has m + 1 numbers, the totals and then the count. Without, it has the
            totals alone, for tables whose present classes all count one: which classes those are
            says the same.
    """
    chex.assert_rank([table.totals, table.counts], [2, 1])
    values = table.totals
    if counted:
        values = jnp.concatenate([values, table.counts[:, None]], axis=1)
    return replace(_exactly(values, table.counts > 0.5, None), counted=counted)


def table_of_rows(
    sent: Sent, round_index: jax.typing.ArrayLike, *, counted: bool = True
) -> ClassTable:
    """The class table that the receiver has, as one of this round; `counted` as it was sent."""
    counts = sent.values[:, -1] if counted else sent.rows.astype(jnp.float32)
    return ClassTable(
        totals=sent.values[:, :-1] if counted else sent.values,
        counts=counts,
        round=jnp.asarray(round_index, jnp.int32),
    )


def rows_of_parameters(parameters: Tree, mask: Tree = None) -> Sent:
    """One client's arrays, each of them a row.

    Args:
        parameters: pytree of float32 arrays of any shapes.
        mask: the same pytree of arrays of the same shapes, bool or 0 and 1: the entries that the
            client holds; None for all.

    Raises:
        ValueError: if an array is not float32, or the mask does not fit.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        if leaf.dtype != jnp.float32:
            name = jax.tree_util.keystr(path)
            raise ValueError(f"parameters{name}: dtype {leaf.dtype}; allowed: float32")
    values = jax.tree.map(lambda leaf: leaf.reshape(1, -1), parameters)
    if mask is None:
        everywhere = jax.tree.map(lambda leaf: jnp.ones(1, bool), values)
        return _exactly(values, everywhere, None)
    shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (parameters, mask)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"mask: shapes {shapes[1]}; allowed: the parameters' {shapes[0]}")
    entries = jax.tree.map(lambda leaf: leaf.reshape(1, -1).astype(bool), mask)
    return _exactly(values, jax.tree.map(lambda leaf: jnp.any(leaf, axis=1), entries), entries)


def parameters_of_rows(sent: Sent, like: Tree) -> Tree:
    """The arrays that the receiver has, in the shapes of `like`; zeros where nothing is held."""
    return jax.tree.map(lambda leaf, row: row.reshape(leaf.shape), like, sent.values)


def bits_of(sent: Sent) -> jax.Array:
    """All bits that crossed, float32 scalar."""
    return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(sent.row_bits)), jnp.float32(0))


def held(sent: Sent) -> Tree:
    """Which numbers the receiver has: the pytree of bool [R, m]."""

    def spread(values, rows, entries=None):
        whole = jnp.broadcast_to(rows[:, None], values.shape)
        return whole if entries is None else whole & entries

    if sent.entries is None:
        return jax.tree.map(spread, sent.values, sent.rows)
    return jax.tree.map(spread, sent.values, sent.rows, sent.entries)


def row_sizes(sent: Sent) -> Tree:
    """How many numbers each row has when it is there: the pytree of float32 [R]."""
    if sent.entries is None:
        return jax.tree.map(
            lambda values: jnp.full(values.shape[0], values.shape[1], jnp.float32), sent.values
        )
    return jax.tree.map(
        lambda entries: jnp.sum(entries, axis=1, dtype=jnp.int32).astype(jnp.float32), sent.entries
    )


def _exactly(values: Tree, rows: Tree, entries: Tree, *, simplex: bool = False) -> Sent:
    """As 32-bit floats; what is not held becomes zero and costs nothing."""
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[0], jnp.float32), values)
    sent = Sent(values, rows, blank, entries, simplex=simplex)
    kept = jax.tree.map(lambda leaf, there: jnp.where(there, leaf, 0.0), values, held(sent))
    row_bits = jax.tree.map(
        lambda there, size: jnp.where(there, BITS_PER_VALUE * size, 0.0), rows, row_sizes(sent)
    )
    return replace(sent, values=kept, row_bits=row_bits)
