"""A small federation of synthetic users, and random instances of the joint problem."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import population
from fedjax_kd.data import Source, UserSplit, example_table
from fedjax_kd.methods.contract import Federation
from fedjax_kd.methods.dt_kd_problem import DecisionProblem, Sharing, with_reference_delay
from fedjax_kd.models import build_model
from fedjax_kd.system import load_profile, sample_fleet, workload
from fedjax_kd.training import Execution
from fedjax_kd.training.execution import FORMS

SIZES = (9, 4, 7, 12, 5)
SEEDS = (0, 1)


def gaussian_source(n_examples: int = 200, n_classes: int = 3) -> Source:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, n_examples).astype(np.int32)
    centres = 2.0 * rng.normal(size=(n_classes, 6))
    inputs = (centres[labels] + rng.normal(size=(n_examples, 6))).astype(np.float32)
    return Source(
        name="gaussian",
        train_inputs=inputs,
        train_labels=labels,
        test_inputs=inputs[:0],
        test_labels=labels[:0],
        n_classes=n_classes,
        class_names=tuple("abc"[:n_classes]),
    )


def split_of(order: np.ndarray, sizes=SIZES) -> UserSplit:
    order = order.astype(np.int32)
    starts = np.cumsum([0, *sizes])
    train = tuple(order[a:b] for a, b in itertools.pairwise(starts))
    rest = order[starts[-1] :]
    parts = np.array_split(rest, 2 * len(sizes) + 2)
    return UserSplit(
        train=train,
        validation=tuple(parts[: len(sizes)]),
        test=tuple(parts[len(sizes) : 2 * len(sizes)]),
        common_validation=parts[-2],
        common_test=parts[-1],
    )


@pytest.fixture(scope="session")
def federation() -> Federation:
    source = gaussian_source()
    orders = [np.random.default_rng(seed).permutation(200) for seed in SEEDS]
    people = population(SEEDS, [split_of(order) for order in orders])
    return Federation(table=example_table(source), people=people)


@pytest.fixture(scope="session")
def model():
    return build_model("mlp", input_shape=(6,), n_classes=3, hidden=(8,))


@pytest.fixture(scope="session")
def solo() -> Execution:
    return Execution("sequential", tuple(jax.local_devices()[:1]))


@pytest.fixture(scope="session")
def executions() -> list[Execution]:
    one, two = tuple(jax.local_devices()[:1]), tuple(jax.local_devices()[:2])
    return [Execution(form, devices, width=2) for form in FORMS for devices in (one, two)]


def random_problem(
    key: jax.Array, n_users: int = 5, n_students: int = 3, delay_weight: float = 0.5
) -> DecisionProblem:
    """An instance of the kind that section 1.6 of the reconstruction describes: all assumptions."""
    keys = [jax.random.fold_in(key, index) for index in range(5)]
    samples = jax.random.randint(keys[0], (n_users, 1), 200, 2000)
    forward = jnp.sort(jax.random.uniform(keys[1], (n_students,), minval=1e5, maxval=2e7))
    both = jnp.tile(forward, 2)[None, :]
    gain = 0.15 * jax.random.uniform(keys[2], (n_users, 1)) * jnp.linspace(0, 1, n_students)[None]
    noise = 0.02 * jax.random.normal(keys[3], (n_users, n_students))
    accuracy = 0.6 + gain + noise
    at_server = jnp.repeat(jnp.array([False, True]), n_students)[None, :]
    synchronised = samples // 2
    work = workload(
        training_flops_per_example=3 * both,
        student_bits=both,
        teacher_flops_per_example=4e7,
        raw_bits_per_example=24_576,
        n_classes=10,
        epochs=5,
        samples=samples,
        synchronised=synchronised,
        labelled=samples,
        at_server=at_server,
    )
    problem = DecisionProblem(
        accuracy=jnp.tile(accuracy, (1, 2)),
        workload=work,
        fleet=sample_fleet(keys[4], load_profile("cell_500m"), n_users),
        feasible=jnp.ones((n_users, 2 * n_students), bool),
        delay_weight=jnp.float32(delay_weight),
        reference_delay_s=jnp.float32(1),
    )
    return with_reference_delay(problem, jax.random.fold_in(key, 9), draws=64, sharing=Sharing())


@pytest.fixture(scope="session")
def make_problem():
    return random_problem
