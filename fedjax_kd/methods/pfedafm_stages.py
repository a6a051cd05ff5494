"""The two stages of pFedAFM (Yi et al. 2024, arXiv:2404.17847) at ONE client.

F is the client's own model (extractor and header), G the shared extractor with parameters theta,
which borrows the client's header, and alpha [d] the mixing vector. Each stage minimises one cross
entropy:

    personal:  CE(F_head(alpha * F_ex(x) + (1 - alpha) * G(x; theta)), y)   over F and alpha
    shared:    CE(F_head(G(x; theta)), y)                                   over theta

and what is not trained in a stage is constant in it: it is no argument of the gradient.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from fedjax_kd.data import ExampleTable, training_batch
from fedjax_kd.distill import masked_mean
from fedjax_kd.models import Model
from fedjax_kd.training import Rates, sgd

Theta = dict[str, Any]
"""`{"params": {"extractor": ...}, "stats": ...}`: variables of G without its unused header."""


@struct.dataclass
class PFedAfmRates:
    """Traced hyper-parameters of pFedAFM: an optimiser for each of the three parts.

    Attributes:
        local: of the client's model; the paper's code clips its gradient to a global norm of 50.
        shared: of the shared extractor, clipped alike but by itself.
        mixing: of the mixing vector, which the paper's code does not clip.
    """

    local: Rates
    shared: Rates
    mixing: Rates


@struct.dataclass
class Client:
    """What a client keeps; both are private and never sent.

    Attributes:
        model: its own model's variables.
        mixing: float32 [d] in [0, 1], the share of its own feature; ones at first.
    """

    model: Any
    mixing: jax.Array


def mixed_logits(model: Model, shared: Model, variables: Any, inputs: jax.Array) -> jax.Array:
    """Logits [B, C] of a client in evaluation mode.

    Args:
        model: the client's architecture.
        shared: the architecture that G is the extractor of.
        variables: `{"model": ..., "mixing": [d], "theta": ...}`.
        inputs: [B, ...].
    """
    own, _ = model.features(variables["model"], inputs, train=False)
    common, _ = shared.features(variables["theta"], inputs, train=False)
    return model.head(variables["model"], mix(variables["mixing"], own, common))


def mix(mixing: jax.Array, own: jax.Array, common: jax.Array) -> jax.Array:
    """Alpha * own + (1 - alpha) * common, of features [B, d]."""
    share = mixing[None, :]
    return share * own + (1.0 - share) * common


def personal_loss(model: Model, shared: Model, theta: Theta, table: ExampleTable, rows: jax.Array):
    """Batch loss of stage 1, of parameters `{"model": ..., "mixing": ...}`; theta is constant."""

    def batch_loss(params, stats, batch):
        inputs, labels = training_batch(table, rows[batch.positions], batch.key)
        own, stats = model.features(
            {"params": params["model"], "stats": stats}, inputs, train=True, mask=batch.mask
        )
        common, _ = shared.features(jax.lax.stop_gradient(theta), inputs, train=False)
        logits = model.head({"params": params["model"]}, mix(params["mixing"], own, common))
        return _cross_entropy(logits, labels, batch.mask), stats

    return batch_loss


def shared_loss(model: Model, shared: Model, own: Any, table: ExampleTable, rows: jax.Array):
    """Batch loss of stage 2, of theta's parameters; the client's header is constant.

    The client's extractor is not computed at all: with mixing off it has no share in the loss.
    """

    def batch_loss(params, stats, batch):
        inputs, labels = training_batch(table, rows[batch.positions], batch.key)
        common, stats = shared.features(
            {"params": params, "stats": stats}, inputs, train=True, mask=batch.mask
        )
        logits = model.head(jax.lax.stop_gradient(own), common)
        return _cross_entropy(logits, labels, batch.mask), stats

    return batch_loss


def joint_loss(model: Model, shared: Model, table: ExampleTable, rows: jax.Array):
    """Batch loss of the ablation in which all three parts learn at once.

    Of parameters `{"model": ..., "mixing": ..., "shared": ...}` and stats `{"model", "shared"}`.
    """

    def batch_loss(params, stats, batch):
        inputs, labels = training_batch(table, rows[batch.positions], batch.key)
        features, moved = {}, {}
        for name, architecture in (("model", model), ("shared", shared)):
            variables = {"params": params[name], "stats": stats[name]}
            features[name], moved[name] = architecture.features(
                variables, inputs, train=True, mask=batch.mask
            )
        mixed = mix(params["mixing"], features["model"], features["shared"])
        logits = model.head({"params": params["model"]}, mixed)
        return _cross_entropy(logits, labels, batch.mask), moved

    return batch_loss


def personal_optimiser(hparams: PFedAfmRates) -> optax.GradientTransformation:
    """Of `{"model": ..., "mixing": ...}`; the mixing vector is kept in [0, 1]."""
    return apart(model=sgd(hparams.local), mixing=mixing_sgd(hparams.mixing))


def joint_optimiser(hparams: PFedAfmRates) -> optax.GradientTransformation:
    """Of `{"model": ..., "mixing": ..., "shared": ...}`."""
    return apart(
        model=sgd(hparams.local), mixing=mixing_sgd(hparams.mixing), shared=sgd(hparams.shared)
    )


def mixing_sgd(values: Rates) -> optax.GradientTransformation:
    """SGD whose result is projected onto [0, 1].

    The optimiser does not know of the projection: momentum keeps pushing at the boundary.
    """
    ordinary = sgd(values)

    def update(updates, state, params=None):
        steps, state = ordinary.update(updates, state, params)
        inside = jax.tree.map(lambda p, u: jnp.clip(p + u, 0.0, 1.0) - p, params, steps)
        return inside, state

    return optax.GradientTransformation(ordinary.init, update)


def apart(**optimisers: Any) -> optax.GradientTransformation:
    """Named parts of the parameters, each with an optimiser of its own.

    Norms are taken of one part's gradient, and the state is a dictionary with one state per part.
    """

    def init(params):
        return {name: one.init(params[name]) for name, one in optimisers.items()}

    def update(updates, state, params=None):
        assert params is not None
        steps, after = {}, {}
        for name, one in optimisers.items():
            steps[name], after[name] = one.update(updates[name], state[name], params[name])
        return steps, after

    return optax.GradientTransformation(init, update)


def _cross_entropy(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return masked_mean(losses, mask)
