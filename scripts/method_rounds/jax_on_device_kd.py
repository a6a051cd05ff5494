"""On-device KD (arXiv:2503.11151) as a loop over clients in ordinary JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from . import jax_training as training
from .jax_models import build, exported, logits_of, parameters
from .job import Job, named
from .protocol import Contestant, Done


def prepare(job: Job) -> Contestant:
    """A contestant for the job."""
    terms, arrays = job.terms, job.arrays
    small, large = (build(which, terms.n_classes) for which in terms.architectures)
    inputs, labels = training.on_device(arrays["inputs"]), training.labels_of(job)
    soft_inputs = training.on_device(arrays["soft_inputs"])
    optimiser, heat = training.sgd(terms), terms.temperature

    def labelled(network):
        def loss(params, batch, x, y):
            return training.cross_entropy(logits_of(network, params, x[batch]), y[batch])

        return training.trainer(loss, optimiser)

    def soft_loss(params, batch, x, teacher, weight):
        target = jax.nn.log_softmax(logits_of(small, teacher, x[batch]) / heat)
        log_p = jax.nn.log_softmax(logits_of(large, params, x[batch]) / heat)
        divergence = optax.losses.kl_divergence_with_log_targets(log_p, target).mean()
        return weight * heat**2 * divergence

    train_small, train_large = labelled(small), labelled(large)
    distil = training.trainer(soft_loss, optimiser)
    state = {
        name: parameters(architecture, job.model(name))
        for name, architecture in zip(("auxiliary", "target"), terms.architectures, strict=True)
    }

    def round_(number: int) -> Done:
        losses, models, tally = [], [], []
        for seat, k in enumerate(arrays["chosen"][number].tolist()):
            params = training.copied(state["auxiliary"])
            params, _, loss = training.train(
                train_small,
                params,
                train_small.init(params),
                arrays["auxiliary_order"][number, seat],
                tally,
                inputs[k],
                labels[k],
            )
            models.append(params)
            losses.append((k, loss))
        state["auxiliary"] = training.mean(models)
        models, weight = [], jnp.float32(arrays["weight"][number])
        for k in range(terms.strong):
            params = training.copied(state["target"])
            params, velocity, loss = training.train(
                train_large,
                params,
                train_large.init(params),
                arrays["target_order"][number, k],
                tally,
                inputs[k],
                labels[k],
            )
            params, _, _ = training.train(
                distil,
                params,
                velocity,
                arrays["soft_order"][number, k],
                tally,
                soft_inputs[k],
                state["auxiliary"],
                weight,
            )
            models.append(params)
            losses.append((k, loss))
        state["target"] = training.mean(models)
        told = training.losses_of(losses, terms.clients)
        jax.block_until_ready(state)
        return Done(len(tally), sum(tally), told)

    forward = jax.jit(lambda params, x: logits_of(large, params, x))
    return Contestant(
        round_,
        lambda: {
            key: leaf
            for name, params in state.items()
            for key, leaf in named(name, exported(params)).items()
        },
        lambda: training.score(lambda x: forward(state["target"], x), job),
    )
