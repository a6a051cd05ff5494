"""pFedAFM again in NumPy: ReLU networks as lists of (weight, bias), gradients by the chain rule.

Two architectures with features of one size, five users at each of two points who hold 9, 4, 7, 12
and 5 examples; with batches of 4 most epochs end in a short one, which is simply short here.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import Purpose, client_key, client_keys, groups_by_turns
from fedjax_kd.data import gather
from fedjax_kd.methods.contract import Round
from fedjax_kd.models import build_model
from fedjax_kd.training import epoch_order, everywhere

N, C, D = 10, 3, 5
EPOCHS, BATCH_SIZE = 2, 4
EVERYBODY = np.ones(N, bool)
TASK = {"input_shape": (6,), "n_classes": C}
MODELS = (
    build_model("mlp", hidden=(6, D), **TASK),
    build_model("mlp", hidden=(D,), **TASK),
)
SHARED = build_model("mlp", hidden=(4, D), **TASK)


def grouped(federation):
    return replace(federation, groups=groups_by_turns(federation.people, 2))


def run(method, federation, execution, actives, values, first=0, state=None):
    """States after every round (the first is the start) and the reports, on the host."""
    federation, values = everywhere((federation, values), execution)
    step = jax.jit(method.round)
    state = jax.jit(method.init)(federation) if state is None else everywhere(state, execution)
    states, reports = [jax.device_get(state)], []
    for index, active in enumerate(actives):
        this = Round(jnp.int32(first + index), jnp.asarray(active, bool))
        state, report = step(state, federation, values, everywhere(this, execution))
        states.append(jax.device_get(state))
        reports.append(jax.device_get(report))
    return states, reports


def logits_of(predictor, place, x):
    """What the client at this place of a predictor makes of inputs [B, ...], on the host."""
    assert predictor.logits is not None
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf[predictor.row[place]]), predictor.stack)
    return np.asarray(predictor.logits(variables, jnp.asarray(x)))


def of_client(federation, clients, k):
    """What client k keeps."""
    for group, part in zip(federation.groups, clients, strict=True):
        places = np.flatnonzero(np.asarray(group) == k)
        if len(places):
            return jax.tree.map(lambda leaf: leaf[places[0]], part)  # noqa: B023
    raise KeyError(k)


def layers_of(params):
    """A network's extractor, float64."""
    extractor = params["extractor"]
    return [
        [np.asarray(extractor[f"Dense_{i}"][part], np.float64) for part in ("kernel", "bias")]
        for i in range(len(extractor))
    ]


def head_of(params):
    return [[np.asarray(params["head"][part], np.float64) for part in ("kernel", "bias")]]


def features(layers, x):
    """The activations, the inputs first and the features last."""
    outputs = [x]
    for weight, bias in layers:
        outputs.append(np.maximum(outputs[-1] @ weight + bias, 0.0))
    return outputs


def back(layers, outputs, slope):
    """Gradients of the layers from the slope at the features."""
    grads = []
    for (weight, _), x, y in zip(layers[::-1], outputs[-2::-1], outputs[:0:-1], strict=True):
        slope = slope * (y > 0)
        grads.append([x.T @ slope, slope.sum(axis=0)])
        slope = slope @ weight.T
    return grads[::-1]


def at_head(head, mixed, labels):
    """Gradient of the header, and slope at the features, of the mean cross entropy."""
    ((weight, bias),) = head
    logits = mixed @ weight + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1.0
    p /= len(labels)
    return [[mixed.T @ p, p.sum(axis=0)]], p @ weight.T


class Sgd:
    """Clip by the norm over all of it, decay, momentum."""

    def __init__(self, values, like):
        self.rate = float(values.learning_rate)
        self.momentum = float(values.momentum or 0.0)
        self.decay = float(values.weight_decay or 0.0)
        self.clip = np.inf if values.gradient_clip is None else float(values.gradient_clip)
        self.velocity = [np.zeros_like(part) for part in like]

    def step(self, parts, grads):
        norm = np.sqrt(sum(np.sum(grad**2) for grad in grads))
        scale = min(1.0, self.clip / norm) if norm > 0 else 1.0
        new = []
        for i, (part, grad) in enumerate(zip(parts, grads, strict=True)):
            self.velocity[i] = self.momentum * self.velocity[i] + scale * grad + self.decay * part
            new.append(part - self.rate * self.velocity[i])
        return new


def flat(layers):
    return [part for layer in layers for part in layer]


def layered(parts):
    return [list(parts[i : i + 2]) for i in range(0, len(parts), 2)]


@partial(jax.jit, static_argnums=2)
def _orders(key, count, capacity):
    own = [jax.random.fold_in(key, epoch) for epoch in range(EPOCHS)]
    return jnp.stack([epoch_order(each, count, capacity, BATCH_SIZE) for each in own])


class Batches:
    """A client's batches of a stage, drawn by name."""

    def __init__(self, federation):
        self.people, self.table = federation.people, federation.table

    def of(self, k, index, purpose):
        people = self.people
        count = int(people.train.counts[k])
        rows = np.asarray(people.train.indices[k])
        root = people.roots[int(people.point[k])]
        key = client_key(root, index, purpose, int(people.user[k]))
        for order in np.asarray(_orders(key, jnp.int32(count), len(rows))):
            for start in range(0, count, BATCH_SIZE):
                taken = order[start : min(start + BATCH_SIZE, count)]
                inputs, labels = gather(self.table, jnp.asarray(rows[taken]))
                yield np.asarray(inputs, np.float64), np.asarray(labels)


def personal_stage(batches, client, theta, values, mixing_sgd=None):
    """Stage 1 for (extractor, header, alpha); returns them, and the optimiser of alpha."""
    extractor, head, alpha = client
    n = 2 * len(extractor)
    local = Sgd(values.local, flat(extractor + head))
    mixing_sgd = mixing_sgd or Sgd(values.mixing, [alpha])
    for x, y in batches:
        own, common = features(extractor, x), features(theta, x)
        head_grad, slope = at_head(head, alpha * own[-1] + (1 - alpha) * common[-1], y)
        grads = flat(back(extractor, own, slope * alpha) + head_grad)
        alpha_grad = np.sum(slope * (own[-1] - common[-1]), axis=0)
        parts = local.step(flat(extractor + head), grads)
        extractor, head = layered(parts[:n]), layered(parts[n:])
        (alpha,) = mixing_sgd.step([alpha], [alpha_grad])
        alpha = np.clip(alpha, 0.0, 1.0)
    return (extractor, head, alpha), mixing_sgd


def shared_stage(batches, client, theta, values, shared_sgd=None):
    """Stage 2: theta under the client's header, nothing else moves."""
    shared_sgd = shared_sgd or Sgd(values.shared, flat(theta))
    for x, y in batches:
        common = features(theta, x)
        _, slope = at_head(client[1], common[-1], y)
        theta = layered(shared_sgd.step(flat(theta), flat(back(theta, common, slope))))
    return theta, shared_sgd


def joint_stage(batches, client, theta, values):
    """All three parts from one loss."""
    extractor, head, alpha = client
    n = 2 * len(extractor)
    local, mixing = Sgd(values.local, flat(extractor + head)), Sgd(values.mixing, [alpha])
    shared = Sgd(values.shared, flat(theta))
    for x, y in batches:
        own, common = features(extractor, x), features(theta, x)
        head_grad, slope = at_head(head, alpha * own[-1] + (1 - alpha) * common[-1], y)
        grads = flat(back(extractor, own, slope * alpha) + head_grad)
        theta_grads = flat(back(theta, common, slope * (1 - alpha)))
        alpha_grad = np.sum(slope * (own[-1] - common[-1]), axis=0)
        parts = local.step(flat(extractor + head), grads)
        extractor, head = layered(parts[:n]), layered(parts[n:])
        theta = layered(shared.step(flat(theta), theta_grads))
        (alpha,) = mixing.step([alpha], [alpha_grad])
        alpha = np.clip(alpha, 0.0, 1.0)
    return (extractor, head, alpha), theta


class ByHand:
    """The rounds of pFedAFM with Python lists of clients, from a method's initial state."""

    def __init__(self, federation, state, values):
        self.federation, self.values = federation, values
        self.batches = Batches(federation)
        self.clients = {}
        for k in range(N):
            kept = of_client(federation, state.clients, k)
            params = kept.model["params"]
            alpha = np.asarray(kept.mixing, np.float64)
            self.clients[k] = (layers_of(params), head_of(params), alpha)
        points = federation.people.n_points
        self.theta = [
            layers_of(jax.tree.map(lambda leaf: leaf[s], state.server.theta["params"]))  # noqa: B023
            for s in range(points)
        ]
        self.visited = set()
        self.last = [None] * points  # released: alpha, its optimiser, theta's optimiser

    def members(self, active):
        point = np.asarray(self.federation.people.point)
        return [[int(k) for k in np.flatnonzero(active & (point == s))] for s in (0, 1)]

    def stages(self, k, index):
        return (
            self.batches.of(k, index, Purpose.BATCH_ORDER),
            self.batches.of(k, index, Purpose.DISTIL_ORDER),
        )

    def round(self, index, active, joint=False):
        counts = np.asarray(self.federation.people.train.counts)
        for s, members in enumerate(self.members(active)):
            trained = []
            for k in members:
                first, second = self.stages(k, index)
                if joint:
                    self.clients[k], theta = joint_stage(
                        first, self.clients[k], self.theta[s], self.values
                    )
                else:
                    self.clients[k], _ = personal_stage(
                        first, self.clients[k], self.theta[s], self.values
                    )
                    theta, _ = shared_stage(second, self.clients[k], self.theta[s], self.values)
                trained.append([counts[k] * part for part in flat(theta)])
            if members:
                total = sum(counts[k] for k in members)
                sums = [np.sum(parts, axis=0) for parts in zip(*trained, strict=True)]
                self.theta[s] = layered([part / total for part in sums])

    def round_as_released(self, index, active):
        """The loop of the code: one alpha, one module and two optimisers for everybody."""
        people = self.federation.people
        draws = jax.vmap(jax.random.bits)(client_keys(people, index, Purpose.ROLE))
        for s, members in enumerate(self.members(active)):
            result = self.theta[s]
            for k in sorted(members, key=lambda k: int(draws[k])):
                first, second = self.stages(k, index)
                extractor, head, own = self.clients[k]
                alpha, mixing_sgd, shared_sgd = self.last[s] or (own, None, None)
                alpha = alpha if k in self.visited else np.ones(D)
                self.visited.add(k)
                self.clients[k], mixing_sgd = personal_stage(
                    first, (extractor, head, alpha), self.theta[s], self.values, mixing_sgd
                )
                result, shared_sgd = shared_stage(
                    second, self.clients[k], self.theta[s], self.values, shared_sgd
                )
                self.last[s] = (self.clients[k][2], mixing_sgd, shared_sgd)
            self.theta[s] = result

    def compare(self, state, rtol=2e-4, atol=2e-5):
        for k in range(N):
            kept = of_client(self.federation, state.clients, k)
            extractor, head, alpha = self.clients[k]
            got = flat(layers_of(kept.model["params"]) + head_of(kept.model["params"]))
            for mine, theirs in zip(got, flat(extractor + head), strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=atol, err_msg=str(k))
            np.testing.assert_allclose(kept.mixing, alpha, rtol=rtol, atol=atol, err_msg=str(k))
        for s, theta in enumerate(self.theta):
            got = layers_of(jax.tree.map(lambda leaf: leaf[s], state.server.theta["params"]))  # noqa: B023
            for mine, theirs in zip(flat(got), flat(theta), strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=atol)
