"""FedJAX: its FedAvg, and FD on its `for_each_client`, with its jit backend.

FedJAX 0.0.17 calls `jax.tree_map`, which JAX has removed; the shim is the one line below. (Its
other backend, `pmap`, calls `jax.device_put_sharded` and `jax.device_put_replicated`, gone too.)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

jax.tree_map = jax.tree.map  # the shim  # pyright: ignore[reportAttributeAccessIssue]

import fedjax  # pyright: ignore[reportMissingImports]

from . import jax_models
from .job import Job
from .protocol import Contestant, serve

SMALLEST = 1e-7


class OrderedDataset(fedjax.ClientDataset):
    """A client's examples, whose shuffled batches come in the job's order.

    FedJAX's own view does the same indexing, after it has drawn the order.
    """

    def __init__(self, examples: dict[str, np.ndarray], orders: np.ndarray, now: list[int]):
        super().__init__(examples)
        self.orders = orders
        self.now = now

    def shuffle_repeat_batch(self, hparams=None, **more):
        """Batches of one epoch, in the order of round `now`."""
        size = hparams.batch_size if hparams is not None else more["batch_size"]
        for indices in self.orders[self.now[0]].reshape(-1, size):
            yield {name: values[indices] for name, values in self.raw_examples.items()}


def prepare(job: Job, options: dict[str, Any]) -> Contestant:
    """A contestant for the job."""
    del options
    terms = job.terms
    fedjax.set_for_each_client_backend("jit")
    batching = fedjax.ShuffleRepeatBatchHParams(batch_size=terms.batch_size, num_epochs=1)
    labels = job.labels.astype(np.int32)
    now = [0]
    datasets = [
        OrderedDataset({"x": job.inputs[k], "y": labels[k]}, job.order[:, k], now)
        for k in range(job.n_clients)
    ]
    make = _fedavg if terms.method == "fedavg" else _fd
    run_round, models = make(job, datasets, batching)

    def round_(index: int) -> None:
        now[0] = index
        run_round(index)

    @jax.jit
    def correct(weights, inputs, labels):
        return (jax_models.forward(terms.model, weights, inputs).argmax(1) == labels).sum()

    def evaluate() -> float:
        hits, scored = 0, models()
        answers = job.test_labels.astype(np.int32)
        for weights in scored:
            for start in range(0, len(answers), 250):
                piece = slice(start, start + 250)
                hits += int(correct(weights, job.test_inputs[piece], answers[piece]))
        return hits / (len(scored) * len(answers))

    return Contestant(job.n_parameters, round_, evaluate)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, labels[:, None], 1).mean()


def _fedavg(job: Job, datasets, batching):
    terms = job.terms

    def loss(weights, batch, rng):
        del rng
        return _cross_entropy(jax_models.forward(terms.model, weights, batch["x"]), batch["y"])

    algorithm = fedjax.algorithms.fed_avg.federated_averaging(
        jax.grad(loss),
        fedjax.optimizers.sgd(terms.learning_rate),
        fedjax.optimizers.sgd(1.0),
        batching,
    )
    state = [algorithm.init({key: jnp.asarray(leaf[0]) for key, leaf in job.weights.items()})]

    def round_(index: int) -> None:
        keys = jax.random.split(jax.random.PRNGKey(index), job.n_clients)
        clients = [(k, data, keys[k]) for k, data in enumerate(datasets)]
        state[0], _ = algorithm.apply(state[0], clients)
        jax.block_until_ready(state[0].params)

    return round_, lambda: [state[0].params]


def _fd(job: Job, datasets, batching):
    terms, size = job.terms, job.terms.n_classes

    def loss(weights, batch, table):
        logits = jax_models.forward(terms.model, weights, batch["x"])
        log_p = jax.nn.log_softmax(logits)
        target = table[batch["y"]]
        log_target = jnp.log(jnp.maximum(target, SMALLEST))
        soft = jnp.sum(target * (log_target - log_p), 1).mean()
        return _cross_entropy(logits, batch["y"]) + terms.kl_weight * soft, jnp.exp(log_p)

    gradient = jax.grad(loss, has_aux=True)

    def client_init(shared, client):
        del shared
        return {**client, "sums": jnp.zeros((size, size)), "counts": jnp.zeros(size)}

    def client_step(state, batch):
        gradients, outputs = gradient(state["weights"], batch, state["table"])
        weights = jax.tree.map(
            lambda leaf, slope: leaf - terms.learning_rate * slope, state["weights"], gradients
        )
        belongs = jax.nn.one_hot(batch["y"], size)
        sums = state["sums"] + belongs.T @ outputs
        counts = state["counts"] + belongs.sum(0)
        return {"weights": weights, "table": state["table"], "sums": sums, "counts": counts}, ()

    def client_final(shared, state):
        del shared
        return {name: state[name] for name in ("weights", "sums", "counts")}

    run = fedjax.for_each_client(client_init, client_step, client_final, with_step_result=True)

    @jax.jit
    def tables_of(sums, counts):
        means = sums / jnp.maximum(counts, 1.0)[:, :, None]
        holds = (counts > 0).astype(jnp.float32)
        others = holds.sum(0) - holds
        mean = (means.sum(0) - means) / jnp.maximum(others, 1.0)[:, :, None]
        return jnp.maximum(mean, SMALLEST) * (others > 0)[:, :, None]

    models = [
        {key: jnp.asarray(leaf[k]) for key, leaf in job.weights.items()}
        for k in range(job.n_clients)
    ]
    tables = [jnp.zeros((job.n_clients, size, size))]

    def round_(index: int) -> None:
        del index
        clients = [
            (k, data.shuffle_repeat_batch(batching), {"weights": models[k], "table": tables[0][k]})
            for k, data in enumerate(datasets)
        ]
        sums, counts = [], []
        for k, sent, _ in run((), clients):
            models[k] = sent["weights"]
            sums.append(sent["sums"])
            counts.append(sent["counts"])
        tables[0] = tables_of(jnp.stack(sums), jnp.stack(counts))
        jax.block_until_ready((models, tables))

    return round_, lambda: models


if __name__ == "__main__":
    serve(prepare, ("fedjax", "jax", "jaxlib", "numpy"))
