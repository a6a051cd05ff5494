"""Stochastic gradient descent whose numbers are traced and whose parts are static."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from fedjax_kd import kernels


@struct.dataclass
class Rates:
    """Traced numbers of the optimiser; a sweep over them is one program.

    A part that is None is absent from the program: without momentum no second copy of the
    parameters is kept, without clipping no norm is taken.

    Attributes:
        learning_rate: step size, > 0.
        momentum: heavy-ball momentum in [0, 1), or None.
        weight_decay: added to the gradient as `weight_decay * parameter`, or None.
        gradient_clip: largest global norm of a gradient, > 0, or None.
    """

    learning_rate: jax.Array
    momentum: jax.Array | None = None
    weight_decay: jax.Array | None = None
    gradient_clip: jax.Array | None = None


def rates(
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    gradient_clip: float = 0.0,
) -> Rates:
    """The rates as float32 scalars; a zero (other than of the learning rate) means none."""

    def present(value: float) -> jax.Array | None:
        return jnp.float32(value) if value else None

    return Rates(
        jnp.float32(learning_rate), present(momentum), present(weight_decay), present(gradient_clip)
    )


class Sgd(NamedTuple):
    """SGD as an optax transformation, with its rates in view.

    Attributes:
        init: as optax has it.
        update: as optax has it.
        rates: the numbers.
    """

    init: Any
    update: Any
    rates: Rates

    @property
    def plain(self) -> bool:
        """Whether a parameter's update depends on its own gradient and value alone."""
        return self.rates.momentum is None and self.rates.gradient_clip is None


def sgd(values: Rates) -> Sgd:
    """SGD with momentum, weight decay and clipping, as far as the rates have them."""
    parts = []
    if values.gradient_clip is not None:
        parts.append(optax.clip_by_global_norm(values.gradient_clip))
    if values.weight_decay is not None:
        parts.append(optax.add_decayed_weights(values.weight_decay))
    parts.append(optax.sgd(values.learning_rate, momentum=values.momentum))
    chain = optax.chain(*parts)
    return Sgd(chain.init, chain.update, values)


def plain_step(batch_loss: Any, values: Rates) -> Any:
    """One step of plain SGD in which dense layers update their weights in the backward pass.

    Which weights may be is found out from the traced loss (`fedjax_kd.kernels.in_place`): those
    that take part in one product and nowhere else. The others, and all of them where the loss does
    more with the parameters than apply the model once, get the ordinary update.

    Args:
        batch_loss: `(params, stats, *batch) -> (loss, stats)`.
        values: rates without momentum and clipping.

    Returns:
        `(params, stats, *batch) -> (params, stats, loss)`.
    """
    gradient = jax.value_and_grad(batch_loss, has_aux=True)

    def step(params, stats, *batch):
        rate = values.learning_rate
        decay = jnp.ones_like(rate)
        if values.weight_decay is not None:
            decay = decay - rate * values.weight_decay
        try:
            safe = kernels.updated_in_place(
                lambda marked: gradient(marked, stats, *batch)[1], params, rate, decay
            )
        except (TypeError, ValueError, AttributeError):
            # The loss looks into the parameters and does not know marked weights. If it is wrong
            # for another reason, the ordinary gradient says so.
            safe = frozenset()
        marked = kernels.mark_in_place(params, rate, decay, safe)
        (loss, stats), cotangents = gradient(marked, stats, *batch)
        return kernels.descend(params, cotangents, rate, decay), stats, loss

    return step
