import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.data import gather
from fedjax_kd.methods.contract import Predictor
from fedjax_kd.methods.dt_kd import (
    DistillationRates,
    distil,
    init_students,
    own_student,
    soft_labels,
)
from fedjax_kd.models import build_model
from fedjax_kd.training import accuracy_of_clients, default_execution, everywhere, rates

EVERYBODY = jnp.ones(10, bool)


def hparams(weight=0.7, temperature=3.0):
    return DistillationRates(rates(0.1, 0.9), jnp.float32(temperature), jnp.float32(weight))


def train(model, federation, execution, *, labels, labelled, active=EVERYBODY, weight=0.7, stage=0):
    federation, labels, labelled = everywhere((federation, labels, labelled), execution)
    students = init_students(model, federation, jnp.int32(stage), execution=execution)
    return distil(
        model,
        students,
        federation,
        labels,
        labelled,
        hparams(weight),
        jnp.int32(stage),
        active,
        epochs=3,
        batch_size=4,
        execution=execution,
    )[0]


@pytest.fixture(scope="module")
def teacher_labels(federation, solo):
    teacher = build_model("mlp", input_shape=(6,), n_classes=3, hidden=(16, 16))
    stack = jax.vmap(teacher.init)(federation.people.roots)
    predictor = Predictor(stack=stack, row=federation.people.point)
    return teacher, predictor, soft_labels(teacher, predictor, federation, execution=solo)


def test_soft_labels_are_the_own_points_teachers_logits(federation, teacher_labels):
    teacher, predictor, labels = teacher_labels
    people = federation.people
    for k in (0, 7):
        variables = jax.tree.map(lambda leaf: leaf[people.point[k]], predictor.stack)  # noqa: B023
        count = int(people.train.counts[k])
        rows = people.train.indices[k][:count]
        inputs, _ = gather(federation.table, rows)
        want, _ = teacher.apply(variables, inputs, train=False)
        np.testing.assert_allclose(labels[k, :count], want, rtol=2e-5, atol=1e-5)
        assert not np.asarray(labels[k, count:]).any()


def test_without_soft_labels_or_without_weight_it_is_local_training(
    model, federation, solo, teacher_labels
):
    labels = teacher_labels[2]
    counts = federation.people.train.counts
    none = train(model, federation, solo, labels=labels, labelled=jnp.zeros_like(counts))
    weightless = train(model, federation, solo, labels=labels, labelled=counts, weight=0.0)
    with_teacher = train(model, federation, solo, labels=labels, labelled=counts)
    chex.assert_trees_all_close(none, weightless, rtol=1e-6, atol=1e-7)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(none, with_teacher, rtol=1e-3, atol=1e-3)


def test_only_the_labelled_rows_learn_from_the_teacher(model, federation, solo, teacher_labels):
    """What the teacher says of an unlabelled row changes nothing, not even if it is huge."""
    labels = teacher_labels[2]
    half = federation.people.train.counts // 2
    changed = jnp.where(
        jnp.arange(labels.shape[1])[None, :, None] < half[:, None, None], labels, 50.0
    )
    one = train(model, federation, solo, labels=labels, labelled=half)
    other = train(model, federation, solo, labels=changed, labelled=half)
    chex.assert_trees_all_close(one, other, rtol=1e-6, atol=1e-7)


def test_students_that_are_not_wanted_come_back_bit_for_bit(
    model, federation, executions, teacher_labels
):
    labels = teacher_labels[2]
    active = jnp.asarray([1, 0, 0, 1, 1, 0, 1, 0, 0, 1], bool)
    counts = federation.people.train.counts
    for execution in executions:
        before = jax.device_get(init_students(model, federation, jnp.int32(0), execution=execution))
        after = train(model, federation, execution, labels=labels, labelled=counts, active=active)
        idle = ~np.asarray(active)
        chex.assert_trees_all_equal(
            jax.tree.map(lambda leaf: leaf[idle], before),  # noqa: B023
            jax.tree.map(lambda leaf: leaf[idle], jax.device_get(after)),  # noqa: B023
        )


def test_all_executions_agree_and_one_client_alone_is_the_same(
    model, federation, executions, solo, teacher_labels
):
    labels = teacher_labels[2]
    counts = federation.people.train.counts
    results = [
        jax.device_get(train(model, federation, e, labels=labels, labelled=counts))
        for e in executions
    ]
    for other in results[1:]:
        chex.assert_trees_all_close(results[0], other, rtol=2e-5, atol=1e-5)
    alone = jnp.arange(10) == 6
    single = train(model, federation, solo, labels=labels, labelled=counts, active=alone)
    chex.assert_trees_all_equal(
        jax.tree.map(lambda leaf: leaf[6], results[0]), jax.tree.map(lambda leaf: leaf[6], single)
    )


def test_another_stage_draws_other_students(model, federation, solo):
    first = init_students(model, federation, jnp.int32(0), execution=solo)
    second = init_students(model, federation, jnp.int32(1), execution=solo)
    kernels = [leaf for leaf in jax.tree.leaves(first) if leaf.ndim == 3]
    others = [leaf for leaf in jax.tree.leaves(second) if leaf.ndim == 3]
    assert kernels
    assert all(not np.allclose(a, b) for a, b in zip(kernels, others, strict=True))


def test_one_program_serves_every_kind_of_label_and_both_stages(model, federation, teacher_labels):
    labels = teacher_labels[2]
    execution = default_execution(2)
    counts = federation.people.train.counts
    train(model, federation, execution, labels=labels, labelled=counts)
    compiled = distil._cache_size()  # pyright: ignore[reportAttributeAccessIssue]
    train(model, federation, execution, labels=labels, labelled=counts * 0, stage=1)
    train(model, federation, execution, labels=labels, labelled=counts, active=~EVERYBODY)
    assert distil._cache_size() == compiled  # pyright: ignore[reportAttributeAccessIssue]


def test_accuracy_counts_hits_by_hand(model, federation, solo):
    people = federation.people
    students = own_student(
        init_students(model, federation, jnp.int32(0), execution=solo), federation
    )
    got = accuracy_of_clients(
        model,
        students.stack,
        students.row,
        federation.table,
        people.test,
        jnp.arange(10, dtype=jnp.int32),
        EVERYBODY,
        solo,
    )
    for k in range(10):
        rows = people.test.indices[k][: int(people.test.counts[k])]
        inputs, _ = gather(federation.table, rows)
        variables = jax.tree.map(lambda leaf: leaf[k], students.stack)  # noqa: B023
        logits, _ = model.apply(variables, inputs, train=False)
        hits = np.argmax(logits, axis=-1) == np.asarray(federation.table.labels[rows])
        assert float(got[k]) == pytest.approx(hits.mean())
