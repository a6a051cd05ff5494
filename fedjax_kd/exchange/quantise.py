"""Fewer bits for each row of an upload: probability vectors of few levels, or an affine grid."""

import math
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp

from fedjax_kd.exchange.channel import Channel, Stage
from fedjax_kd.exchange.payload import BITS_PER_VALUE, Sent, held, row_sizes

LARGEST_BITS = 16
SIDE_BITS = 64  # least and largest number of a row, 32 bits each


def to_levels(probabilities: jax.Array, bits: int) -> jax.Array:
    r"""The nearest probability vectors whose entries are multiples of 1 / n, n = 2^b - 1.

    .. math:: Q_b(p) = argmin \{ |q - p|_1 : q_i \in \{0, 1/n, ..., 1\}, \sum_i q_i = 1 \}

    Rounded down first; what is missing goes to the largest remainders, and of equal ones to the
    first class. With one bit the row becomes one-hot at its largest entry.

    Args:
        probabilities: float32 [..., C], rows at least 0 that sum to 1.
        bits: b, 1 to 16, static.

    Returns:
        float32 [..., C].

    Reference: Sattler, Marban, Rischke, Samek 2020, "Communication-Efficient Federated
    Distillation" (CFD), arXiv:2012.00632, which states the minimisation; that rounding by largest
    remainders solves it is checked against exhaustive search in the tests.
    """
    n = 2 ** _checked(bits) - 1
    scaled = probabilities * jnp.float32(n)
    whole = jnp.floor(scaled)
    missing = jnp.float32(n) - jnp.sum(whole, axis=-1, keepdims=True)
    order = jnp.argsort(whole - scaled, axis=-1, stable=True)  # largest remainder first
    rank = jnp.argsort(order, axis=-1, stable=True).astype(jnp.float32)
    return (whole + (rank < missing).astype(jnp.float32)) / jnp.float32(n)


def largest_remainder_row_bits(bits: int, n_classes: int) -> float:
    """log2 of the number of probability vectors that `to_levels` can give, a row's fixed length.

    A lower bound for a code of fixed length, without rounding up to whole bits.
    """
    n = 2 ** _checked(bits) - 1
    return math.log2(math.comb(n + n_classes - 1, n_classes - 1))


@lru_cache(maxsize=64)
def largest_remainder(bits: int) -> Channel:
    """The soft-label quantiser of CFD, for rows that are probability vectors.

    Args:
        bits: b, 1 to 16.

    Returns:
        A channel in which a present row takes `largest_remainder_row_bits`.

    Raises:
        ValueError: if `bits` is out of range; at the channel's first use, if the upload's rows are
            no probability vectors, as those of logits, tables, parameters or noisy scores are not.
    """
    _checked(bits)

    def send(key, memory, numbers, sent: Sent):
        del key, numbers
        _check_simplex(sent)

        def quantise(values, rows):
            return jnp.where(rows[:, None], to_levels(values, bits), 0.0)

        def price(values, rows):
            return jnp.where(rows, largest_remainder_row_bits(bits, values.shape[1]), 0.0)

        values = jax.tree.map(quantise, sent.values, sent.rows)
        row_bits = jax.tree.map(price, sent.values, sent.rows)
        return memory, replace(sent, values=values, row_bits=row_bits)

    return Channel(_check_simplex, send, stages=(Stage.QUANTISE,))


@lru_cache(maxsize=64)
def uniform(bits: int) -> Channel:
    """Numbers on an even grid from a row's least to its largest one, rounded to the nearest.

    Args:
        bits: b, 1 to 16; the grid has 2^b points.

    Returns:
        A channel in which a present row takes b bits a number and 64 for the ends of its grid. A
        count at the end of a row stays as it is and takes 32 bits.

    Raises:
        ValueError: if `bits` is out of range.
    """
    n = jnp.float32(2 ** _checked(bits) - 1)

    def send(key, memory, numbers, sent: Sent):
        del key, numbers

        def quantise(values, there):
            low = jnp.min(jnp.where(there, values, jnp.inf), axis=1, keepdims=True)
            high = jnp.max(jnp.where(there, values, -jnp.inf), axis=1, keepdims=True)
            some = high > low
            step = jnp.where(some, (high - low) / n, 1.0)
            low = jnp.where(jnp.isfinite(low), low, 0.0)
            return jnp.where(there, low + step * jnp.round((values - low) / step), 0.0)

        def but_for_counts(values, there):
            if not sent.counted:
                return quantise(values, there)
            coarse = quantise(values[:, :-1], there[:, :-1])
            return jnp.concatenate([coarse, values[:, -1:]], axis=1)

        def price(rows, size):
            whole = BITS_PER_VALUE - bits if sent.counted else 0
            return jnp.where(rows, bits * size + SIDE_BITS + whole, 0.0)

        values = jax.tree.map(but_for_counts, sent.values, held(sent))
        row_bits = jax.tree.map(price, sent.rows, row_sizes(sent))
        return memory, replace(sent, values=values, row_bits=row_bits, simplex=False)

    return Channel(lambda like: (), send, stages=(Stage.QUANTISE,))


def ideal_entropy_bits(sent: Sent, bits: int) -> jax.Array:
    """What an ideal entropy coder would make of quantised probabilities: a report, no codec.

    Empirical entropy of the upload's symbols times their number. The symbols are the levels of the
    single numbers, as if independent; with one bit, where a row is one-hot, the rows' classes.

    Args:
        sent: what `largest_remainder(bits)` gave, one array of scores.
        bits: b, static.

    Returns:
        float32 scalar, in bits; the table of the symbols' frequencies is not counted.
    """
    n = 2 ** _checked(bits) - 1
    total = jnp.float32(0)
    leaves = zip(jax.tree.leaves(sent.values), jax.tree.leaves(sent.rows), strict=True)
    for values, rows in leaves:
        if bits == 1:
            symbols, counted, size = jnp.argmax(values, axis=1), rows, values.shape[1]
        else:
            symbols = jnp.round(values * n).astype(jnp.int32)
            counted, size = jnp.broadcast_to(rows[:, None], values.shape), n + 1
        counts = jnp.zeros(size, jnp.float32).at[symbols].add(counted.astype(jnp.float32))
        share = counts / jnp.maximum(jnp.sum(counts), 1.0)
        total -= jnp.sum(
            jnp.where(counts > 0, counts * jnp.log2(jnp.where(counts > 0, share, 1)), 0)
        )
    return total


def _checked(bits: int) -> int:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= LARGEST_BITS:
        raise ValueError(f"bits: {bits!r}; allowed: an integer from 1 to {LARGEST_BITS}")
    return bits


def _check_simplex(sent: Sent) -> tuple[()]:
    if not sent.simplex:
        raise ValueError(
            "largest_remainder: the upload's rows are not known to be probability vectors; allowed:"
            " public scores that are probabilities, without added noise"
        )
    return ()
