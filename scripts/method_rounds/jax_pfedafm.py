"""pFedAFM (arXiv:2404.17847) as a loop over clients in ordinary JAX."""

from __future__ import annotations

from collections.abc import Hashable

import jax
import jax.numpy as jnp
import optax

from . import jax_training as training
from .architectures import FEATURES
from .jax_models import build, classified, exported, features_of, parameters
from .job import Job, named
from .protocol import Contestant, Done


def prepare(job: Job) -> Contestant:
    """A contestant for the job."""
    terms, arrays = job.terms, job.arrays
    networks = [build(which, terms.n_classes) for which in terms.architectures]
    common = build(terms.shared, terms.n_classes)  # pyright: ignore[reportArgumentType]
    kind = [k % len(networks) for k in range(terms.clients)]
    inputs, labels = training.on_device(arrays["inputs"]), training.labels_of(job)

    def mixed_logits(network, own, theta, x):
        share, params = own["mixing"], own["model"]
        mixed = share * features_of(network, params, x) + (1 - share) * features_of(
            common, theta, x
        )
        return classified(network, params, mixed)

    def personal(network):
        def loss(own, batch, theta, x, y):
            return training.cross_entropy(mixed_logits(network, own, theta, x[batch]), y[batch])

        parts: dict[Hashable, optax.GradientTransformation]
        parts = {"model": training.sgd(terms), "mixing": training.sgd(terms, clip=False)}
        return training.trainer(
            loss,
            optax.multi_transform(parts, {"model": "model", "mixing": "mixing"}),
            lambda own: {**own, "mixing": jnp.clip(own["mixing"], 0, 1)},
        )

    def shared_loss(theta, batch, head, x, y):
        features = features_of(common, theta, x[batch])
        logits = classified(common, {"head": head}, features)
        return training.cross_entropy(logits, y[batch])

    train_own = [personal(network) for network in networks]
    train_shared = training.trainer(shared_loss, training.sgd(terms))
    clients = [
        {
            "model": parameters(terms.architectures[g], job.model(f"client{k}")),
            "mixing": jnp.ones(FEATURES),
        }
        for k, g in enumerate(kind)
    ]
    theta = parameters(terms.shared, job.model("shared"))  # pyright: ignore[reportArgumentType]
    state = {"theta": theta, "sent": theta}

    def round_(number: int) -> Done:
        losses, returned, tally = [], [], []
        state["sent"] = state["theta"]
        for k, g in enumerate(kind):
            data = inputs[k], labels[k]
            order = arrays["personal_order"][number, k]
            clients[k], loss = training.train_epochs(
                train_own[g], clients[k], order, terms.passes, tally, state["sent"], *data
            )
            losses.append((k, loss))
            head, order = clients[k]["model"]["head"], arrays["shared_order"][number, k]
            theta, loss = training.train_epochs(
                train_shared,
                training.copied(state["sent"]),
                order,
                terms.passes,
                tally,
                head,
                *data,
            )
            losses.append((terms.clients + k, loss))
            returned.append(theta)
        state["theta"] = training.mean(returned, [float(len(y)) for y in labels])
        told = training.losses_of(losses, 2 * terms.clients)
        jax.block_until_ready((clients, state))
        return Done(len(tally), sum(tally), told)

    def weights():
        found = named("shared", exported(state["theta"]))
        for k, own in enumerate(clients):
            found |= named(f"client{k}", exported(own["model"]))
        return found

    forward = [
        jax.jit(lambda own, theta, x, network=network: mixed_logits(network, own, theta, x))
        for network in networks
    ]
    return Contestant(
        round_,
        weights,
        lambda: training.mean_score(
            [
                training.score(lambda x, g=g, k=k: forward[g](clients[k], state["sent"], x), job)
                for k, g in enumerate(kind)
            ]
        ),
    )
