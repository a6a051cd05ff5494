from functools import cache

import chex
import jax
import jax.numpy as jnp
import mixture_cases as cases
import numpy as np
import pytest
from mixture_cases import EVERYBODY, MODELS, C, D, N, grouped

from fedjax_kd.exchange import clip_and_noise, compose, delta, traced_numbers, uniform
from fedjax_kd.methods.lg_fedavg import lg_fedavg
from fedjax_kd.methods.local import local
from fedjax_kd.methods.parameter_upload import SendingRates
from fedjax_kd.models import build_model
from fedjax_kd.training import rates

LOCAL = {"epochs": cases.EPOCHS, "batch_size": cases.BATCH_SIZE}
VALUES = rates(0.1, 0.5, 0.02)


@cache
def method(execution):
    return lg_fedavg(MODELS, execution=execution, **LOCAL)


@pytest.fixture(scope="module")
def whole(federation):
    return grouped(federation)


def with_heads(whole, clients, heads):
    """The same models under the head of their point; state of `local`."""
    point = np.asarray(whole.people.point)
    return tuple(
        {
            "params": {
                "extractor": part["params"]["extractor"],
                "head": jax.tree.map(lambda leaf: leaf[point[np.asarray(group)]], heads),  # noqa: B023
            },
            "stats": part["stats"],
        }
        for group, part in zip(whole.groups, clients, strict=True)
    )


def test_a_round_is_local_training_from_the_common_head_and_its_mean(whole, solo):
    """The method against `Local`, which is held against training by hand elsewhere."""
    some = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 0], bool)
    states, _ = cases.run(method(solo), whole, solo, [EVERYBODY, some], VALUES)
    alone = local(MODELS, execution=solo, **LOCAL)
    for index, active in enumerate([EVERYBODY, some]):
        before, after = states[index], states[index + 1]
        start = before.replace(server=(), clients=with_heads(whole, before.clients, before.server))
        trained, _ = cases.run(alone, whole, solo, [active], VALUES, first=index, state=start)
        counts = np.asarray(whole.people.train.counts)
        want = jax.tree.map(np.array, before.server)
        for s in (0, 1):
            members = [k for k in np.flatnonzero(active) if k // 5 == s]
            kept = [cases.of_client(whole, trained[1].clients, k) for k in members]
            for part in ("kernel", "bias"):
                if members:
                    heads = [client["params"]["head"][part] for client in kept]
                    want[part][s] = np.average(heads, axis=0, weights=counts[members])
        chex.assert_trees_all_close(after.server, want, rtol=1e-5, atol=1e-6)
        for k in range(N):
            mine = cases.of_client(whole, after.clients, k)
            source = trained[1].clients if active[k] else before.clients
            theirs = cases.of_client(whole, source, k)
            chex.assert_trees_all_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_the_two_views_differ_in_the_head_alone(whole, solo):
    states, _ = cases.run(method(solo), whole, solo, [EVERYBODY], VALUES)
    views = method(solo).predict(states[1], whole)
    assert list(views) == ["averaged", "trained"]
    want = with_heads(whole, states[1].clients, states[1].server)
    for number, (averaged, trained) in enumerate(zip(*views.values(), strict=True)):
        chex.assert_trees_all_equal(averaged.stack, want[number])
        chex.assert_trees_all_equal(trained.stack, states[1].clients[number])
        assert (
            averaged.stack["params"]["head"]["bias"] != trained.stack["params"]["head"]["bias"]
        ).any()


def test_everybody_starts_from_one_head(whole, solo):
    states, _ = cases.run(method(solo), whole, solo, [], VALUES)
    chex.assert_trees_all_equal(
        states[0].clients, with_heads(whole, states[0].clients, states[0].server)
    )


def test_a_head_is_sent_each_way(whole, solo):
    some = np.arange(N) % 2 == 0
    _, (report,) = cases.run(method(solo), whole, solo, [some], VALUES)
    np.testing.assert_array_equal(report.uplink_bits, some * 32 * (D * C + C))
    np.testing.assert_array_equal(report.downlink_bits, some * 32 * (D * C + C))
    second = np.isin(np.arange(N), np.asarray(whole.groups[1]))
    forward = 2.0 * np.where(second, 6 * D + D * C, 6 * 6 + 6 * D + D * C)
    counts = np.asarray(whole.people.train.counts)
    np.testing.assert_allclose(report.work_flops, some * counts * cases.EPOCHS * 3 * forward)


def test_heads_through_a_channel_that_remembers(whole, solo):
    """Without training no head changes: what costs a client its head is its first upload alone."""
    some = np.arange(N) % 2 == 0
    upload = compose(uniform(8), delta())
    program = lg_fedavg(MODELS, execution=solo, upload=upload, **LOCAL)
    values = SendingRates(rates(0.0), traced_numbers(upload))
    states, reports = cases.run(program, whole, solo, [some, EVERYBODY], values)
    head = 8 * (D * C + C) + 2 * 64
    np.testing.assert_array_equal(reports[0].uplink_bits, some * (head + 2))
    np.testing.assert_array_equal(reports[1].uplink_bits, ~some * head + 2)
    np.testing.assert_array_equal(reports[1].downlink_bits, 32 * (D * C + C))
    chex.assert_trees_all_close(states[2].server, states[0].server, rtol=1e-6)
    trained, _ = cases.run(program, whole, solo, [some], SendingRates(VALUES, values.upload))
    exact, _ = cases.run(method(solo), whole, solo, [some], VALUES)
    chex.assert_trees_all_close(trained[1].server, exact[1].server, rtol=0, atol=4e-3)
    for k in range(N):
        mine, theirs = (cases.of_client(whole, run[1].clients, k) for run in (trained, exact))
        chex.assert_trees_all_equal({part: mine[part] for part in theirs}, theirs)


def test_an_upload_of_several_steps_that_remember_nothing(whole, solo):
    upload = compose(clip_and_noise(1.0, 0.1), uniform(8))
    program = lg_fedavg(MODELS, execution=solo, upload=upload, **LOCAL)
    values = SendingRates(VALUES, traced_numbers(upload))
    states, reports = cases.run(program, whole, solo, [EVERYBODY], values)
    np.testing.assert_array_equal(reports[0].uplink_bits, 8 * (D * C + C) + 2 * 64)
    exact, _ = cases.run(method(solo), whole, solo, [EVERYBODY], VALUES)
    apart = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), states[1].server, exact[1].server)
    assert all(0 < value < 1 for value in jax.tree.leaves(apart))


def test_heads_for_different_numbers_of_features_are_refused(solo):
    other = build_model("mlp", hidden=(7,), **cases.TASK)
    with pytest.raises(
        ValueError, match=r"features of size mlp 5, mlp 5, mlp 7; allowed: the same"
    ):
        lg_fedavg((*MODELS, other), execution=solo, **LOCAL)
