"""Our side: the rounds of the package, scored before training as HtFLlib does."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.data import gather
from fedjax_kd.methods.contract import Predictor, Round

from .job import Outcome
from .setting import Setting, weights_of

SCORED_AT_ONCE = 250


def run(case: Setting) -> Outcome:
    """All rounds."""
    people, terms = case.federation.people, case.terms
    step = jax.jit(case.method.round, donate_argnums=0)
    scores = _scorer(case)
    state = jax.jit(case.method.init)(case.federation)
    everybody = jnp.ones(people.n_clients, bool)
    accuracy, parameters = [], []
    for number in range(terms.rounds):
        accuracy.append(scores(state))
        state, _ = step(state, case.federation, case.hparams, Round(jnp.int32(number), everybody))
        if number < terms.checked:
            parameters.append(weights_of(case, state))
    accuracy.append(scores(state))
    return Outcome(np.array(accuracy), parameters)


def _scorer(case: Setting):
    """`(state) -> share of correct predictions over the test examples of all clients`."""
    people, table = case.federation.people, case.federation.table
    rows, counts = np.asarray(people.test.indices), np.asarray(people.test.counts)
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % SCORED_AT_ONCE)))

    @jax.jit
    def hits(state: Any, k: jax.Array, taken: jax.Array, real: jax.Array) -> jax.Array:
        predictor: Predictor = next(iter(case.method.predict(state, case.federation).values()))[0]
        assert predictor.logits is not None
        variables = jax.tree.map(lambda leaf: leaf[predictor.row[k]], predictor.stack)
        inputs, labels = gather(table, taken)
        logits = predictor.logits(variables, inputs)
        # Without prototypes nothing is predicted, and nothing is right.
        right = (jnp.argmax(logits, axis=1) == labels) & (jnp.max(logits, axis=1) > -jnp.inf)
        return jnp.sum(right & real, dtype=jnp.int32)

    def share(state: Any) -> float:
        found = []
        for k in range(people.n_clients):
            for start in range(0, int(counts[k]), SCORED_AT_ONCE):
                taken = padded[k, start : start + SCORED_AT_ONCE]
                real = start + np.arange(SCORED_AT_ONCE) < counts[k]
                found.append(hits(state, jnp.int32(k), jnp.asarray(taken), jnp.asarray(real)))
        return sum(int(each) for each in found) / int(counts.sum())

    return share
