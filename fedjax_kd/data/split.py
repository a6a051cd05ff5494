"""Who holds what: hold out a common set, partition the rest, divide each user's share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fedjax_kd.data.partition_pooled import generator_of, pooled_partition
from fedjax_kd.data.partition_specs import DirichletPooled, UnlabelledShards, UnlabelledShare
from fedjax_kd.data.partitioners import PartitionSpec, partition
from fedjax_kd.data.public import take_public
from fedjax_kd.data.source import Source
from fedjax_kd.data.split_unlabelled import (
    UnlabelledSpec,
    check_unlabelled,
    from_shards,
    from_train,
    n_shards,
)
from fedjax_kd.data.split_users import RecordingSplit, split_users


@dataclass(frozen=True, eq=False)
class UserSplit:
    """Indices into a source's examples [train; test; extra], int32, in random order.

    The users' parts are disjoint, within a user and between users. The common parts are disjoint
    from each other and, unless `common_is_union`, from every user's.

    Attributes:
      train: one array a user.
      validation: one array a user.
      test: one array a user.
      common_validation: examples that every model is scored on while something is chosen.
      common_test: examples that every model is scored on at the end.
      common_is_union: the common parts are drawn from the users' validation and test parts, as is
        done for sources of recordings without a stock test split, and where the stock test examples
        are divided among the users too.
      unlabelled: one array a user, of examples whose labels it is not to use, empty for a user
        without; () where nobody has any.
      public: examples that everybody may see, disjoint from all others; empty where there are none.
    """

    train: tuple[np.ndarray, ...]
    validation: tuple[np.ndarray, ...]
    test: tuple[np.ndarray, ...]
    common_validation: np.ndarray
    common_test: np.ndarray
    common_is_union: bool = False
    unlabelled: tuple[np.ndarray, ...] = ()
    public: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))


def build_split(
    source: Source,
    spec: PartitionSpec,
    n_users: int,
    *,
    rng: np.random.Generator,
    test_fraction: float = 0.25,
    validation_fraction: float = 0.15,
    max_train: int = 0,
    max_validation: int = 0,
    max_test: int = 0,
    common_fraction: float = 0.2,
    common_validation: int = 200,
    common_test: int = 0,
    recordings: RecordingSplit = "in_time",
    unlabelled: UnlabelledSpec | None = None,
    max_unlabelled: int = 0,
    n_public: int = 0,
) -> UserSplit:
    """Hold out the common set, partition what is left and divide each user's share.

    The common set is the stock test split. Where there is none, `common_fraction` of the training
    examples are held out before the partition; where the training examples are recordings, which a
    random hold-out would tear apart, and where the partitioner pools the stock training and test
    examples (`DirichletPooled`), the common set is the union of the users' own held-out parts.

    Args:
      source: the examples.
      spec: the partitioner.
      n_users: N.
      rng: the only source of randomness (see `host_rng`).
      test_fraction: of each user's share.
      validation_fraction: of each user's share; 0 gives no user validation examples.
      max_train: most training examples of a user; 0 is no cap. The other caps likewise. A larger
        cap only adds examples.
      max_validation: see `max_train`.
      max_test: see `max_train`.
      common_fraction: of the training examples, where they have to be held out.
      common_validation: size of the common validation part; of a union, at most so many.
      common_test: size of the common test part; 0 takes all that are left.
      recordings: how a share made of recordings is divided; see `split_users`.
      unlabelled: what the strong users 0, 1, ... hold without labels; None is nothing.
      max_unlabelled: see `max_train`.
      n_public: how many training examples are taken out for everybody, before the partition.

    Raises:
      ValueError: the sizes cannot be had, or a user would be left without a training, a
        validation or a test example; the text names the setting.
    """
    if unlabelled is not None:
        check_unlabelled(unlabelled, spec, n_users)
    n_train = len(source.train_labels)
    stock_test = n_train + np.arange(len(source.test_labels))
    kept, pool, draws = np.arange(n_train), None, None
    if isinstance(spec, DirichletPooled):
        _refuse_recordings(source)
        draws = generator_of(spec, rng)
    elif len(stock_test):
        pool = rng.permutation(stock_test)
    elif source.train_groups is None:
        kept, pool = hold_out(n_train, common_fraction, rng)
    kept, everybodys = take_public(source, kept, n_public, rng)
    users = None if source.train_users is None else source.train_users[kept]
    groups = None if source.train_groups is None else source.train_groups[kept]
    n_parts = n_shards(unlabelled, n_users)
    try:
        if isinstance(spec, DirichletPooled):
            kept = np.concatenate([kept, stock_test])
            parts = pooled_partition(spec, source.labels[kept], n_parts, draws or rng)
        else:
            parts = partition(spec, source.train_labels[kept], n_parts, rng, users, groups)
    except ValueError as error:
        if n_parts == n_users:
            raise
        raise ValueError(
            f"{error} (data.unlabelled asks for {n_parts - n_users} shards beside the {n_users}"
            " users' own)"
        ) from error
    parts = [kept[part] for part in parts]
    shares = split_users(
        source,
        parts[:n_users],
        rng=rng,
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        max_validation=max_validation,
        max_test=max_test,
        recordings=recordings,
        pooled=draws,
    )
    if pool is None:
        validation_pool = rng.permutation(np.concatenate([share.validation for share in shares]))
        test_pool = rng.permutation(np.concatenate([share.test for share in shares]))
        common = validation_pool[:common_validation], test_pool[: common_test or None]
    else:
        common = _divide_common(pool, common_validation, common_test)
    train, without = [share.train for share in shares], []
    if isinstance(unlabelled, UnlabelledShards):
        without = from_shards(unlabelled, parts, n_users, rng)
    elif isinstance(unlabelled, UnlabelledShare):
        train, without = from_train(unlabelled, source, train, rng)
    return UserSplit(
        train=tuple(part[: max_train or None].astype(np.int32) for part in train),
        validation=tuple(share.validation.astype(np.int32) for share in shares),
        test=tuple(share.test.astype(np.int32) for share in shares),
        common_validation=common[0].astype(np.int32),
        common_test=common[1].astype(np.int32),
        common_is_union=pool is None,
        unlabelled=tuple(part[: max_unlabelled or None].astype(np.int32) for part in without),
        public=everybodys.astype(np.int32),
    )


def _refuse_recordings(source: Source) -> None:
    if source.train_groups is not None:
        raise ValueError(
            "data.partition.kind: 'dirichlet_pooled' divides single examples, but those of"
            f" {source.name} are cut from recordings and share raw samples; allowed here: natural,"
            " iid, dirichlet, dirichlet_counts, classes_per_user, quantity_skew"
        )


def hold_out(
    n_examples: int, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Take a random fraction of 0..E-1 away; returns what is kept, ascending, and what is held out.

    Raises:
      ValueError: the fraction leaves one of the two empty.
    """
    held = round(fraction * n_examples)
    if not 0 < held < n_examples:
        raise ValueError(
            f"data.common_fraction: {fraction:g} of {n_examples} examples holds out {held}; at"
            " least one must be held out and one kept"
        )
    order = rng.permutation(n_examples)
    return np.sort(order[held:]), order[:held]


def _divide_common(
    pool: np.ndarray, n_validation: int, n_test: int
) -> tuple[np.ndarray, np.ndarray]:
    if n_validation + max(n_test, 1) > len(pool):
        raise ValueError(
            f"data.common_validation + data.common_test: {n_validation} + {max(n_test, 1)}"
            f" examples, but {len(pool)} are held out; take fewer, or a larger"
            " data.common_fraction where the source has no test split"
        )
    end = n_validation + n_test if n_test else len(pool)
    return pool[:n_validation], pool[n_validation:end]
