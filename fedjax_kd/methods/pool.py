"""Who meets in a round without a server: an aggregator and the senders that bring it their models.

The roles are those of DFML (Khalil et al., arXiv:2402.01863): in every round one client, drawn
uniformly, aggregates, and some others, drawn without replacement, send. Decentralised baselines
draw the same people, so that they are compared round by round on the same meetings.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_kd.clients import Population, draw_roles


class Pool(NamedTuple):
    """The meeting of a round at each of S study points.

    Attributes:
        aggregator: int32 [S], its position on the client axis.
        present: bool [S], False where no client is active: then nobody meets.
        member: bool [K], the aggregators and their senders.
    """

    aggregator: jax.Array
    present: jax.Array
    member: jax.Array


def draw_pool(
    people: Population, index: jax.typing.ArrayLike, senders: int, active: jax.Array
) -> Pool:
    """Draws an aggregator and its senders at every study point.

    The first drawn of the active clients aggregates and the next ones send, fewer than `senders`
    where fewer are active.

    Args:
        people: S points, K clients.
        index: int scalar, the round, may be traced.
        senders: static, at least 1.
        active: bool [K], who can be drawn.

    Returns:
        The pool.

    Raises:
        ValueError: if `senders` is not an integer of at least 1.
    """
    checked_senders(senders)
    drawn, filled = draw_roles(people, index, senders + 1, active)
    first = drawn.reshape(people.n_points, senders + 1)[:, 0]
    present = filled.reshape(people.n_points, senders + 1)[:, 0]
    places = jnp.where(filled, drawn, people.n_clients)  # past the end: dropped
    member = jnp.zeros(people.n_clients, bool).at[places].set(True, mode="drop")
    return Pool(first, present, member)


def checked_senders(senders: int) -> int:
    """The number of senders.

    Raises:
        ValueError: if it is not an integer of at least 1.
    """
    if isinstance(senders, bool) or not isinstance(senders, int) or senders < 1:
        raise ValueError(f"senders must be an integer of at least 1; got {senders!r}")
    return senders
