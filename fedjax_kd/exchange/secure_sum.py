"""An upload of which the server sees the sum over the clients and nothing else.

As a channel: numbers become integers of b bits on a fixed grid, since masks cancel only in modular
arithmetic, and each integer travels with enough bits for the sum of K of them,

    m = ceil(log2(K (2^b - 1) + 1)).

Every row takes its bits, those that a client lacks too: they are sent as zeros, or the server would
see which they are. The masks themselves are simulated in `fedjax_kd.exchange.masks`; since the
unmasked sum equals the plain one, a simulated round adds up the integers' values and never masks.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_kd.exchange.channel import Channel, Stage
from fedjax_kd.exchange.payload import Sent

LARGEST_MODULUS_BITS = 32
LARGEST_VALUE_BITS = 24  # whole numbers that float32 has exactly


class Range(NamedTuple):
    """The traced number of the channel.

    Attributes:
        largest: absolute values above it are clipped to it, > 0.
    """

    largest: float | jax.Array = 1.0


def modulus_bits(bits: int, clients: int) -> int:
    """m, the bits of a sum of `clients` integers of `bits` bits each.

    Raises:
        ValueError: if a number is out of range, or the sum takes more than 32 bits.
    """
    for name, value, allowed in (("bits", bits, LARGEST_VALUE_BITS), ("clients", clients, 2**31)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= allowed:
            raise ValueError(f"{name}: {value!r}; allowed: an integer from 1 to {allowed}")
    needed = (clients * (2**bits - 1)).bit_length()
    if needed > LARGEST_MODULUS_BITS:
        raise ValueError(
            f"bits: {bits} for {clients} clients take {needed} bits for a sum; allowed: at most"
            f" {LARGEST_MODULUS_BITS}"
        )
    return needed


def to_integers(
    values: jax.Array, bits: int, largest: jax.typing.ArrayLike, *, signed: bool
) -> jax.Array:
    """Numbers as integers 0 .. 2^b - 1, rounded to the nearest; zero is met exactly.

    Args:
        values: float32, any shape; clipped to -largest .. largest, or 0 .. largest if unsigned.
        bits: b, static.
        largest: scalar > 0.
        signed: static. Signed numbers are shifted by 2^(b-1) - 1, so that they use one value less.

    Returns:
        uint32 of the same shape.
    """
    shift = 2 ** (bits - 1) - 1 if signed else 0
    most = shift if signed else 2**bits - 1
    scaled = jnp.round(values / largest * jnp.float32(most))
    return (jnp.clip(scaled, -shift, most) + jnp.float32(shift)).astype(jnp.uint32)


def to_numbers(
    total: jax.Array,
    bits: int,
    largest: jax.typing.ArrayLike,
    *,
    signed: bool,
    summands: jax.typing.ArrayLike = 1,
) -> jax.Array:
    """What a sum of `to_integers` stands for, float32.

    Args:
        total: uint32, any shape, the sum of the integers of `summands` uploads.
        bits: as there, and so the others.
        largest: scalar.
        signed: static.
        summands: scalar integer, how many uploads were added up.
    """
    shift = 2 ** (bits - 1) - 1 if signed else 0
    most = shift if signed else 2**bits - 1
    # Two's complement: the difference of unsigned numbers, read as a signed one.
    offset = jnp.asarray(summands).astype(jnp.uint32) * jnp.uint32(shift)
    if signed:
        whole = jax.lax.bitcast_convert_type(total - offset, jnp.int32).astype(jnp.float32)
    else:
        whole = total.astype(jnp.float32)
    return whole / jnp.float32(most) * largest


def secure_sum(
    bits: int,
    clients: int,
    largest: float = 1.0,
    *,
    signed: bool = True,
    count_rows: bool = False,
) -> Channel:
    """The last stage of an upload to a server that sees sums only.

    Args:
        bits: b, from 1 (unsigned) or 2 (signed) to 24.
        clients: K, the most uploads that one sum can have.
        largest: default of the traced number; larger absolute values are clipped.
        signed: False for numbers of at least 0, such as probabilities and counts: their grid has
            2^b points, and what b bits of `largest_remainder` gave stays as it is.
        count_rows: whether each row carries a further number, 1 or 0, from whose sum the server
            learns how many clients have the row. Not needed where rows have their own counts, as
            class tables have, or where all clients have the same rows.

    Returns:
        A channel whose `sum_only` is True. Its bits are the masked numbers alone: keys, and the
        shares that drop-outs need, come on top in a real protocol and do not grow with the upload.

    Raises:
        ValueError: if an option is out of range, or a sum takes more than 32 bits.
    """
    modulus_bits(bits, clients)
    if signed and bits == 1:
        raise ValueError("bits: 1 with signed numbers; allowed: 2 or more, or signed=False")
    if not largest > 0:
        raise ValueError(f"largest: {largest!r}; allowed: above 0")
    channel = _channel(bits, clients, signed, count_rows)
    return channel._replace(numbers=Range(float(largest)))


@lru_cache(maxsize=64)
def _channel(bits: int, clients: int, signed: bool, count_rows: bool) -> Channel:
    per_number = modulus_bits(bits, clients)
    per_row = clients.bit_length() if count_rows else 0

    def send(key, memory, numbers: Range, sent: Sent):
        del key

        def through(values):
            integers = to_integers(values, bits, numbers.largest, signed=signed)
            return to_numbers(integers, bits, numbers.largest, signed=signed)

        def price(values):
            return jnp.full(values.shape[0], per_number * values.shape[1] + per_row, jnp.float32)

        values = jax.tree.map(through, sent.values)
        row_bits = jax.tree.map(price, sent.values)
        return memory, replace(sent, values=values, row_bits=row_bits, simplex=False)

    return Channel(lambda like: (), send, stages=(Stage.SECURE_SUM,))
