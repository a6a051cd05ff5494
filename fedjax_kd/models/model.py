"""What the rest of the package sees of a network: pure functions of explicit variables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

Variables = dict[str, Any]
"""`{"params": {"extractor": ..., "head": ...}, "stats": {...}}`, stats empty without BatchNorm."""

Stats = dict[str, Any]


class Network(nn.Module):
    """A feature extractor and a head on top of it."""

    extractor: nn.Module
    head: nn.Module

    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """Inputs [B, ...] to logits [B, C]."""
        return self.classify(self.extract(x, train, mask))

    def extract(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """Inputs [B, ...] to features [B, d]."""
        return self.extractor(x, train, mask)

    def classify(self, features: jax.Array) -> jax.Array:
        """Features [B, d] to logits [B, C]."""
        return self.head(features)


@dataclass(frozen=True)
class Model:
    """An architecture for one input shape and number of classes.

    Hashable and compared by value, so that it may be a static argument of `jax.jit`: two models of
    equal options share one compiled program. Made by `build_model`.

    Attributes:
        name: the architecture's name in `MODELS`.
        input_shape: shape of one example.
        n_classes: number of logits.
        network: the Flax module behind it.
    """

    name: str
    input_shape: tuple[int, ...]
    n_classes: int
    network: Network

    def init(self, key: jax.Array) -> Variables:
        """Draws initial variables.

        Args:
            key: a typed key, `jax.random.key(...)`.

        Returns:
            Variables, all float32.
        """
        return _init(self, key)

    def apply(
        self,
        variables: Variables,
        inputs: jax.Array,
        train: bool,
        mask: jax.Array | None = None,
    ) -> tuple[jax.Array, Stats]:
        """Logits of a batch.

        Args:
            variables: as `init` returns.
            inputs: [B, *input_shape], float32.
            train: static; whether BatchNorm uses the batch's statistics and moves the running ones.
            mask: which examples are real, [B]; the others stay out of the batch's statistics. None
                marks all. Without BatchNorm it changes nothing.

        Returns:
            logits: [B, n_classes], float32.
            stats: the running statistics after this batch, in the structure of
                `variables["stats"]`.

        Raises:
            ValueError: if the inputs are not float32 of the model's shape.
        """
        return self._run("__call__", variables, inputs, train, mask)

    def features(
        self,
        variables: Variables,
        inputs: jax.Array,
        train: bool,
        mask: jax.Array | None = None,
    ) -> tuple[jax.Array, Stats]:
        """What the extractor makes of a batch: features [B, d] and stats; arguments as `apply`."""
        return self._run("extract", variables, inputs, train, mask)

    def head(self, variables: Variables, features: jax.Array) -> jax.Array:
        """Logits [B, n_classes] of features [B, d]."""
        bound = {"params": variables["params"]}
        return self.network.apply(bound, features, method="classify")  # pyright: ignore[reportReturnType]

    def _run(
        self,
        method: str,
        variables: Variables,
        inputs: jax.Array,
        train: bool,
        mask: jax.Array | None,
    ) -> tuple[jax.Array, Stats]:
        if inputs.ndim == 0 or inputs.shape[1:] != self.input_shape:
            raise ValueError(
                f"model {self.name!r} takes inputs [B, {', '.join(map(str, self.input_shape))}]; "
                f"got shape {inputs.shape}"
            )
        if inputs.dtype != jnp.float32:
            raise ValueError(f"model {self.name!r} takes float32 inputs; got {inputs.dtype}")
        stats = variables.get("stats", {})
        bound = {"params": variables["params"], "stats": stats}
        if not (train and stats):
            return self.network.apply(bound, inputs, train, mask, method=method), stats  # pyright: ignore[reportReturnType]
        out, moved = self.network.apply(
            bound, inputs, train, mask, method=method, mutable=["stats"]
        )
        return out, dict(moved["stats"])


@partial(jax.jit, static_argnums=0)
def _init(model: Model, key: jax.Array) -> Variables:
    example = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    made = model.network.lazy_init(key, example, False)
    params: dict[tuple[str, ...], Any] = flatten_dict(made["params"])
    bounds: dict[tuple[str, ...], Any] = flatten_dict(made["bounds"])
    paths = sorted(bounds)
    ends = list(accumulate(params[path].size for path in paths))
    draws = jnp.split(jax.random.uniform(key, (ends[-1],), minval=-1.0, maxval=1.0), ends[:-1])
    for path, draw in zip(paths, draws, strict=True):
        params[path] = bounds[path] * draw.reshape(params[path].shape)
    return {"params": unflatten_dict(params), "stats": made.get("stats", {})}
