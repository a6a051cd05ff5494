"""The contract of a channel: what a client's upload goes through, what arrives, and its bits.

A channel is a pair of pure functions of ONE client, mapped over clients by whoever calls them. It
may remember what it sent before, draws from the key that it is given, and reads numbers that may be
traced, so that a sweep over noise is one program. Channels compose in one order only,

    clip and noise -> quantise -> delta, or a secure sum at the end of the first two,

since the bits of a row are what its last form takes. Channels of equal options compare equal
(their builders are cached), and so a method may have one among its static arguments.
"""

from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_kd.exchange.payload import Sent


class Stage(IntEnum):
    """Where in a composition a channel stands; at most one channel of each stage, ascending."""

    EXACT = 0
    NOISE = 1
    QUANTISE = 2
    DELTA = 3
    SECURE_SUM = 4


class Channel(NamedTuple):
    """What an upload goes through; a static argument of methods, compared by value.

    Attributes:
        init: `(Sent) -> memory`, of which only the shapes are read; `()` if nothing is remembered.
        send: `(key, memory, numbers, Sent) -> (memory, Sent)`.
        numbers: the default traced numbers, Python floats in NamedTuples; `()` for none.
        stages: what it consists of, for the order of a composition.
    """

    init: Callable[[Sent], Any]
    send: Callable[[jax.Array, Any, Any, Sent], tuple[Any, Sent]]
    numbers: Any = ()
    stages: tuple[Stage, ...] = ()

    @property
    def sum_only(self) -> bool:
        """Whether the server sees the sum of the uploads and no upload by itself."""
        return Stage.SECURE_SUM in self.stages


@lru_cache(maxsize=1)
def exact() -> Channel:
    """32-bit floats, as they are."""
    return Channel(_nothing, lambda key, memory, numbers, sent: (memory, sent))


def compose(*channels: Channel) -> Channel:
    """One channel after the other; its memory and numbers are the tuples of theirs.

    Args:
        *channels: in the order in which the upload passes them.

    Returns:
        A channel. Each part draws from the key folded by its place.

    Raises:
        ValueError: if their order is not the one above, or a delta meets a secure sum.
    """
    if not channels:
        return exact()
    stages = tuple(stage for channel in channels for stage in channel.stages)
    if list(stages) != sorted(set(stages)):
        found = ", ".join(stage.name.lower() for stage in stages)
        raise ValueError(
            f"channels: found the order {found}; allowed: noise, quantise, delta, each at most once"
        )
    if Stage.DELTA in stages and Stage.SECURE_SUM in stages:
        raise ValueError(
            "channels: delta and secure_sum together; allowed: one of them, since a server that"
            " sees sums only cannot keep a client's old rows"
        )
    # With zeros for numbers: equal whatever the defaults are, and still of their structure.
    blank = (c._replace(numbers=jax.tree.map(lambda _: 0.0, c.numbers)) for c in channels)
    composed = _composed(tuple(blank))
    return composed._replace(numbers=tuple(channel.numbers for channel in channels))


@lru_cache(maxsize=64)
def _composed(channels: tuple[Channel, ...]) -> Channel:
    def init(like: Sent):
        key = jax.random.key(0)
        memories = []
        for channel in channels:
            memories.append(channel.init(like))
            numbers = jax.tree.map(jnp.float32, channel.numbers)
            like = jax.eval_shape(channel.send, key, memories[-1], numbers, like)[1]
        return tuple(memories)

    def send(key, memory, numbers, sent: Sent):
        remembered = []
        for place, channel in enumerate(channels):
            own = jax.random.fold_in(key, place)
            new, sent = channel.send(own, memory[place], numbers[place], sent)
            remembered.append(new)
        return tuple(remembered), sent

    return Channel(init, send, (), tuple(stage for channel in channels for stage in channel.stages))


def without_numbers(channel: Channel) -> Channel:
    """The static part alone: channels that differ in their default numbers become equal."""
    return channel._replace(numbers=())


def traced_numbers(channel: Channel) -> Any:
    """The default numbers as float32 scalars, for a method's hyper-parameters."""
    return jax.tree.map(jnp.float32, channel.numbers)


def numbers_of(channel: Channel, numbers: Any) -> Any:
    """The numbers that hyper-parameters carry for a channel.

    Raises:
        ValueError: if there are none and the channel reads some.
    """
    reads = {Stage.NOISE, Stage.SECURE_SUM} & set(channel.stages)
    if reads and not jax.tree.leaves(numbers):
        raise ValueError(
            "hparams.upload: found no numbers; allowed: those of the channel, as traced_numbers "
            "gives them"
        )
    return numbers


def memory_of_clients(channel: Channel, like: Sent, n_clients: int) -> Any:
    """What `n_clients` clients remember before they have sent anything: arrays [K, ...].

    Args:
        channel: the channel.
        like: an upload of ONE client, of which only the shapes are read.
        n_clients: K.
    """
    one = channel.init(like)
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n_clients, *leaf.shape)), one)


def _nothing(like: Sent) -> tuple[()]:
    del like
    return ()
