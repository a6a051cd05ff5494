"""A round of DFML written out: one model, one peer and one example after another.

It shares with the method the models, the draws by name and nothing else: divergences are pairwise,
batches are as long as they are, and SGD is spelt out.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import Purpose, client_keys
from fedjax_kd.data import gather
from fedjax_kd.models import profile
from fedjax_kd.training import epoch_order


def roles(whole, index, senders, active):
    """`(aggregator, members)` positions of each point, the aggregator first."""
    people = whole.people
    draws = np.asarray(jax.vmap(jax.random.bits)(client_keys(people, index, Purpose.ROLE)))
    for s in range(people.n_points):
        here = [k for k in range(people.n_clients) if people.point[k] == s and active[k]]
        drawn = sorted(here, key=lambda k: draws[k])[: senders + 1]
        if drawn:
            yield drawn[0], drawn


def batches(whole, k, key, epochs, batch_size):
    rows, count = whole.people.train.indices[k], int(whole.people.train.counts[k])
    for epoch in range(epochs):
        order = epoch_order(
            jax.random.fold_in(key, epoch), jnp.int32(count), rows.shape[0], batch_size
        )
        for start in range(0, count, batch_size):
            last = epoch == epochs - 1
            yield last, gather(whole.table, rows[order[start : min(start + batch_size, count)]])


def supervised(logits, labels, shares, supervision):
    if supervision == "cross_entropy":
        return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()
    total = 0.0
    for z, y in zip(logits, labels, strict=True):
        total -= jnp.log(shares[y]) + z[y] - jnp.log(jnp.sum(shares * jnp.exp(z)))
    return total / len(labels)


def divergence(peer, own, temperature):
    p, q = jax.nn.log_softmax(peer / temperature), jax.nn.log_softmax(own / temperature)
    return jnp.mean(jnp.sum(jnp.exp(p) * (p - q), axis=1))


@partial(jax.jit, static_argnames=("model", "supervision"))
def loss_and_gradient(
    model, variables, inputs, labels, shares, peers, weights, alpha, temperature, supervision
):
    def loss(params):
        own = model.apply({**variables, "params": params}, inputs, True)[0]
        hard = supervised(own, labels, shares, supervision)
        soft = [w * divergence(z, own, temperature) for w, z in zip(weights, peers, strict=True)]
        mean = sum(soft) / sum(weights) if peers else 0.0
        return (1 - alpha) * hard + alpha * temperature**2 * mean

    return jax.value_and_grad(loss)(variables["params"])


@partial(jax.jit, static_argnames="model")
def answer(model, variables, inputs):
    return model.apply(variables, inputs, True)[0]


@jax.jit
def descend(variables, grads, momentum, rates):
    friction = 0.0 if rates.momentum is None else rates.momentum
    decay = 0.0 if rates.weight_decay is None else rates.weight_decay

    def velocity(g, w, m):
        return friction * m + g + decay * w

    momentum = jax.tree.map(velocity, grads, variables["params"], momentum)
    params = jax.tree.map(lambda w, m: w - rates.learning_rate * m, variables["params"], momentum)
    return {**variables, "params": params}, momentum


def round_by_hand(
    models,
    variables,
    whole,
    hparams,
    *,
    senders,
    epochs,
    batch_size,
    index,
    active=None,
    supervision="weighted_softmax",
    peer_weight="uniform",
    local_epochs=0,
    intra_architecture_average=False,
):
    """Every client's new variables, and the members' losses in the last epoch."""
    people, losses = whole.people, {}
    active = np.ones(people.n_clients, bool) if active is None else active
    new = dict(variables)
    turn = [int(u) % len(models) for u in people.user]
    alpha, temperature, rates = hparams.alpha_max, hparams.temperature, hparams.optimiser
    for chief, members in roles(whole, index, senders, active):
        for k in members if local_epochs else ():
            new[k] = at_home(
                models[turn[k]],
                new[k],
                whole,
                k,
                index,
                rates,
                supervision,
                local_epochs,
                batch_size,
            )
        key = client_keys(people, index, Purpose.BATCH_ORDER)[chief]
        shares = shares_of(whole, chief)
        weight = {
            "uniform": lambda k: 1.0,
            "num_samples": lambda k: float(people.train.counts[k]),
            "num_params": lambda k: float(profile(models[turn[k]]).parameters),
        }[peer_weight]
        momentum = {k: jax.tree.map(jnp.zeros_like, new[k]["params"]) for k in members}
        history = {k: [] for k in members}
        for last, (inputs, labels) in batches(whole, chief, key, epochs, batch_size):
            said = {k: answer(models[turn[k]], new[k], inputs) for k in members}
            moved = {}
            for k in members:
                peers = [j for j in members if j != k]
                value, grads = loss_and_gradient(
                    models[turn[k]],
                    new[k],
                    inputs,
                    labels,
                    shares,
                    [said[j] for j in peers],
                    [weight(j) for j in peers],
                    alpha,
                    temperature,
                    supervision,
                )
                moved[k] = descend(new[k], grads, momentum[k], rates)
                history[k] += [float(value)] if last else []
            for k, (after, velocity) in moved.items():
                new[k], momentum[k] = after, velocity
        losses |= {k: float(np.mean(history[k])) for k in members}
        if intra_architecture_average:
            for g in range(len(models)):
                alike = [k for k in members if turn[k] == g]
                if not alike:
                    continue
                means = jax.tree.map(
                    lambda *leaves: sum(leaves) / len(leaves), *[new[k] for k in alike]
                )
                new |= {k: means for k in alike}
    return new, losses


def at_home(model, variables, whole, k, index, rates, supervision, epochs, batch_size):
    key = client_keys(whole.people, index, Purpose.DISTIL_ORDER)[k]
    momentum = jax.tree.map(jnp.zeros_like, variables["params"])
    alone = (shares_of(whole, k), [], [], 0.0, 1.0, supervision)
    for _, (inputs, labels) in batches(whole, k, key, epochs, batch_size):
        _, grads = loss_and_gradient(model, variables, inputs, labels, *alone)
        variables, momentum = descend(variables, grads, momentum, rates)
    return variables


def shares_of(whole, k):
    own = whole.table.labels[whole.people.train.indices[k][: int(whole.people.train.counts[k])]]
    counts = np.bincount(np.asarray(own), minlength=3)
    return jnp.asarray(counts / counts.sum(), jnp.float32)
