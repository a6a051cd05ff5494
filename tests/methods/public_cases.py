"""Networks in NumPy that speak about public examples: what FedMD, DS-FL and FedDF are held against.

The federation of `mixture_cases` (two architectures, five users at each of two points) with 11
public examples at each point. A network is a list of (weight, bias), the head last; gradients are
by the chain rule, batches are visited in a Python loop, and a short batch is simply short.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import mixture_cases as cases
import numpy as np
from mixture_cases import Sgd, flat, layered

from fedjax_kd.clients import Purpose, client_key, draw_key, draw_public
from fedjax_kd.data import gather, index_table
from fedjax_kd.training import epoch_order

P, C, N = 11, cases.C, cases.N
PUBLIC = {0: range(20, 20 + P), 1: range(120, 120 + P)}
SOME = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 0], bool)  # nobody of the second point
LOCAL = {"epochs": 2, "batch_size": 4}


def with_public(federation, groups=True):
    """A federation whose points have public examples, of two architectures or one."""
    public = index_table([np.asarray(PUBLIC[s], np.int32) for s in (0, 1)])
    whole = replace(federation, people=replace(federation.people, public=public))
    return cases.grouped(whole) if groups else whole


def network(params):
    return cases.layers_of(params) + cases.head_of(params)


def logits(layers, x):
    outputs = cases.features(layers[:-1], x)
    ((weight, bias),) = layers[-1:]
    return outputs, outputs[-1] @ weight + bias


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def to_labels(z, labels):
    return softmax(z) - np.eye(z.shape[1])[labels]


def to_probabilities(z, targets):
    return softmax(z) - targets


def to_logits(z, targets):
    return np.sign(z - targets) / z.shape[1]


def gradients(layers, x, slope_of, wanted):
    """Of the mean over a batch; `slope_of` gives each example's slope at the logits."""
    outputs, z = logits(layers, x)
    slope = slope_of(z, wanted) / len(x)
    head = [outputs[-1].T @ slope, slope.sum(axis=0)]
    return flat(cases.back(layers[:-1], outputs, slope @ layers[-1][0].T)) + head


class Adam:
    """At a rate that falls along a cosine to zero over so many steps."""

    def __init__(self, rate, steps, like):
        self.rate, self.steps, self.taken = rate, steps, 0
        self.first = [np.zeros_like(part) for part in like]
        self.second = [np.zeros_like(part) for part in like]

    def step(self, parts, grads):
        rate = self.rate * 0.5 * (1 + np.cos(np.pi * self.taken / self.steps))
        self.taken += 1
        new = []
        for i, (part, grad) in enumerate(zip(parts, grads, strict=True)):
            self.first[i] = 0.9 * self.first[i] + 0.1 * grad
            self.second[i] = 0.999 * self.second[i] + 0.001 * grad**2
            mean = self.first[i] / (1 - 0.9**self.taken)
            spread = np.sqrt(self.second[i] / (1 - 0.999**self.taken))
            new.append(part - rate * mean / (spread + 1e-8))
        return new


def orders(key, count, capacity, batch_size, epochs):
    """The places of each batch, epoch by epoch."""
    for epoch in range(epochs):
        own = jax.random.fold_in(key, epoch)
        order = np.asarray(epoch_order(own, jnp.int32(count), capacity, batch_size))
        for start in range(0, count, batch_size):
            yield order[start : min(start + batch_size, count)]


def fit(layers, optimiser, batches, slope_of):
    for x, wanted in batches:
        grads = gradients(layers, x, slope_of, wanted)
        layers = layered(optimiser.step(flat(layers), grads))
    return layers


class ByHand:
    """Clients as a dictionary of networks, and what they are given."""

    def __init__(self, federation, stacks, per_round=None):
        self.federation, self.people = federation, federation.people
        self.point = np.asarray(self.people.point)
        self.counts = np.asarray(self.people.train.counts)
        self.per_round = per_round
        self.clients = {
            k: network(cases.of_client(federation, stacks, k)["params"]) for k in range(N)
        }

    def key(self, k, index, purpose, second=None):
        root = self.people.roots[int(self.point[k])]
        key = client_key(root, index, purpose, int(self.people.user[k]))
        if second is None:
            return key
        return jax.random.fold_in(key, jnp.uint32(second) + jnp.uint32(2**31))

    def server_key(self, s, index, place=0):
        key = draw_key(self.people.roots[s], index, Purpose.DISTIL_ORDER)
        return jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), place)

    def asked(self, s, index):
        if self.per_round is None:
            return np.asarray(self.people.public.indices[s])
        return np.asarray(draw_public(self.people, index, self.per_round)[s])

    def inputs(self, rows):
        x, labels = gather(self.federation.table, jnp.asarray(rows))
        return np.asarray(x, np.float64), np.asarray(labels)

    def own_batches(self, k, key, epochs, batch_size=4):
        rows = np.asarray(self.people.train.indices[k])
        for places in orders(key, int(self.counts[k]), len(rows), batch_size, epochs):
            yield self.inputs(rows[places])

    def public_batches(self, rows, wanted, key, epochs, batch_size):
        for places in orders(key, len(rows), len(rows), batch_size, epochs):
            x, labels = self.inputs(rows[places])
            yield x, labels if wanted is None else wanted[places]

    def revisit(self, k, key, epochs, rates):
        layers = self.clients[k]
        batches = self.own_batches(k, key, epochs)
        self.clients[k] = fit(layers, Sgd(rates, flat(layers)), batches, to_labels)

    def digest(self, k, rows, wanted, slope_of, key, epochs, rates, batch_size=4):
        layers = self.clients[k]
        batches = self.public_batches(rows, wanted, key, epochs, batch_size)
        self.clients[k] = fit(layers, Sgd(rates, flat(layers)), batches, slope_of)

    def members(self, active):
        return {s: [int(k) for k in np.flatnonzero(active) if self.point[k] == s] for s in (0, 1)}


def same_network(got, layers, rtol=2e-4, atol=2e-5):
    for mine, theirs in zip(flat(network(got["params"])), flat(layers), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=atol)


def point_of(stack, s):
    return jax.tree.map(lambda leaf: leaf[s], stack)
