"""Plain Python for what decentralised clients do: who meets, and training batch by batch.

Models are lists of parameter trees of networks without running statistics; nothing is stacked,
padded or masked.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import Purpose, client_key
from fedjax_kd.data import gather
from fedjax_kd.training import epoch_order


def drawn(people, index, active, size):
    """By study point, the positions of the `size` active clients with the smallest draws."""
    found = []
    for point in range(people.n_points):
        draws = {}
        for k in np.flatnonzero(np.asarray(active) & (np.asarray(people.point) == point)):
            key = client_key(people.roots[point], index, Purpose.ROLE, people.user[k])
            draws[int(k)] = int(jax.random.bits(key))
        found.append(sorted(draws, key=lambda k: draws[k])[:size])
    return found


def batches(federation, index, k, purpose, epochs, batch_size):
    """The inputs and labels of every step of client k, short last batches as they are."""
    people = federation.people
    count, capacity = int(people.train.counts[k]), people.train.indices.shape[1]
    key = client_key(people.roots[people.point[k]], index, purpose, people.user[k])
    for epoch in range(epochs):
        own = jax.random.fold_in(key, epoch)
        order = np.asarray(epoch_order(own, jnp.int32(count), capacity, batch_size))[:count]
        for start in range(0, count, batch_size):
            rows = people.train.indices[k][order[start : start + batch_size]]
            yield gather(federation.table, rows)


def train(networks, params, losses, steps, values, given=()):
    """SGD with momentum of some models side by side.

    Args:
        networks: M models.
        params: M parameter trees.
        losses: `(list of M logits [B, C], labels, given) -> list of M scalars`; the m-th is
            differentiated with respect to the m-th model alone, from the outputs of all before the
            step.
        steps: batches.
        values: Rates.
        given: arrays that the losses need.

    Returns:
        M trained parameter trees.
    """
    params = tuple(params)
    speed = jax.tree.map(jnp.zeros_like, params)
    for batch in steps:
        params, speed = step(tuple(networks), losses, params, speed, batch, values, given)
    return params


@partial(jax.jit, static_argnums=(0, 1))
def step(networks, losses, params, speed, batch, values, given):
    inputs, labels = batch
    before = [answer(net, tree, inputs) for net, tree in zip(networks, params, strict=True)]
    new, kept = [], []
    for m, (net, tree) in enumerate(zip(networks, params, strict=True)):

        def loss(tree, m=m, net=net):
            outputs = list(before)
            outputs[m] = answer(net, tree, inputs)
            return losses(outputs, labels, given)[m]

        grad = clipped(jax.grad(loss)(tree), values.gradient_clip)
        if values.momentum is not None:
            grad = jax.tree.map(lambda v, g: values.momentum * v + g, speed[m], grad)
        kept.append(grad)
        new.append(jax.tree.map(lambda p, g: p - values.learning_rate * g, tree, grad))
    return tuple(new), tuple(kept)


def answer(network, params, inputs):
    return network.apply({"params": params, "stats": {}}, inputs, train=True)[0]


def clipped(grad, limit):
    if limit is None:
        return grad
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(grad)))
    return jax.tree.map(lambda leaf: leaf * jnp.minimum(1.0, limit / norm), grad)


def cross_entropy(logits, labels):
    log_p = logits - jnp.log(jnp.sum(jnp.exp(logits), axis=1, keepdims=True))
    return -jnp.mean(log_p[jnp.arange(len(labels)), labels])


def divergence(teacher, student):
    """Mean over the batch of KL(teacher || student)."""
    p, q = jax.nn.softmax(teacher), jax.nn.softmax(student)
    return jnp.mean(jnp.sum(p * (jnp.log(p) - jnp.log(q)), axis=1))


def weighted_cross_entropy(logits, labels, shares):
    """Cross entropy under the softmax in which class c weighs `shares[c]`."""
    scaled = shares[None, :] * jnp.exp(logits)
    own = scaled[jnp.arange(len(labels)), labels]
    return -jnp.mean(jnp.log(own / jnp.sum(scaled, axis=1)))


def mean(trees, weights):
    total = sum(weights)
    return jax.tree.map(
        lambda *leaves: sum(w * leaf for w, leaf in zip(weights, leaves, strict=True)) / total,
        *trees,
    )


def seat(federation, k):
    """Client k's architecture and its row in that architecture's stack."""
    for g, members in enumerate(federation.groups):
        if k in np.asarray(members):
            return g, int(np.flatnonzero(np.asarray(members) == k)[0])
    raise AssertionError(k)


def model_of(stacks, federation, k):
    """The row of client k in a tuple of stacks, one per architecture."""
    g, row = seat(federation, k)
    return jax.tree.map(lambda leaf: leaf[row], stacks[g])
