from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import mixture_cases as cases
import numpy as np
import pytest
from mixture_cases import EVERYBODY, MODELS, C, D, N, grouped

from fedjax_kd.clients import Purpose, groups_by_turns
from fedjax_kd.methods.contract import Round
from fedjax_kd.methods.local import local
from fedjax_kd.methods.pool import draw_pool
from fedjax_kd.models import build_model
from fedjax_kd.training import rates

LOCAL = {"epochs": cases.EPOCHS, "batch_size": cases.BATCH_SIZE}
VALUES = rates(0.1, 0.5, 0.02)


@cache
def method(execution):
    return local(MODELS, execution=execution, **LOCAL)


@pytest.fixture(scope="module")
def whole(federation):
    return grouped(federation)


def test_two_rounds_equal_the_training_written_by_hand(whole, solo):
    some = np.arange(N) % 3 != 0
    actives = [EVERYBODY, some]
    states, reports = cases.run(method(solo), whole, solo, actives, VALUES)
    batches = cases.Batches(whole)
    for k in range(N):
        params = cases.of_client(whole, states[0].clients, k)["params"]
        extractor, head = cases.layers_of(params), cases.head_of(params)
        n = 2 * len(extractor)
        for index, active in enumerate(actives):
            if not active[k]:
                continue
            sgd = cases.Sgd(VALUES, cases.flat(extractor + head))  # afresh in every round
            for x, y in batches.of(k, index, Purpose.BATCH_ORDER):
                outputs = cases.features(extractor, x)
                head_grad, slope = cases.at_head(head, outputs[-1], y)
                grads = cases.flat(cases.back(extractor, outputs, slope) + head_grad)
                parts = sgd.step(cases.flat(extractor + head), grads)
                extractor, head = cases.layered(parts[:n]), cases.layered(parts[n:])
        got = cases.of_client(whole, states[2].clients, k)["params"]
        mine = cases.flat(cases.layers_of(got) + cases.head_of(got))
        for a, b in zip(mine, cases.flat(extractor + head), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5, err_msg=str(k))
    assert not reports[1].loss[~some].any()


def test_clients_of_one_architecture_and_point_start_alike_and_others_do_not(whole, solo):
    states, _ = cases.run(method(solo), whole, solo, [], VALUES)
    first = states[0].clients[0]["params"]["head"]["kernel"]  # users 0, 2 and 4 of both points
    np.testing.assert_array_equal(first[0], first[2])
    assert (first[0] != first[3]).any()
    assert (first[0] != states[0].clients[1]["params"]["head"]["kernel"][0]).any()


def test_nothing_is_sent_and_work_follows_the_architecture(whole, solo):
    some = np.arange(N) % 2 == 0
    _, (report,) = cases.run(method(solo), whole, solo, [some], VALUES)
    assert not report.uplink_bits.any()
    assert not report.downlink_bits.any()
    second = np.isin(np.arange(N), np.asarray(whole.groups[1]))
    forward = 2.0 * np.where(second, 6 * D + D * C, 6 * 6 + 6 * D + D * C)
    counts = np.asarray(whole.people.train.counts)
    np.testing.assert_allclose(report.work_flops, some * counts * cases.EPOCHS * 3 * forward)
    padded = -(-counts // cases.BATCH_SIZE) * cases.BATCH_SIZE
    np.testing.assert_allclose(report.executed_flops, some * padded * cases.EPOCHS * 3 * forward)


def test_one_architecture_needs_no_groups(federation, solo):
    alone = local(MODELS[:1], execution=solo, **LOCAL)
    states, _ = cases.run(alone, federation, solo, [EVERYBODY], VALUES)
    (stack,) = states[1].clients
    chex.assert_tree_shape_prefix(stack, (N,))
    (predictor,) = alone.predict(states[1], federation)["own"]
    assert predictor.clients is not None
    assert predictor.clients.tolist() == list(range(N))
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf[3]), stack)
    assert predictor.logits is not None
    assert predictor.logits(variables, jnp.ones((2, 6))).shape == (2, C)


def test_one_model_may_be_given_by_itself(federation, solo):
    given = [local(models, execution=solo, **LOCAL) for models in (MODELS[0], MODELS[:1])]
    one, other = (cases.run(each, federation, solo, [EVERYBODY], VALUES)[0][1] for each in given)
    chex.assert_trees_all_equal(one, other)


def test_models_of_different_tasks_are_refused(solo):
    other = build_model("mlp", input_shape=(7,), n_classes=C, hidden=(D,))
    with pytest.raises(ValueError, match=r"input_shape \[\(6,\), \(6,\), \(7,\)\]; allowed"):
        local((*MODELS, other), execution=solo, **LOCAL)


def test_as_many_groups_as_models_are_wanted(whole, solo):
    with pytest.raises(ValueError, match="found 2 groups of clients for 1 models"):
        local(MODELS[:1], execution=solo, **LOCAL).init(whole)
    with pytest.raises(ValueError, match="found 1 groups of clients for 2 models"):
        method(solo).init(replace(whole, groups=()))


def test_only_those_train_whom_dfml_would_draw(federation, solo):
    grouped = replace(federation, groups=groups_by_turns(federation.people, 2))
    models = tuple(
        build_model("mlp", input_shape=(6,), n_classes=3, hidden=hidden) for hidden in ((8,), (5,))
    )
    some, all_ = (
        local(models, epochs=1, batch_size=4, execution=solo, senders=senders)
        for senders in (2, None)
    )
    everybody = Round(jnp.int32(3), jnp.ones(10, bool))
    member = np.asarray(draw_pool(grouped.people, 3, 2, everybody.active).member)
    assert member.reshape(2, 5).sum(axis=1).tolist() == [3, 3]
    state, report = some.round(some.init(grouped), grouped, rates(0.1), everybody)
    whole, _ = all_.round(all_.init(grouped), grouped, rates(0.1), everybody)
    start = some.init(grouped)
    assert ((np.asarray(report.work_flops) > 0) == member).all()
    for group, got, trained, first in zip(
        grouped.groups, state.clients, whole.clients, start.clients, strict=True
    ):
        for row, k in enumerate(np.asarray(group)):
            want = jax.tree.map(lambda leaf: leaf[row], trained if member[k] else first)  # noqa: B023
            chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[row], got), want)  # noqa: B023
