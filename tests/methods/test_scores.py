"""Accuracies of clients' models against predictions made one by one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import groups_by_turns
from fedjax_kd.data import gather
from fedjax_kd.methods.contract import Predictor, logits_of
from fedjax_kd.methods.scores import client_accuracies
from fedjax_kd.models import build_model


def by_hand(model, variables, table, rows, k):
    inputs, labels = gather(table, rows.indices[k][: int(rows.counts[k])])
    return float(np.mean(np.argmax(model.apply(variables, inputs, False)[0], -1) == labels))


def test_own_models_of_two_architectures(federation, executions):
    people, table = federation.people, federation.table
    grouped = replace(federation, groups=groups_by_turns(people, 2))
    models = [
        build_model("mlp", input_shape=(6,), n_classes=3, hidden=hidden) for hidden in ((8,), (5,))
    ]
    stacks = [
        jax.vmap(model.init)(jax.random.split(jax.random.key(g), len(group)))
        for g, (model, group) in enumerate(zip(models, grouped.groups, strict=True))
    ]
    predictors = tuple(
        Predictor(stack, jnp.arange(len(group)), clients=group, logits=logits_of(model))
        for stack, group, model in zip(stacks, grouped.groups, models, strict=True)
    )
    want = np.zeros((2, people.n_clients))
    for model, stack, group in zip(models, stacks, grouped.groups, strict=True):
        for i, k in enumerate(np.asarray(group)):
            own = jax.tree.map(lambda leaf: leaf[i], stack)  # noqa: B023
            want[0, k] = by_hand(model, own, table, people.test, k)
            want[1, k] = by_hand(model, own, table, people.common_test, int(people.point[k]))
    assert want.std() > 0.05
    for execution in executions:
        compiled = jax.jit(lambda: client_accuracies(predictors, grouped, execution))  # noqa: B023
        got = compiled()
        np.testing.assert_allclose(np.stack(got), want, atol=1e-6)


def test_shared_models_are_scored_for_everybody_who_uses_them(federation, model, solo):
    """Models 0 and 2 of a stack of four are used; the others belong to nobody."""
    people = federation.people
    stack = jax.vmap(model.init)(jax.random.split(jax.random.key(3), 4))
    row = jnp.where(people.point == 0, 2, 0)
    predictor = Predictor(stack, row, logits=logits_of(model))
    personal, common = client_accuracies((predictor,), federation, solo)
    for k in range(people.n_clients):
        own = jax.tree.map(lambda leaf: leaf[int(row[k])], stack)  # noqa: B023
        assert float(personal[k]) == pytest.approx(
            by_hand(model, own, federation.table, people.test, k)
        )
        point = int(people.point[k])
        assert float(common[k]) == pytest.approx(
            by_hand(model, own, federation.table, people.common_test, point)
        )


def test_a_predictor_that_cannot_classify_is_refused(federation, model, solo):
    stack = jax.vmap(model.init)(federation.people.roots)
    with pytest.raises(ValueError, match="logits: None; allowed: the function"):
        client_accuracies((Predictor(stack, federation.people.point),), federation, solo)
