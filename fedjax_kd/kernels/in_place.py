"""Weights that are trained in place: gradient descent made part of the backward pass.

The training loop marks the weights of a parameter tree, differentiates the loss with respect to the
marked tree, and finds new weights where gradients would be. That is right only if each marked
weight takes part in exactly one product: cotangents from two products would be added up, and a
weight that the loss does not depend on would get zeros. `updated_in_place` finds out which weights
are safe from the traced program itself; the others stay unmarked and are trained as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax
from flax import struct
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from fedjax_kd.kernels.dense import sgd_in_place

Tree = Any
Path = tuple[Any, ...]


@struct.dataclass
class InPlace:
    """A weight whose cotangent is its new value.

    Attributes:
        value: [F, O].
        learning_rate: scalar.
        decay: scalar, 1 - learning_rate * weight_decay.
    """

    value: jax.Array
    learning_rate: jax.Array
    decay: jax.Array


def mark_in_place(
    params: Tree,
    learning_rate: jax.Array,
    decay: jax.Array,
    only: Collection[Path] | None = None,
) -> Tree:
    """Marks the weights of dense layers: the matrices under the key "kernel".

    Args:
        params: a parameter tree of nested dictionaries.
        learning_rate: scalar.
        decay: scalar, 1 - learning_rate * weight_decay.
        only: key paths of those to be marked, as `updated_in_place` returns; None marks all.

    Returns:
        The tree with `InPlace` nodes.
    """

    def mark(path, leaf):
        if not _is_dense_kernel(path, leaf) or (only is not None and path not in only):
            return leaf
        return InPlace(leaf, learning_rate, decay)

    return jax.tree.map_with_path(mark, params)


def unmark(tree: Tree) -> Tree:
    """The tree with each `InPlace` node replaced by its value."""
    return jax.tree.map(
        lambda node: node.value if _is_marked(node) else node, tree, is_leaf=_is_marked
    )


def descend(params: Tree, cotangents: Tree, learning_rate: jax.Array, decay: jax.Array) -> Tree:
    """One step of gradient descent, of which marked weights have already made their part.

    Args:
        params: the unmarked tree.
        cotangents: the gradient with respect to the marked tree.
        learning_rate: scalar.
        decay: scalar, 1 - learning_rate * weight_decay.

    Returns:
        The new parameters.
    """

    def step(node, value):
        return node.value if _is_marked(node) else decay * value - learning_rate * node

    return jax.tree.map(step, cotangents, params, is_leaf=_is_marked)


def updated_in_place(
    gradient: Callable[[Tree], Tree], params: Tree, learning_rate: jax.Array, decay: jax.Array
) -> frozenset[Path]:
    """The weights that may be marked: those whose new value arrives as it was made.

    Traces the gradient with all dense weights marked and follows each of their cotangents back to
    the operation that made it. Safe are those that come straight from the in-place update, outside
    of any loop, with nothing added, scaled or summed on the way.

    Args:
        gradient: from a marked parameter tree to the gradient of the loss with respect to it,
            `jax.grad` of the loss with everything else bound; it is traced, not run.
        params: the unmarked tree.
        learning_rate: scalar.
        decay: scalar.

    Returns:
        Key paths into `params`.
    """
    marked = mark_in_place(params, learning_rate, decay)
    traced, shape = jax.make_jaxpr(gradient, return_shape=True)(marked)
    outputs = iter(traced.jaxpr.outvars)
    safe = set()
    for path, node in jax.tree.leaves_with_path(shape, is_leaf=_is_marked):
        made = [next(outputs) for _ in jax.tree.leaves(node)]
        if _is_marked(node) and _comes_from_update(traced.jaxpr, made[0]):
            safe.add(path)
    return frozenset(safe)


def _is_marked(node: Any) -> bool:
    return isinstance(node, InPlace)


def _is_dense_kernel(path: Path, leaf: jax.Array) -> bool:
    return bool(path) and getattr(path[-1], "key", None) == "kernel" and leaf.ndim == 2


def _comes_from_update(jaxpr: Jaxpr, output: Var | Literal) -> bool:
    """Whether an output is the last result of `sgd_in_place`, here or in an inlined function."""
    for equation in jaxpr.eqns:
        if not any(output is made for made in equation.outvars):
            continue
        place = next(i for i, made in enumerate(equation.outvars) if made is output)
        if equation.params.get("name") == sgd_in_place.__name__:
            return place == len(equation.outvars) - 1
        if equation.primitive.name not in ("jit", "pjit", "closed_call", "checkpoint", "remat2"):
            return False
        inner = equation.params["jaxpr"]
        inner = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
        return _comes_from_update(inner, inner.outvars[place])
    return False
