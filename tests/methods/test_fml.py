from dataclasses import replace
from functools import cache

import chex
import decentralised_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import Purpose, groups_by_turns, keep_first
from fedjax_kd.exchange import secure_sum, traced_numbers, uniform
from fedjax_kd.methods.contract import Round, State
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.fml import FmlRates, fml
from fedjax_kd.methods.local import local
from fedjax_kd.models import build_model, profile
from fedjax_kd.training import rates

N, C = 10, 3
LOCAL = {"epochs": 2, "batch_size": 4}
ACTIVE = np.array([1, 1, 0, 1, 1, 0, 0, 0, 1, 0], bool)
TASK = {"input_shape": (6,), "n_classes": C}
MODELS = (build_model("mlp", hidden=(8,), **TASK), build_model("mlp", hidden=(5, 4), **TASK))
MEME = build_model("mlp", hidden=(4,), **TASK)
MEME_SIZE = 6 * 4 + 4 + 4 * C + C


@pytest.fixture(scope="module")
def two(federation):
    return replace(federation, groups=groups_by_turns(federation.people, 2))


@cache
def method(execution, **options):
    return fml(MODELS, MEME, execution=execution, **LOCAL, **options)


def hparams(a=0.3, b=0.6, **optimiser):
    chosen = rates(0.2, **({"momentum": 0.5} | optimiser))
    return FmlRates(chosen, jnp.float32(a), jnp.float32(b))


def one_round(program, federation, values, active=ACTIVE, index=1, state=None):
    """The state before and after, and the report."""
    before = jax.jit(program.init)(federation) if state is None else state
    this = Round(jnp.int32(index), jnp.asarray(active))
    after, report = jax.jit(program.round)(before, federation, values, this)
    return jax.device_get((before, after, report))


def mutual(outputs, labels, given):
    """What the paper has: the private model's loss and the meme's."""
    private, meme = outputs
    a, b = given
    return [
        a * oracle.cross_entropy(private, labels) + (1 - a) * oracle.divergence(meme, private),
        b * oracle.cross_entropy(meme, labels) + (1 - b) * oracle.divergence(private, meme),
    ]


def as_public_code(outputs, labels, given):
    """Both models descend on both losses; KL is a mean over all numbers of the batch."""
    a, b = given
    probabilities = [jax.nn.softmax(logits) for logits in outputs]
    total = jnp.float32(0)
    for own, hard in ((0, a), (1, b)):
        target, mine = probabilities[1 - own], probabilities[own]
        divergence = jnp.mean(target * (jnp.log(target) - jnp.log(mine)))
        total += hard * oracle.cross_entropy(outputs[own], labels) + (1 - hard) * divergence
    return [total, total]


def private_of(state, federation, k):
    return oracle.model_of(state.clients, federation, k).private["params"]


@pytest.mark.parametrize(
    ("faithful", "optimiser"),
    [(False, {"gradient_clip": 0.3}), (True, {})],
    ids=["paper", "faithful"],
)
def test_a_round_equals_the_algorithm_by_hand(two, solo, faithful, optimiser):
    values = hparams(**optimiser)
    before, after, report = one_round(method(solo, faithful=faithful), two, values)
    given, losses = (values.private_hard, values.meme_hard), as_public_code if faithful else mutual
    for s in (0, 1):
        memes, start = [], jax.tree.map(lambda leaf: leaf[s], before.server["params"])  # noqa: B023
        for k in np.flatnonzero(ACTIVE):
            if k // 5 != s:
                continue
            networks = [MODELS[oracle.seat(two, k)[0]], MEME]
            steps = oracle.batches(two, 1, k, Purpose.BATCH_ORDER, *LOCAL.values())
            pair = (private_of(before, two, k), start)
            private, meme = oracle.train(networks, pair, losses, steps, values.optimiser, given)
            chex.assert_trees_all_close(private_of(after, two, k), private, rtol=1e-4, atol=1e-5)
            memes.append(meme)
        mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *memes)
        got = jax.tree.map(lambda leaf: leaf[s], after.server["params"])  # noqa: B023
        chex.assert_trees_all_close(got, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(report.loss > 0, ACTIVE)
    for k in np.flatnonzero(~ACTIVE):
        chex.assert_trees_all_equal(*(private_of(state, two, k) for state in (before, after)))


@pytest.mark.parametrize("faithful", [False, True])
def test_without_divergence_private_models_are_local_and_the_meme_is_fedavg(two, solo, faithful):
    """FedAvg weighs by examples; where all hold equally many, that is the uniform mean."""
    equal = jnp.full(N, 4, jnp.int32)
    same = replace(two, people=replace(two.people, train=keep_first(two.people.train, equal)))
    before, after, report = one_round(method(solo, faithful=faithful), same, hparams(1.0, 1.0))
    own = tuple(clients.private for clients in before.clients)
    rest = (same, hparams().optimiser, ACTIVE, 1)
    _, alone, theirs = one_round(local(MODELS, execution=solo, **LOCAL), *rest, State((), own))
    mine = tuple(clients.private for clients in after.clients)
    chex.assert_trees_all_close(mine, alone.clients, rtol=1e-5, atol=1e-6)
    central = fedavg(MEME, execution=solo, **LOCAL)
    start, averaged, others = one_round(central, replace(same, groups=()), *rest[1:])
    chex.assert_trees_all_equal(before.server, start.server)
    chex.assert_trees_all_close(after.server, averaged.server, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(report.loss, (theirs.loss + others.loss) / 2, rtol=1e-5)


def test_private_models_start_as_those_of_local(two, solo):
    state = jax.device_get(method(solo).init(two))
    alone = jax.device_get(local(MODELS, execution=solo, **LOCAL).init(two))
    chex.assert_trees_all_equal(tuple(own.private for own in state.clients), alone.clients)


def test_a_meme_is_sent_each_way_and_work_is_of_both_models(two, solo):
    _, _, report = one_round(method(solo), two, hparams())
    np.testing.assert_array_equal(report.uplink_bits, ACTIVE * 32 * MEME_SIZE)
    np.testing.assert_array_equal(report.downlink_bits, ACTIVE * 32 * MEME_SIZE)
    second = np.isin(np.arange(N), np.asarray(two.groups[1]))
    flops = np.where(second, *(profile(model).training_flops for model in MODELS[::-1]))
    counts = np.asarray(two.people.train.counts)
    work = ACTIVE * counts * LOCAL["epochs"] * (flops + profile(MEME).training_flops)
    np.testing.assert_allclose(report.work_flops, work)


def test_memes_through_channels(two, solo):
    """Uniform weights, so a secure sum needs no range for numbers of examples."""
    _, exact, _ = one_round(method(solo), two, hparams())
    _, coarse, report = one_round(method(solo, upload=uniform(8)), two, hparams())
    np.testing.assert_array_equal(report.uplink_bits, ACTIVE * (8 * MEME_SIZE + 4 * 64))
    chex.assert_trees_all_close(coarse.server, exact.server, rtol=0, atol=4e-3)
    chex.assert_trees_all_equal(coarse.clients, exact.clients)  # the next round tells them
    blind = secure_sum(20, 5, largest=2.0)
    values = replace(hparams(), upload=traced_numbers(blind))
    _, summed, report = one_round(method(solo, upload=blind), two, values)
    np.testing.assert_array_equal(report.uplink_bits, ACTIVE * 23 * MEME_SIZE)
    chex.assert_trees_all_close(summed.server, exact.server, rtol=0, atol=1e-5)


def test_the_views_are_the_private_models_and_then_the_meme(two, solo):
    before, _, _ = one_round(method(solo), two, hparams())
    views = method(solo).predict(before, two)
    assert list(views) == ["private", "meme"]
    for predictor, own, members in zip(views["private"], before.clients, two.groups, strict=True):
        chex.assert_trees_all_equal(predictor.stack, own.private)
        np.testing.assert_array_equal(predictor.clients, members)
    (meme,) = views["meme"]
    chex.assert_trees_all_equal(meme.stack, before.server)
    np.testing.assert_array_equal(meme.row, [0] * 5 + [1] * 5)
    assert meme.logits is not None
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), meme.stack)
    assert meme.logits(variables, jnp.zeros((2, 6))).shape == (2, C)


def test_nobody_there_changes_nothing_and_costs_nothing(two, solo):
    before, after, report = one_round(method(solo), two, hparams(), np.zeros(N, bool))
    chex.assert_trees_all_equal(before, after)
    assert not any(leaf.any() for leaf in jax.tree.leaves(report))


def test_a_meme_of_another_task_is_refused(solo):
    other = build_model("mlp", input_shape=(6,), n_classes=4, hidden=(4,))
    with pytest.raises(ValueError, match=r"n_classes \[3, 3, 4\]"):
        fml(MODELS, other, execution=solo, **LOCAL)
