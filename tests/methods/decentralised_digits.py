"""Digits with skewed labels on users of two architectures, and how well a method does there."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import groups_by_turns, population
from fedjax_kd.data import build_split, example_table, host_rng, load_source
from fedjax_kd.data.partition_specs import Dirichlet
from fedjax_kd.methods.contract import Federation
from fedjax_kd.methods.rounds import run_rounds
from fedjax_kd.methods.scores import client_accuracies
from fedjax_kd.models import build_model
from fedjax_kd.training import Execution

N_USERS, SENDERS, EPOCHS, BATCH_SIZE, ROUNDS = 8, 3, 4, 16, 30


@cache
def federation() -> Federation:
    source = load_source("digits")
    split = build_split(source, Dirichlet(alpha=0.5), N_USERS, rng=host_rng(0, "split"))
    people = population([0], [split])
    return Federation(example_table(source), people, groups_by_turns(people, 2))


@cache
def models():
    return tuple(network(hidden) for hidden in ((32,), (24, 16)))


@cache
def network(hidden: tuple[int, ...]):
    return build_model("mlp", input_shape=(8, 8, 1), n_classes=10, hidden=hidden)


def execution() -> Execution:
    return Execution("sequential", tuple(jax.devices()[:1]))


def sizes(**options):
    """What the methods are built with."""
    common = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "execution": execution()}
    return common | {"senders": SENDERS} | options


def common_accuracy(method, hparams, rounds=ROUNDS) -> dict[str, float]:
    """By view, the mean accuracy of the clients' models on the common test set."""
    whole = federation()
    state, _ = run_rounds(
        method, jax.jit(method.init)(whole), whole, hparams, rounds=rounds, execution=execution()
    )
    views = method.predict(state, whole)
    score = jax.jit(lambda view: jnp.mean(client_accuracies(view, whole, execution())[1]))
    return {name: float(np.asarray(score(view))) for name, view in views.items()}
