"""Who takes part: the users of every study point, flattened into one client axis.

A study of S seeds (or other points) with N users each trains S * N clients that never meet across
points. Flattening the two axes lets one compiled program train all of them, whatever way the client
axis is executed: client k belongs to the server of point `point[k]` and is user `user[k]` there.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from fedjax_kd.clients.randomness import Part, Purpose, client_key
from fedjax_kd.data import IndexTable, UserSplit, index_table


@struct.dataclass
class Population:
    """Clients k = 0..K-1 with their rows of the example table.

    Attributes:
        roots: typed keys [S], one root key per study point.
        point: int32 [K], the study point of each client, 0..S-1.
        user: int32 [K], the user number within the point: the identity that randomness uses.
        train: index table [K, n_max].
        validation: index table [K, v_max].
        test: index table [K, t_max], the user's own test split.
        unlabelled: index table [K, u_max], examples that the user holds without their labels; a
            client that has none has a zero count.
        common_validation: index table [S, c_max], held out for the whole point.
        common_test: index table [S, d_max].
        public: index table [S, P], examples that the server and every client hold, in the order in
            which scores on them are exchanged; zero counts where a study has none.
    """

    roots: jax.Array
    point: jax.Array
    user: jax.Array
    train: IndexTable
    validation: IndexTable
    test: IndexTable
    unlabelled: IndexTable
    common_validation: IndexTable
    common_test: IndexTable
    public: IndexTable

    @property
    def n_clients(self) -> int:
        """Number of clients over all points, K."""
        return self.point.shape[0]

    @property
    def n_points(self) -> int:
        """Number of study points, S."""
        return self.roots.shape[0]

    @property
    def n_users(self) -> int:
        """Users per study point, N."""
        return self.n_clients // self.n_points


def population(seeds: Sequence[int], splits: Sequence[UserSplit]) -> Population:
    """Flattens one split per seed into a population; every split has the same number of users.

    Args:
        seeds: S seeds, one per study point.
        splits: S splits with N users each.

    Returns:
        A population of S * N clients, point by point, users in order.

    Raises:
        ValueError: if the splits disagree in the number of users, or a split has unlabelled rows
            for another number of users.
    """
    sizes = {len(split.train) for split in splits}
    if len(sizes) != 1 or len(seeds) != len(splits):
        raise ValueError(
            f"{len(seeds)} seeds with splits of {sorted(sizes)} users: every seed needs one split, "
            "and all splits the same number of users"
        )
    (n_users,) = sizes
    return Population(
        roots=jnp.stack([jax.random.key(seed) for seed in seeds]),
        point=jnp.asarray(np.repeat(np.arange(len(seeds)), n_users), jnp.int32),
        user=jnp.asarray(np.tile(np.arange(n_users), len(seeds)), jnp.int32),
        train=index_table([rows for split in splits for rows in split.train]),
        validation=index_table([rows for split in splits for rows in split.validation]),
        test=index_table([rows for split in splits for rows in split.test]),
        unlabelled=index_table([rows for split in splits for rows in _unlabelled(split)]),
        common_validation=index_table([split.common_validation for split in splits]),
        common_test=index_table([split.common_test for split in splits]),
        public=index_table([split.public for split in splits]),
    )


def _unlabelled(split: UserSplit) -> tuple[np.ndarray, ...]:
    """One row per user, empty ones where the split has no unlabelled data."""
    if not split.unlabelled:
        return tuple(rows[:0] for rows in split.train)
    if len(split.unlabelled) != len(split.train):
        raise ValueError(
            f"unlabelled: {len(split.unlabelled)} rows for {len(split.train)} users; there must be"
            " one row per user, or none at all"
        )
    return split.unlabelled


def branch(people: Population, part: Part) -> Population:
    """The same population with its randomness set apart for one part of the study."""
    return replace(
        people, roots=jax.vmap(lambda root: jax.random.fold_in(root, part))(people.roots)
    )


def client_keys(
    people: Population, round_index: jax.typing.ArrayLike, purpose: Purpose
) -> jax.Array:
    """One key per client, [K], for one purpose in one round."""
    return jax.vmap(lambda root, user: client_key(root, round_index, purpose, user))(
        people.roots[people.point], people.user
    )


def per_point(tree: Any, people: Population) -> Any:
    """Hyper-parameters, scalars or [S], as one value per study point: every leaf [S]."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (people.n_points,)), tree)


def per_client(tree: Any, people: Population) -> Any:
    """Hyper-parameters, scalars or [S], as every client's own value: every leaf [K]."""
    return jax.tree.map(lambda leaf: leaf[people.point], per_point(tree, people))


def keep_first(rows: IndexTable, counts: jax.Array) -> IndexTable:
    """The same table in which row k keeps its first `counts[k]` entries only."""
    return IndexTable(indices=rows.indices, counts=jnp.minimum(rows.counts, counts))


def pooled(people: Population, rows: IndexTable) -> IndexTable:
    """One row per study point [S, sum of its users' rows]: the union of its clients' examples.

    Args:
        people: the population, on the host's side of a program (not traced).
        rows: the clients' rows [K, n_max].

    Returns:
        An index table with S rows.
    """
    indices, counts = np.asarray(rows.indices), np.asarray(rows.counts)
    point = np.asarray(people.point)
    return index_table(
        [
            np.concatenate([indices[k, : counts[k]] for k in np.flatnonzero(point == s)])
            for s in range(people.n_points)
        ]
    )


def stack_tables(tables: Sequence[IndexTable]) -> IndexTable:
    """The rows of several index tables one below the other, padded to the longest row."""
    length = max(table.indices.shape[1] for table in tables)
    padded = [
        jnp.pad(table.indices, ((0, 0), (0, length - table.indices.shape[1]))) for table in tables
    ]
    return IndexTable(
        indices=jnp.concatenate(padded), counts=jnp.concatenate([table.counts for table in tables])
    )
