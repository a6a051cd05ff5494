"""DFML on the embedded digits: the pool's models know what no client could teach its own."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import groups_by_turns, population
from fedjax_kd.data import UserSplit, example_table, gather, load_source
from fedjax_kd.methods.contract import Federation, Round
from fedjax_kd.methods.dfml import DfmlRates, dfml
from fedjax_kd.methods.dfml_cycle import Schedule
from fedjax_kd.models import build_model
from fedjax_kd.training import Execution, rates

ROUNDS, USERS = 36, 4
ONE = Execution("sequential", tuple(jax.local_devices()[:1]))


def digits_by_class() -> Federation:
    """Four users who hold images of two or three of the ten classes each; 300 images to test."""
    source = load_source("digits")
    labels = np.asarray(source.train_labels)
    order = np.random.default_rng(0).permutation(len(labels)).astype(np.int32)
    common, rest = order[:300], order[300:1100]
    train = tuple(rest[labels[rest] % USERS == user] for user in range(USERS))
    few = tuple(common[:4] for _ in range(USERS))
    people = population((0,), [UserSplit(train, few, few, common, common)])
    return Federation(example_table(source), people, groups_by_turns(people, 2))


def test_peak_models_know_the_classes_that_their_owners_never_saw():
    federation = digits_by_class()
    models = tuple(
        build_model("mlp", input_shape=(8, 8, 1), n_classes=10, hidden=(size,)) for size in (32, 24)
    )
    made = dfml(
        models,
        senders=2,
        epochs=3,
        batch_size=32,
        execution=ONE,
        schedule=Schedule("cosine", first_period=10, growth=0),
    )
    hparams = DfmlRates(rates(0.05, momentum=0.9), jnp.float32(1), jnp.float32(1), jnp.float32(0.9))
    everybody = jnp.ones(USERS, bool)

    @jax.jit
    def run(federation):
        def one(index, state):
            return made.round(state, federation, hparams, Round(index, everybody))[0]

        return jax.lax.fori_loop(0, ROUNDS, one, made.init(federation))

    state = run(federation)
    inputs, labels = gather(federation.table, federation.people.common_test.indices[0])
    for predictor in made.predict(state, federation)["peak"]:
        assert predictor.logits is not None
        logits = jax.vmap(predictor.logits, in_axes=(0, None))(predictor.stack, inputs)
        accuracy = (jnp.argmax(logits, axis=-1) == labels[None, :]).mean(axis=1)
        # Alone, a model can be right on the two or three classes of its owner, a third of all at
        # most. Measured: 0.6 to 0.7.
        assert (accuracy > 0.5).all(), accuracy
