"""What methods share whose clients have models of several architectures.

Such a method takes `models: tuple[Model, ...]`, one for each group of the federation, and keeps in
`State.clients` a tuple with one stack per group. What crosses architectures (a header, features of
equal size) must have one shape, which is checked when the method is built.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_kd.clients import (
    Groups,
    Population,
    Purpose,
    draw_key,
    every_group,
    select,
    whole_axis,
)
from fedjax_kd.methods.contract import Federation
from fedjax_kd.models import Model, forward_flops
from fedjax_kd.training import Execution, executed_examples, run_and_sum, settled

Tree = Any
OneClient = Callable[[Tree, Tree, Tree, Tree], tuple[Tree, Tree, Tree]]


def check_tasks(models: Sequence[Model]) -> None:
    """That the models take the same inputs and know the same classes.

    Raises:
        ValueError: if there is no model, or they differ.
    """
    if not models:
        raise ValueError("models: found none; allowed: one per architecture")
    for field in ("input_shape", "n_classes"):
        values = [getattr(model, field) for model in models]
        if len(set(values)) > 1:
            raise ValueError(f"models: found {field} {values}; allowed: the same for all models")


def common_feature_size(models: Sequence[Model]) -> int:
    """How many features d the extractors make, which must be one number.

    Raises:
        ValueError: if they differ, or as `check_tasks`.
    """
    check_tasks(models)
    sizes = [feature_size(model) for model in models]
    if len(set(sizes)) > 1:
        found = ", ".join(f"{model.name} {size}" for model, size in zip(models, sizes, strict=True))
        raise ValueError(f"models: found features of size {found}; allowed: the same for all")
    return sizes[0]


def feature_size(model: Model) -> int:
    """How many features a model's extractor makes; found out without computing anything."""
    variables = jax.eval_shape(model.init, jax.random.key(0))
    example = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    features = jax.eval_shape(lambda v, x: model.features(v, x, False)[0], variables, example)
    return features.shape[-1]


def head_flops(model: Model) -> int:
    """Operations of one example's forward pass through the head, a dense layer."""
    return 2 * feature_size(model) * model.n_classes


def extractor_flops(model: Model) -> int:
    """Operations of one example's forward pass through the extractor."""
    return forward_flops(model) - head_flops(model)


def groups_of(models: Sequence[Model], federation: Federation) -> Groups:
    """Positions on the client axis for each model.

    Raises:
        ValueError: if there are not as many groups as models.
    """
    groups = every_group(federation.groups, federation.people.n_clients)
    if len(groups) != len(models):
        raise ValueError(
            f"federation.groups: found {len(groups)} groups of clients for {len(models)} models; "
            "allowed: one group per model"
        )
    return groups


def init_per_point(model: Model, number: int, people: Population) -> Tree:
    """Initial variables of one architecture at every study point, [S, ...].

    Args:
        model: the architecture.
        number: which draw of the point's; equal models with equal numbers start alike.
        people: S points.
    """

    def draw(root):
        return model.init(jax.random.fold_in(draw_key(root, 0, Purpose.INIT), number))

    return jax.vmap(draw)(people.roots)


def init_models(models: Sequence[Model], people: Population, groups: Groups) -> tuple[Tree, ...]:
    """Initial variables per group, [K_g, ...]: clients of one architecture and point start alike.

    So does the code of pFedAFM, and baselines that do so too can be held against it.
    """
    stacks = []
    for number, (model, members) in enumerate(zip(models, groups, strict=True)):
        stacks.append(rows_of(init_per_point(model, number, people), people.point[members]))
    return tuple(stacks)


def rows_of(tree: Tree, which: jax.Array) -> Tree:
    """Rows `which` of every array of a pytree."""
    return jax.tree.map(lambda leaf: leaf[which], tree)


def run_groups(
    one_client_of: Callable[[Model], OneClient],
    models: Sequence[Model],
    clients: tuple[Tree, ...],
    federation: Federation,
    inputs_of: Callable[[Population], Tree],
    servers: Tree,
    shared: Tree,
    active: jax.Array,
    execution: Execution,
) -> tuple[tuple[Tree, ...], Tree, Tree]:
    """`run_and_sum` of every group, with the groups' sums added up.

    Args:
        one_client_of: for a model, what one of its clients does, as `run_and_sum` takes it.
        models: one per group.
        clients: one state per group, [K_g, ...].
        federation: K clients.
        inputs_of: what the clients of a population are given, arrays [K_g, ...].
        servers: pytree of arrays [S, ...]; a client sees the row of its point.
        shared: pytree that every client sees whole.
        active: bool [K].
        execution: how.

    Returns:
        The new states per group, the sums [S, ...], and the outputs on the common axis [K, ...],
        zeros for inactive clients.
    """
    groups = groups_of(models, federation)
    states, sums, outputs = [], [], []
    for model, members, state in zip(models, groups, clients, strict=True):
        people, here = federation.people, active
        if federation.groups:
            people, here = select(people, members), active[members]
        new, total, output = run_and_sum(
            one_client_of(model),
            state,
            inputs_of(people),
            servers,
            shared,
            people.point,
            here,
            execution,
            work=people.train.counts,
        )
        states.append(settled(new, execution, axis="clients"))
        sums.append(total)
        outputs.append(output)
    whole = whole_axis(tuple(outputs), groups, federation.people.n_clients)
    return tuple(states), jax.tree.map(lambda *leaves: reduce(add, leaves), *sums), whole


def weighted_mean(totals: Tree, weights: jax.Array, old: Tree) -> Tree:
    """Sums [S, ...] over their weights [S]; the old value where the weight is zero."""

    def mean(total, kept):
        weight = weights.reshape(weights.shape + (1,) * (total.ndim - 1))
        return jnp.where(weight > 0, total / jnp.maximum(weight, 1.0), kept)

    return jax.tree.map(mean, totals, old)


def by_architecture(values: Sequence[float], groups: Groups, n_clients: int) -> jax.Array:
    """float32 [K]: every client has its architecture's value."""
    parts = [
        jnp.full(members.shape, value, jnp.float32)
        for value, members in zip(values, groups, strict=True)
    ]
    return whole_axis(tuple(parts), groups, n_clients)


def executed_in_groups(
    people: Population, groups: Groups, active: jax.Array, batch_size: int, execution: Execution
) -> jax.Array:
    """`executed_examples` where every group is run by itself, float32 [K]."""
    parts = [
        executed_examples(people.train.counts[members], active[members], batch_size, execution)
        for members in groups
    ]
    return whole_axis(tuple(parts), groups, people.n_clients)
