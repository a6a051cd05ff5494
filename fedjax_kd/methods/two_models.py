"""Two models on one client's examples that learn from the labels and from each other.

Deep mutual learning of a pair (Zhang et al. 2018, arXiv:1706.00384), of any two architectures:

    L_i = h_i CE(y, p_i) + s_i KL(sg[p_j] || p_i),    i and j the two models

Deviation: both models move at once, each towards the other's output before the step; in the paper
they take turns within a batch. The other model is a fixed target; KL is summed over the classes and
averaged over the batch.

`faithful` does as public implementations of federated mutual learning do: nothing is detached, so
that both models descend on L_1 + L_2, each pulled by the other's divergence too; and KL is averaged
over the classes as over the batch, which makes it C times smaller.
"""

from functools import partial
from typing import Any

import jax
import optax

from fedjax_kd.data import ExampleTable, training_batch
from fedjax_kd.distill import kl_with_temperature, masked_mean
from fedjax_kd.models import Model
from fedjax_kd.training import Rates, local_update, sgd
from fedjax_kd.training.local_update import Order

Pair = tuple[Any, Any]


def learn_together(
    networks: tuple[Model, Model],
    variables: Pair,
    weights: tuple[Pair, Pair],
    values: Rates,
    table: ExampleTable,
    key: jax.Array,
    rows: jax.Array,
    count: jax.Array,
    *,
    epochs: int,
    batch_size: int,
    order: Order = "shuffled",
    faithful: bool = False,
) -> tuple[Pair, jax.Array]:
    """Trains both models in lockstep on the same batches, each with an optimiser of its own.

    Args:
        networks: their architectures.
        variables: what they start from.
        weights: of each model (h_i, s_i), scalars: of its cross entropy and its divergence.
        values: rates of SGD of both.
        table: all examples.
        key: the client's key for this round and phase.
        rows: int32 [n_max], the client's examples.
        count: int32 scalar, how many of them are valid.
        epochs: static.
        batch_size: static.
        order: static; see `training.local_update`.
        faithful: static; see above.

    Returns:
        The trained variables, and the mean of the two models' losses over the last epoch.
    """

    def batch_loss(params, stats, batch):
        examples, labels = training_batch(table, rows[batch.positions], batch.key)
        outputs = [
            network.apply({"params": p, "stats": s}, examples, train=True, mask=batch.mask)
            for network, p, s in zip(networks, params, stats, strict=True)
        ]
        (one, moved_one), (other, moved_other) = outputs
        losses_of = partial(_losses, labels, faithful)
        losses = losses_of(one, other, *weights[0]) + losses_of(other, one, *weights[1])
        return masked_mean(losses, batch.mask), (moved_one, moved_other)

    parts = {part: tuple(model[part] for model in variables) for part in ("params", "stats")}
    trained, loss = local_update(
        key,
        parts,
        count,
        batch_loss,
        _each_alone(values),
        capacity=rows.shape[0],
        epochs=epochs,
        batch_size=batch_size,
        order=order,
    )
    one, other = zip(trained["params"], trained["stats"], strict=True)
    return (
        {"params": one[0], "stats": one[1]},
        {"params": other[0], "stats": other[1]},
    ), loss / 2


def _losses(labels, faithful, own, other, hard, soft):
    """[B] of the model with logits `own` [B, C]; those of the `other` get no gradient."""
    entropy = optax.losses.softmax_cross_entropy_with_integer_labels(own, labels)
    target = other if faithful else jax.lax.stop_gradient(other)
    divergence = jax.vmap(partial(kl_with_temperature, temperature=1.0))(target, own)
    return hard * entropy + soft * (divergence / own.shape[-1] if faithful else divergence)


def _each_alone(values: Rates) -> Any:
    """SGD of a pair of models; where gradients are clipped, each by its own norm."""
    one = sgd(values)
    if values.gradient_clip is None:
        return one  # nothing else in it looks at more than one number at a time

    def init(params):
        return tuple(one.init(part) for part in params)

    def update(updates, state, params=None):
        params = (None,) * len(updates) if params is None else params
        done = [one.update(*given) for given in zip(updates, state, params, strict=True)]
        return tuple(new for new, _ in done), tuple(left for _, left in done)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]
