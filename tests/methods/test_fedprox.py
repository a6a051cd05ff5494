from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import mixture_cases as cases
import numpy as np
import pytest
from mixture_cases import EVERYBODY, MODELS, C, D, N, grouped

from fedjax_kd.clients import Purpose
from fedjax_kd.exchange import uniform
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.fedprox import FedProxRates, fedprox
from fedjax_kd.models import build_model, profile
from fedjax_kd.training import rates

LOCAL = {"epochs": cases.EPOCHS, "batch_size": cases.BATCH_SIZE}
VALUES = rates(0.1, 0.5, 0.02)
SOME = np.array([1, 0, 1, 1, 1, 0, 0, 0, 1, 0], bool)


@cache
def method(models, execution, **options):
    return fedprox(models, execution=execution, **LOCAL, **options)


@pytest.fixture(scope="module")
def whole(federation):
    return grouped(federation)


def hparams(proximal, values=VALUES):
    return FedProxRates(values, jnp.asarray(proximal, jnp.float32))


def of_point(tree, s):
    return jax.tree.map(lambda leaf: leaf[s], tree)


def flat(params):
    return cases.flat(cases.layers_of(params) + cases.head_of(params))


def trained(batches, params, proximal):
    """Descent on CE + mu/2 |theta - theta_0|^2, gradients by hand."""
    start = flat(params)
    parts, sgd = start, cases.Sgd(VALUES, start)
    for x, y in batches:
        layers = cases.layered(parts)
        outputs = cases.features(layers[:-1], x)
        head_grad, slope = cases.at_head(layers[-1:], outputs[-1], y)
        grads = cases.flat(cases.back(layers[:-1], outputs, slope) + head_grad)
        pulled = [g + proximal * (p - p0) for g, p, p0 in zip(grads, parts, start, strict=True)]
        parts = sgd.step(parts, pulled)
    return parts


def test_two_rounds_equal_the_algorithm_by_hand(whole, solo):
    weights = np.array([0.5, 2.0])  # mu at the two points
    actives = [EVERYBODY, SOME]
    states, reports = cases.run(method(MODELS, solo), whole, solo, actives, hparams(weights))
    batches, counts = cases.Batches(whole), np.asarray(whole.people.train.counts)
    for index, active in enumerate(actives):
        for g, group in enumerate(whole.groups):
            for s in (0, 1):
                before = of_point(states[index].server[g], s)["params"]
                want = flat(before)
                members = [int(k) for k in group if active[k] and k // 5 == s]
                if members:
                    found = [
                        trained(batches.of(k, index, Purpose.BATCH_ORDER), before, weights[s])
                        for k in members
                    ]
                    sums = [
                        sum(counts[k] * part for k, part in zip(members, each, strict=True))
                        for each in zip(*found, strict=True)
                    ]
                    want = [part / sum(counts[k] for k in members) for part in sums]
                got = flat(of_point(states[index + 1].server[g], s)["params"])
                for a, b in zip(got, want, strict=True):
                    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5, err_msg=f"{g} {s}")
    assert not reports[1].loss[~SOME].any()
    assert (reports[1].loss[SOME] > 0).all()


@pytest.mark.parametrize("alone", [True, False])
def test_without_weight_it_is_fedavg(federation, whole, solo, alone):
    models, there = (MODELS[0], federation) if alone else (MODELS, whole)
    plain = fedavg(models, execution=solo, **LOCAL)
    want, _ = cases.run(plain, there, solo, [EVERYBODY, SOME], VALUES)
    got, _ = cases.run(method(models, solo), there, solo, [EVERYBODY, SOME], hparams(0.0))
    chex.assert_trees_all_equal(got, want)


def test_a_larger_weight_holds_the_clients_nearer(whole, solo):
    """In the same program: the weight is traced."""
    moved = []
    for weight in (0.0, 1.0, 4.0):
        states, _ = cases.run(method(MODELS, solo), whole, solo, [EVERYBODY], hparams(weight))
        changes = jax.tree.map(lambda a, b: np.sum((a - b) ** 2), *(s.server for s in states))
        moved.append(sum(jax.tree.leaves(changes)))
    assert moved[2] < 0.5 * moved[1] < 0.5 * moved[0]


def test_the_loss_counts_the_distance(federation, solo):
    """One client, one step: its loss is before the step, where the distance is zero."""
    one = build_model("mlp", hidden=(D,), **cases.TASK)
    only = np.arange(N) == 1
    single = fedprox(one, epochs=1, batch_size=16, execution=solo)
    double = fedprox(one, epochs=2, batch_size=16, execution=solo)
    losses = {}
    for name, program in (("single", single), ("double", double)):
        for weight in (0.0, 3.0):
            _, (report,) = cases.run(
                program, federation, solo, [only], hparams(weight, rates(0.05))
            )
            losses[name, weight] = float(report.loss[1])
    assert losses["single", 0.0] == losses["single", 3.0]
    states, _ = cases.run(single, federation, solo, [only], hparams(0.0, rates(0.05)))
    change = jax.tree.map(lambda a, b: np.sum((b - a)[0] ** 2), *(s.server for s in states))
    distance = 1.5 * sum(jax.tree.leaves(change))
    assert losses["double", 3.0] == pytest.approx(losses["double", 0.0] + distance, rel=1e-5)


def test_models_are_sent_each_way_and_work_is_that_of_fedavg(whole, solo):
    _, (report,) = cases.run(method(MODELS, solo), whole, solo, [SOME], hparams(1.0))
    second = np.isin(np.arange(N), np.asarray(whole.groups[1]))
    sizes = np.where(second, 6 * D + D + D * C + C, 6 * 6 + 6 + 6 * D + D + D * C + C)
    np.testing.assert_array_equal(report.uplink_bits, SOME * 32 * sizes)
    np.testing.assert_array_equal(report.downlink_bits, SOME * 32 * sizes)
    flops = np.where(second, *(profile(model).training_flops for model in MODELS[::-1]))
    counts = np.asarray(whole.people.train.counts)
    np.testing.assert_allclose(report.work_flops, SOME * counts * cases.EPOCHS * flops)


def test_a_quantised_upload_takes_its_bits(whole, solo):
    coarse = method(MODELS, solo, upload=uniform(4))
    states, (report,) = cases.run(coarse, whole, solo, [SOME], hparams(1.0))
    second = np.isin(np.arange(N), np.asarray(whole.groups[1]))
    sizes = np.where(second, 6 * D + D + D * C + C, 6 * 6 + 6 + 6 * D + D + D * C + C)
    arrays = np.where(second, 4, 6)
    np.testing.assert_array_equal(report.uplink_bits, SOME * (4 * sizes + 64 * arrays))
    np.testing.assert_array_equal(report.downlink_bits, SOME * 32 * sizes)
    exact, _ = cases.run(method(MODELS, solo), whole, solo, [SOME], hparams(1.0))
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), states[1].server, exact[1].server)
    assert 0 < max(jax.tree.leaves(apart)) < 0.02


def test_models_of_different_tasks_are_refused(whole, solo):
    other = build_model("mlp", input_shape=(6,), n_classes=4, hidden=(D,))
    with pytest.raises(ValueError, match=r"n_classes \[3, 4\]; allowed"):
        method((MODELS[0], other), solo)
    with pytest.raises(ValueError, match="found 1 groups of clients for 2 models"):
        method(MODELS, solo).init(replace(whole, groups=()))
