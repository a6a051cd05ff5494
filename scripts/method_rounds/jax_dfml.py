"""DFML (arXiv:2402.01863) as a loop over the models of a pool in ordinary JAX.

Every model has its own jitted calls, since the pool is another one in each round and a step of all
models at once would be compiled again for each. A model's forward pass runs once a step: its first
call also returns what its backward pass needs (`jax.vjp`'s function, a pytree). All that a model
needs of its peers are two sums over them, not each of them.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from . import jax_training as training
from .jax_models import build, exported, logits_of, parameters
from .job import Job, named
from .protocol import Contestant, Done

ABSENT = -1e9  # the logarithm of a class share of zero


def prepare(job: Job) -> Contestant:
    """A contestant for the job."""
    terms, arrays = job.terms, job.arrays
    networks = [build(which, terms.n_classes) for which in terms.architectures]
    kind = [k % len(networks) for k in range(terms.clients)]
    inputs, labels = training.on_device(arrays["inputs"]), training.labels_of(job)
    optimiser, heat = training.sgd(terms), terms.temperature
    init = jax.jit(optimiser.init)

    def answer_of(network):
        @jax.jit
        def answer(params, x, batch):
            return jax.vjp(lambda params: logits_of(network, params, x[batch]), params)

        return answer

    @jax.jit
    def peers_of(logits):
        log_p = jax.nn.log_softmax(jnp.stack(logits) / heat)
        p = jnp.exp(log_p)
        certain = jnp.sum(p * log_p, -1)
        others = len(logits) - 1
        return list((p.sum(0) - p) / others), list((certain.sum(0) - certain) / others)

    def loss_of(logits, y, log_shares, alpha, target, certain):
        weighted = logits + log_shares
        labelled = (
            jax.nn.logsumexp(weighted, -1) - jnp.take_along_axis(weighted, y[:, None], 1)[:, 0]
        )
        mutual = certain - jnp.sum(target * jax.nn.log_softmax(logits / heat), -1)
        return jnp.mean((1 - alpha) * labelled + alpha * heat**2 * mutual)

    @partial(jax.jit, donate_argnums=(0, 1, 3))
    def learn(params, state, total, back, logits, y, batch, log_shares, alpha, target, certain):
        value, slope = jax.value_and_grad(loss_of)(
            logits, y[batch], log_shares, alpha, target, certain
        )
        (grads,) = back(slope)
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state, total + value

    answers = [answer_of(network) for network in networks]
    models = [
        parameters(terms.architectures[g], job.model(f"client{k}")) for k, g in enumerate(kind)
    ]

    def round_(number: int) -> Done:
        pool = arrays["chosen"][number].tolist()
        x, y = inputs[pool[0]], labels[pool[0]]
        shares = jnp.bincount(y, length=terms.n_classes) / len(y)
        log_shares = jnp.where(shares > 0, jnp.log(jnp.where(shares > 0, shares, 1)), ABSENT)
        alpha = jnp.float32(arrays["alpha"][number])
        states, tally = {k: init(models[k]) for k in pool}, []
        totals = {}
        for part in np.split(arrays["order"][number], terms.passes):
            totals = {k: jnp.zeros(()) for k in pool}
            for batch in part:
                told = [answers[kind[k]](models[k], x, batch) for k in pool]
                logits = [one for one, _ in told]
                targets, certain = peers_of(logits)
                for place, k in enumerate(pool):
                    models[k], states[k], totals[k] = learn(
                        models[k], states[k], totals[k], told[place][1], logits[place], y, batch,
                        log_shares, alpha, targets[place], certain[place],
                    )  # fmt: skip
                    tally.append(len(batch))
        steps = len(arrays["order"][number]) // terms.passes
        losses = [(k, total / steps) for k, total in totals.items()]
        told = training.losses_of(losses, terms.clients)
        jax.block_until_ready(models)
        return Done(len(tally), sum(tally), told)

    forward = [
        jax.jit(lambda params, x, network=network: logits_of(network, params, x))
        for network in networks
    ]
    return Contestant(
        round_,
        lambda: {
            key: leaf
            for k, params in enumerate(models)
            for key, leaf in named(f"client{k}", exported(params)).items()
        },
        lambda: training.mean_score(
            [
                training.score(lambda x, g=g, k=k: forward[g](models[k], x), job)
                for k, g in enumerate(kind)
            ]
        ),
    )
