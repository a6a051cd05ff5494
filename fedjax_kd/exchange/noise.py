"""Clipping an upload and adding Gaussian noise to it: what client-level privacy is made of.

The whole upload of a client is clipped to at most a norm, and noise of `multiplier` times that norm
hides it. What the multiplier is worth over a number of rounds says `fedjax_kd.exchange.accountant`.
The unit is a client, and neighbours differ in one client's upload being zeros: that moves the sum
of the uploads, and the upload itself, by at most the norm. (For neighbours in which any upload
stands in for another the norm counts twice.) So the upload must be a sum from zero: class vectors
with their counts, scores, or the change of a model rather than the model. What goes beside it, such
as by how many examples an upload is weighed, is not hidden.

An upload is scaled as a whole. One whose rows have counts keeps them, at most 1 each: every one of
its R rows is clipped by itself, its vector to the square root of clip^2 / R - 1.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_kd.exchange.channel import Channel, Stage
from fedjax_kd.exchange.payload import BITS_PER_VALUE, Sent, held, row_sizes

Noise = Literal["each", "share"]
Rows = Literal["all", "present"]


class ClipAndNoise(NamedTuple):
    """Traced numbers of the channel.

    Attributes:
        clip: largest L2 norm of a whole upload, > 0.
        multiplier: standard deviation of the noise in units of `clip`, >= 0.
        participants: n >= 1, how many uploads of a round share the noise; of `share` alone.
    """

    clip: float | jax.Array = 1.0
    multiplier: float | jax.Array = 0.0
    participants: float | jax.Array = 1.0


def clip_and_noise(
    clip: float = 1.0,
    multiplier: float = 0.0,
    participants: float = 1.0,
    *,
    noise: Noise = "each",
    rows: Rows = "all",
) -> Channel:
    """Clipping to a global norm, and noise.

    Args:
        clip: default of the traced number, as the next two; see `ClipAndNoise`.
        multiplier: of the noise.
        participants: who share the noise.
        noise: `each` upload carries noise of standard deviation multiplier * clip, and is private
            by itself, whoever reads it; or each carries a `share` of it, 1 / sqrt(participants), so
            that their sum does. Then only the sum is private, as under a secure sum, and if fewer
            than `participants` upload, their sum carries less noise than was asked for: account
            for multiplier * sqrt(uploads / participants). A secure sum rounds each share before it
            adds them up, which Gaussian accounting leaves out: of few bits, its epsilon is
            approximate.
        rows: whether rows that a client lacks are sent as noise about zero, so that nobody sees
            which they are (they then count as present, and take their bits); or only those that
            are present are sent, where which ones is no secret.

    Returns:
        A channel. Its upload is 32-bit floats again, and no longer probabilities.

    Raises:
        ValueError: if an option is none of those above, or a number out of range.
    """
    for name, value, allowed in (
        ("noise", noise, ("each", "share")),
        ("rows", rows, ("all", "present")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}; got {value!r}")
    for name, value, allowed, fits in (
        ("clip", clip, "above 0", clip > 0),
        ("multiplier", multiplier, "at least 0", multiplier >= 0),
        ("participants", participants, "at least 1", participants >= 1),
    ):
        if not fits:
            raise ValueError(f"{name}: {value!r}; allowed: {allowed}")
    numbers = ClipAndNoise(float(clip), float(multiplier), float(participants))
    return _channel(noise, rows)._replace(numbers=numbers)


@lru_cache(maxsize=8)
def _channel(noise: Noise, rows: Rows) -> Channel:
    def send(key, memory, numbers: ClipAndNoise, sent: Sent):
        if rows == "all":
            everything = jax.tree.map(jnp.ones_like, sent.rows)
            price = jax.tree.map(lambda size: BITS_PER_VALUE * size, row_sizes(sent))
            sent = replace(sent, rows=everything, row_bits=price)
        shared_by = numbers.participants if noise == "share" else 1.0
        deviation = numbers.multiplier * numbers.clip / jnp.sqrt(jnp.float32(shared_by))
        clipped = clip_upload(sent, numbers.clip)
        places = jax.tree.structure(sent.values).unflatten(range(len(jax.tree.leaves(sent.values))))

        def disturb(place, values, there):
            drawn = jax.random.normal(jax.random.fold_in(key, place), values.shape)
            return jnp.where(there, values + deviation * drawn, 0.0)

        values = jax.tree.map(disturb, places, clipped, held(sent))
        return memory, replace(sent, values=values, simplex=False)

    return Channel(lambda like: (), send, stages=(Stage.NOISE,))


def clip_upload(sent: Sent, clip: jax.typing.ArrayLike) -> Any:
    """The values with an L2 norm of at most `clip`; numbers that are not finite count as zero."""
    finite = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0.0), sent.values)
    if not sent.counted:
        scale = clip_scale(replace(sent, values=finite), clip)
        return jax.tree.map(lambda leaf: leaf * scale, finite)

    def by_row(values):
        vectors, counts = values[:, :-1], values[:, -1:]
        room = jnp.sqrt(jnp.maximum(clip * clip / values.shape[0] - 1.0, 0.0))
        norms = jnp.sqrt(jnp.sum(vectors * vectors, axis=1, keepdims=True))
        scale = jnp.where(norms > room, room / jnp.where(norms > 0, norms, 1.0), 1.0)
        return jnp.concatenate([vectors * scale, jnp.clip(counts, 0.0, 1.0)], axis=1)

    return jax.tree.map(by_row, finite)


def clip_scale(sent: Sent, clip: jax.typing.ArrayLike) -> jax.Array:
    """What an upload is multiplied by so that its L2 norm is at most `clip`: a scalar up to 1."""
    squares = sum((jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(sent.values)), jnp.float32(0))
    norm = jnp.sqrt(squares)
    return jnp.where(norm > clip, clip / jnp.where(norm > 0, norm, 1.0), 1.0)
