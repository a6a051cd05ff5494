"""What a model says of the public examples: the forward pass behind public scores."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from fedjax_kd.data import ExampleTable
from fedjax_kd.models import Model
from fedjax_kd.training import logits_of_rows

Kind = Literal["logits", "probabilities"]


def scores_of(
    model: Model,
    variables: dict[str, Any],
    table: ExampleTable,
    rows: jax.Array,
    count: jax.Array | None = None,
    *,
    batch_size: int = 256,
    kind: Kind = "logits",
) -> jax.Array:
    """Scores of ONE model for some rows, in evaluation mode.

    Args:
        model: the architecture.
        variables: of one model.
        table: the example table.
        rows: int32 [P], indices into the table.
        count: int32 scalar, how many of them are valid; None for all.
        batch_size: examples per forward pass, static.
        kind: logits, or their softmax at temperature 1.

    Returns:
        float32 [P, C]; zeros past `count`.

    Raises:
        ValueError: if `kind` is none of the two.
    """
    check_kind(kind)
    valid = jnp.int32(rows.shape[0]) if count is None else count
    logits = logits_of_rows(model, variables, table, rows, valid, batch_size=batch_size)
    if kind == "logits":
        return logits
    asked = jnp.arange(rows.shape[0]) < valid
    return jnp.where(asked[:, None], jax.nn.softmax(logits), 0.0)


def check_kind(kind: str) -> None:
    """Raises a ValueError unless scores are of this kind."""
    if kind not in ("logits", "probabilities"):
        raise ValueError(f"kind must be 'logits' or 'probabilities'; got {kind!r}")
