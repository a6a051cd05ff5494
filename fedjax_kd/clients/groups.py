"""Clients of several architectures: which positions of the client axis belong to which.

Stacks of different architectures cannot share an axis, so each architecture has its own, and a
group says where its clients stand on the common one. What carries no architecture (losses, bits,
accuracies) is put back on the common axis.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients.population import Population

Groups = tuple[jax.Array, ...]
"""One int32 array [K_g] per architecture: ascending positions, equally many of each study point."""


def groups_by_turns(people: Population, n_architectures: int) -> Groups:
    """User u gets architecture u mod G: the even spread of pFedAFM's code and of DFML.

    Args:
        people: the whole population, on the host's side of a program (not traced).
        n_architectures: G >= 1.

    Returns:
        G groups; with one architecture `()`, which stands for everybody.

    Raises:
        ValueError: if there are more architectures than users, so that one would have no client.
    """
    if not 1 <= n_architectures <= people.n_users:
        raise ValueError(
            f"models: found {n_architectures} for {people.n_users} users; allowed: 1 to as many as "
            "there are users"
        )
    if n_architectures == 1:
        return ()
    turn = np.asarray(people.user) % n_architectures
    return tuple(jnp.asarray(np.flatnonzero(turn == g), jnp.int32) for g in range(n_architectures))


def every_group(groups: Groups, n_clients: int) -> Groups:
    """The groups, or a single one of everybody where there are none."""
    return groups or (jnp.arange(n_clients, dtype=jnp.int32),)


def whole_axis(parts: Any, groups: Groups, n_clients: int) -> Any:
    """Puts what the groups' clients have back in the order of the common client axis.

    Args:
        parts: one pytree per group, of equal structure, arrays [K_g, ...] that agree beyond K_g.
        groups: as many positions; `()` for a single part of everybody.
        n_clients: K.

    Returns:
        The pytree with arrays [K, ...]; zeros for clients of no group.
    """

    def put(*leaves):
        whole = jnp.zeros((n_clients, *leaves[0].shape[1:]), leaves[0].dtype)
        for members, leaf in zip(every_group(groups, n_clients), leaves, strict=True):
            whole = whole.at[members].set(leaf)
        return whole

    return jax.tree.map(put, *parts)
