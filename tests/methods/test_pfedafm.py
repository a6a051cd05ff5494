from dataclasses import replace
from functools import cache
from typing import Any

import chex
import jax
import jax.numpy as jnp
import mixture_cases as cases
import numpy as np
import optax
import pytest
from mixture_cases import EVERYBODY, MODELS, SHARED, C, D, N, grouped

from fedjax_kd.clients import groups_by_turns, population, select, take_rows
from fedjax_kd.data import UserSplit, example_table, load_source
from fedjax_kd.methods.contract import Federation, State
from fedjax_kd.methods.pfedafm import pfedafm
from fedjax_kd.methods.pfedafm_stages import PFedAfmRates, apart, mixing_sgd
from fedjax_kd.methods.scores import client_accuracies
from fedjax_kd.models import build_model
from fedjax_kd.training import Execution, everywhere, rates, sgd

LOCAL = {"epochs": cases.EPOCHS, "batch_size": cases.BATCH_SIZE}


def hparams(**learning_rates):
    """Steps large enough that clipping and both bounds of alpha are met; 0 holds a part still."""
    values = PFedAfmRates(
        local=rates(0.1, 0.5, 0.02, gradient_clip=0.8),
        shared=rates(0.2, 0.6, 0.03, gradient_clip=0.4),
        mixing=rates(1.5, 0.7, 0.01),
    )
    changed = {
        part: replace(getattr(values, part), learning_rate=jnp.float32(rate))
        for part, rate in learning_rates.items()
    }
    return replace(values, **changed)


@cache
def method(execution, **options):
    return pfedafm(MODELS, SHARED, execution=execution, **{**LOCAL, **options})


@pytest.fixture(scope="module")
def whole(federation):
    return grouped(federation)


def run(whole, execution, actives, values=None, of=None, state=None, first=0):
    values = hparams() if values is None else values
    return cases.run(
        of or method(execution), whole, execution, actives, values, first=first, state=state
    )


SOME = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1, 1], bool)


@pytest.mark.parametrize("joint", [False, True])
def test_three_rounds_equal_the_algorithm_written_by_hand(whole, solo, joint):
    actives = [EVERYBODY, SOME, ~SOME]
    states, reports = run(whole, solo, actives, of=method(solo, joint=joint))
    byhand = cases.ByHand(whole, states[0], hparams())
    for index, active in enumerate(actives):
        byhand.round(index, active, joint=joint)
    byhand.compare(states[-1])
    means = [byhand.clients[k][2].mean() for k in range(N)]
    np.testing.assert_allclose(
        reports[-1].extra["mixing_mean"], np.where(actives[-1], means, 0), rtol=2e-4, atol=2e-5
    )
    moved = np.concatenate([part.mixing for part in states[-1].clients])
    assert (moved == 0).any()
    assert ((moved > 0) & (moved < 1)).any()


def test_the_released_code_is_one_chain_over_the_clients(whole, solo):
    """Two rounds in which momentum, alpha and theta go on from client to client."""
    actives = [SOME, EVERYBODY]
    states, _ = run(whole, solo, actives, of=method(solo, mode="released_code"))
    byhand = cases.ByHand(whole, states[0], hparams())
    for index, active in enumerate(actives):
        byhand.round_as_released(index, active)
    byhand.compare(states[-1])
    paper, _ = run(whole, solo, actives)
    assert np.abs(paper[-1].clients[0].mixing - states[-1].clients[0].mixing).max() > 0.01
    theta = states[-1].server.theta["params"]["extractor"]["Dense_0"]["kernel"]
    mean = paper[-1].server.theta["params"]["extractor"]["Dense_0"]["kernel"]
    assert np.abs(theta - mean).max() > 0.01


def test_the_released_code_on_two_devices_computes_the_same(whole, solo):
    two = Execution("chunked", tuple(jax.local_devices()[:2]), width=2)
    one, reports = run(whole, solo, [SOME], of=method(solo, mode="released_code"))
    other, theirs = run(whole, two, [SOME], of=method(two, mode="released_code"))
    chex.assert_trees_all_close(one[-1], other[-1], rtol=5e-6, atol=5e-6)
    chex.assert_trees_all_close(reports, theirs, rtol=5e-6, atol=5e-6)


def test_the_personal_stage_leaves_theta_alone(whole, solo):
    """Bit for bit: client 1 has four examples, by which the mean divides without rounding."""
    only = np.arange(N) == 1
    still = hparams(shared=0)
    states, _ = run(whole, solo, [only], still)
    chex.assert_trees_all_equal(states[0].server.theta, states[1].server.theta)
    before, after = (cases.of_client(whole, state.clients, 1) for state in states)
    assert (before.mixing != after.mixing).any()
    assert not (
        after.model["params"]["head"]["bias"] == before.model["params"]["head"]["bias"]
    ).all()


def test_the_shared_stage_leaves_models_and_mixing_alone(whole, solo):
    """Bit for bit, whatever it learns itself."""
    still = hparams(local=0, mixing=0)
    states, _ = run(whole, solo, [EVERYBODY], still)
    chex.assert_trees_all_equal(states[0].clients, states[1].clients)
    first, last = states[0].server.theta["params"], states[1].server.theta["params"]
    assert all((a != b).any() for a, b in zip(*map(jax.tree.leaves, (first, last)), strict=True))
    gentle, _ = run(whole, solo, [EVERYBODY], hparams(shared=0.01))
    fierce, _ = run(whole, solo, [EVERYBODY], hparams(shared=0.5))
    chex.assert_trees_all_equal(gentle[1].clients, fierce[1].clients)


def test_mixing_stays_between_zero_and_one(whole, solo):
    states, _ = run(whole, solo, [EVERYBODY] * 2, hparams(mixing=30))
    mixing = np.concatenate([part.mixing for part in states[-1].clients])
    assert mixing.min() == 0
    assert mixing.max() == 1


def test_the_projection_comes_after_the_step_and_momentum_keeps_pushing():
    optimiser = mixing_sgd(rates(0.1, 0.5))
    mixing: Any = jnp.asarray([0.95])
    state, seen = optimiser.init(mixing), []
    for gradient in (-4.0, 1.0, 1.0, 0.5):  # velocities -4, -1, 0.5, 0.75
        updates, state = optimiser.update(jnp.asarray([gradient]), state, mixing)
        mixing = optax.apply_updates(mixing, updates)
        seen.append(float(mixing[0]))
    np.testing.assert_allclose(seen, [1.0, 1.0, 0.95, 0.875], rtol=1e-6)


def test_each_part_is_clipped_by_its_own_norm():
    clipped = rates(1.0, gradient_clip=1.0)
    optimiser = apart(model=sgd(clipped), mixing=mixing_sgd(rates(0.01)), shared=sgd(clipped))
    params = {"model": jnp.zeros(2), "mixing": jnp.ones(1), "shared": jnp.zeros(1)}
    grads = {"model": jnp.asarray([30.0, 40.0]), "mixing": jnp.asarray([50.0])}
    grads["shared"] = jnp.asarray([0.5])
    updates: Any = optimiser.update(grads, optimiser.init(params), params)[0]
    np.testing.assert_allclose(updates["model"], [-0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(updates["mixing"], [-0.5], rtol=1e-6)
    np.testing.assert_allclose(updates["shared"], [-0.5], rtol=1e-6)


def test_alpha_leaves_one_by_the_gradient_of_the_shared_branch_alone(whole, solo):
    """Own features are all zero and fixed, alpha does not decay: only (1 - alpha) G(x) is left."""
    init = jax.jit(method(solo).init)(everywhere(whole, solo))
    silent = jax.tree.map(lambda leaf: leaf, init.clients)
    for part in silent:
        layers = part.model["params"]["extractor"]
        part.model["params"]["extractor"] = jax.tree.map(jnp.zeros_like, layers)
    start = State(init.server, silent)
    still = hparams(local=0, mixing=0.1)
    still = replace(still, mixing=replace(still.mixing, weight_decay=jnp.float32(0)))
    states, _ = run(whole, solo, [EVERYBODY], still, state=jax.device_get(start))
    byhand = cases.ByHand(whole, states[0], still)
    byhand.round(0, EVERYBODY)
    byhand.compare(states[1])
    for part in states[1].clients:
        assert (part.mixing.min(axis=1) < 0.999).all()


def test_equal_thetas_average_to_themselves(whole, solo):
    states, _ = run(whole, solo, [EVERYBODY], hparams(shared=0))
    chex.assert_trees_all_close(states[1].server.theta, states[0].server.theta, rtol=3e-7)


@pytest.mark.parametrize("mode", ["paper", "released_code"])
def test_the_order_of_clients_does_not_change_the_aggregate(whole, solo, mode):
    of = method(solo, mode=mode)
    states, _ = run(whole, solo, [EVERYBODY], of=of)
    order = jnp.asarray([4, 2, 0, 3, 1, 9, 8, 7, 6, 5])
    people = select(whole.people, order)
    mixed = replace(whole, people=people, groups=groups_by_turns(people, 2))
    start = jax.device_get(states[0])
    parts = tuple(
        take_rows(part, jnp.asarray([np.flatnonzero(np.asarray(old) == order[k])[0] for k in new]))
        for part, old, new in zip(start.clients, whole.groups, mixed.groups, strict=True)
    )
    moved, _ = run(mixed, solo, [EVERYBODY], of=of, state=State(start.server, parts))
    chex.assert_trees_all_close(moved[1].server.theta, states[1].server.theta, rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("mode", ["paper", "released_code"])
def test_a_clients_mixing_depends_on_nobody_elses_data_unless_the_code_is_the_released(
    whole, solo, mode
):
    """Over two rounds with a theta that never moves, so that nothing else connects clients."""
    still, of = hparams(shared=0), method(solo, mode=mode)
    states, _ = run(whole, solo, [EVERYBODY] * 2, still, of=of)
    people = whole.people
    others = people.train.indices.at[0].set(people.train.indices[0, :1])  # one example only
    other = replace(whole, people=replace(people, train=replace(people.train, indices=others)))
    changed, _ = run(other, solo, [EVERYBODY] * 2, still, of=of)
    for k in range(N):
        mine = cases.of_client(whole, states[2].clients, k).mixing
        theirs = cases.of_client(whole, changed[2].clients, k).mixing
        same = np.allclose(mine, theirs, rtol=1e-5, atol=1e-5)
        assert same == (k >= 5 or (mode == "paper" and k != 0)), k


def test_clients_are_scored_with_the_theta_they_received(whole, solo):
    """After each round, with the one from before; a point where nobody came keeps the last one."""
    second = np.arange(N) >= 5
    states, _ = run(whole, solo, [EVERYBODY, EVERYBODY, second])
    made = method(solo)
    for number, (mine, theirs) in enumerate([(0, 0), (0, 0), (1, 1), (1, 2)]):
        views = made.predict(states[number], whole)
        assert list(views) == ["own"]
        for predictor, members in zip(views["own"], whole.groups, strict=True):
            expected = [theirs if second[k] else mine for k in np.asarray(members)]
            want = [
                jax.tree.map(lambda leaf: leaf[int(second[k])], states[e].server.theta)  # noqa: B023
                for k, e in zip(np.asarray(members), expected, strict=True)
            ]
            want = jax.tree.map(lambda *leaves: np.stack(leaves), *want)
            chex.assert_trees_all_equal(predictor.stack["theta"], want)
    joint = method(solo, joint=True).predict(states[2], whole)["own"][0].stack["theta"]
    chex.assert_trees_all_equal(
        jax.tree.map(lambda leaf: leaf[0], joint),
        jax.tree.map(lambda leaf: leaf[0], states[2].server.theta),
    )


def test_predictions_are_those_of_the_mixture(whole, solo):
    states, _ = run(whole, solo, [EVERYBODY] * 2)
    byhand = cases.ByHand(whole, states[2], hparams())
    sent = jax.tree.map(lambda leaf: leaf[0], states[2].server.sent["params"])
    x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    first, second = method(solo).predict(states[2], whole)["own"]
    for predictor, k in ((first, 0), (second, 1)):
        extractor, ((weight, bias),), alpha = byhand.clients[k]
        own = cases.features(extractor, x)[-1]
        common = cases.features(cases.layers_of(sent), x)[-1]
        want = (alpha * own + (1 - alpha) * common) @ weight + bias
        np.testing.assert_allclose(cases.logits_of(predictor, 0, x), want, rtol=1e-4, atol=1e-5)


def test_bits_and_work_are_the_closed_forms(whole, solo):
    _, reports = run(whole, solo, [SOME])
    (report,), counts = reports, np.asarray(whole.people.train.counts)
    second_group = np.isin(np.arange(N), np.asarray(whole.groups[1]))
    theta, head = 6 * 4 + 4 * D, D * C  # multiply-adds
    own = np.where(second_group, 6 * D, 6 * 6 + 6 * D)
    bits = 32 * (6 * 4 + 4 + 4 * D + D)
    flops = SOME * counts * 2.0 * cases.EPOCHS
    personal, shared = report.phases
    np.testing.assert_allclose(personal.work_flops, flops * (3 * (own + head) + theta))
    np.testing.assert_allclose(shared.work_flops, flops * (3 * theta + 2 * head))
    np.testing.assert_array_equal(report.work_flops, personal.work_flops + shared.work_flops)
    np.testing.assert_array_equal(personal.downlink_bits, SOME * bits)
    np.testing.assert_array_equal(shared.uplink_bits, SOME * bits)
    assert not personal.uplink_bits.any()
    assert not shared.downlink_bits.any()
    np.testing.assert_array_equal(report.uplink_bits, SOME * bits)
    np.testing.assert_array_equal(report.downlink_bits, SOME * bits)
    assert (report.executed_flops >= report.work_flops).all()
    assert method(solo).phases == ("personal", "shared")
    _, (at_once,) = run(whole, solo, [SOME], of=method(solo, joint=True))
    assert method(solo, joint=True).phases == ("joint",)
    np.testing.assert_allclose(at_once.work_flops, flops * 3 * (own + head + theta))
    np.testing.assert_array_equal(at_once.phases[0].uplink_bits, SOME * bits)


def test_what_is_sent_of_the_published_networks_is_the_extractor_alone(federation, solo):
    task = {"input_shape": (32, 32, 3), "n_classes": 10}
    models = tuple(build_model(f"cnn{i}", **task) for i in range(1, 6))
    made = pfedafm(models, models[-1], epochs=1, batch_size=2, execution=solo)
    pictures = replace(federation.table, inputs=jnp.zeros((200, 32, 32, 3), jnp.uint8))
    there = replace(federation, table=pictures, groups=groups_by_turns(federation.people, 5))
    server = jax.eval_shape(made.init, there).server
    assert sum(leaf.size for leaf in jax.tree.leaves(server.theta)) == 2 * 665_048


def test_a_client_without_examples_changes_nothing(whole, solo):
    counts = whole.people.train.counts.at[4].set(0)
    people = replace(whole.people, train=replace(whole.people.train, counts=counts))
    empty = replace(whole, people=people)
    for mode in ("paper", "released_code"):
        states, _ = run(empty, solo, [EVERYBODY] * 2, of=method(solo, mode=mode))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states[2]))
        own = [cases.of_client(whole, state.clients, 4) for state in states]
        chex.assert_trees_all_equal(own[0].mixing, own[2].mixing)
        without, _ = run(empty, solo, [np.arange(N) != 4] * 2, of=method(solo, mode=mode))
        chex.assert_trees_all_close(states[2].server.theta, without[2].server.theta, rtol=1e-6)


def test_wrong_choices_are_refused_before_anything_runs(whole, solo):
    other = build_model("mlp", hidden=(4,), **cases.TASK)
    with pytest.raises(
        ValueError, match=r"features of size mlp 5, mlp 5, mlp 4; allowed: the same"
    ):
        pfedafm(MODELS, other, execution=solo, **LOCAL)
    elsewhere = build_model("mlp", input_shape=(6,), n_classes=4, hidden=(D,))
    with pytest.raises(ValueError, match=r"n_classes \[3, 3, 4\]; allowed"):
        pfedafm(MODELS, elsewhere, execution=solo, **LOCAL)
    with pytest.raises(ValueError, match="mode must be paper or released_code; got 'code'"):
        pfedafm(MODELS, SHARED, execution=solo, mode="code", **LOCAL)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="joint: found True with mode 'released_code'"):
        pfedafm(MODELS, SHARED, execution=solo, mode="released_code", joint=True, **LOCAL)
    with pytest.raises(ValueError, match="found 1 groups of clients for 2 models"):
        method(solo).init(replace(whole, groups=()))
    with pytest.raises(ValueError, match="models: found none"):
        pfedafm((), SHARED, execution=solo, **LOCAL)


def test_it_learns_on_digits(solo):
    """Four users with 60 images each, 30 to score; 15 rounds."""
    source = load_source("digits")
    order = np.random.default_rng(0).permutation(len(source.train_labels)).astype(np.int32)
    parts = np.split(order[:460], np.arange(60, 241, 60).tolist() + list(range(270, 361, 30)))
    split = UserSplit(tuple(parts[:4]), tuple(parts[4:8]), tuple(parts[4:8]), parts[8], parts[8])
    whole = Federation(example_table(source), population([0], [split]))
    whole = replace(whole, groups=groups_by_turns(whole.people, 2))
    models = [
        build_model("mlp", input_shape=(8, 8, 1), n_classes=10, hidden=hidden)
        for hidden in ((24, 16), (16,), (16,))
    ]
    made = pfedafm((models[0], models[1]), models[2], epochs=2, batch_size=16, execution=solo)
    step = rates(0.05, 0.9, 1e-3, 50.0)
    values = PFedAfmRates(step, step, rates(0.1, 0.9, 1e-3))
    states, reports = cases.run(made, whole, solo, [np.ones(4, bool)] * 15, values)
    predictors = everywhere(made.predict(states[-1], whole)["own"], solo)
    personal, common = client_accuracies(predictors, everywhere(whole, solo), solo)
    assert float(common.mean()) > 0.7
    assert float(personal.mean()) > 0.7
    assert reports[-1].loss.mean() < 0.2 * reports[0].loss.mean()
    assert reports[-1].extra["shared_loss"].mean() < reports[0].extra["shared_loss"].mean()
    assert all((part.mixing < 0.99).any(axis=1).all() for part in states[-1].clients)
