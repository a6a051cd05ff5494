"""DS-FL against a loop in NumPy, and what it must be in special cases."""

from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import mixture_cases as cases
import numpy as np
import public_cases as public
import pytest
from mixture_cases import EVERYBODY, MODELS, SHARED, C, N
from public_cases import LOCAL, SOME, P

from fedjax_kd.clients import Purpose, select
from fedjax_kd.exchange import largest_remainder, secure_sum
from fedjax_kd.exchange.quantise import largest_remainder_row_bits
from fedjax_kd.methods.ds_fl import DsFlRates, ds_fl
from fedjax_kd.methods.local import local
from fedjax_kd.models import build_model, profile
from fedjax_kd.training import rates

VALUES = DsFlRates(rates(0.1, 0.5), rates(0.3, 0.2), jnp.float32(0.1))
FORMS = {
    "era": (0.1, lambda p, t: public.softmax(p / t)),
    "power": (2.0, lambda p, s: p**s / np.sum(p**s, axis=-1, keepdims=True)),
}


@cache
def method(execution, **options):
    return ds_fl(MODELS, execution=execution, **LOCAL, **options)


@pytest.fixture(scope="module")
def whole(federation):
    return public.with_public(federation)


def stacks(state):
    return tuple(part.model for part in state.clients)


def a_round(hand, servers, index, active, strength, sharper, epochs, batch_size):
    """By hand; returns each point's common scores."""
    common = {}
    for s, members in hand.members(active).items():
        asked = hand.asked(s, index)
        x, _ = hand.inputs(asked)
        for k in members:
            hand.revisit(k, hand.key(k, index, Purpose.BATCH_ORDER), 2, VALUES.optimiser)
        if not members:
            continue
        said = [public.softmax(public.logits(hand.clients[k], x)[1]) for k in members]
        common[s] = sharper(np.mean(said, axis=0), strength)
        for k in members:
            key = hand.key(k, index, Purpose.DISTIL_ORDER, Purpose.DISTIL_ORDER)
            slope = public.to_probabilities
            hand.digest(k, asked, common[s], slope, key, epochs, VALUES.digest, batch_size)
        key = hand.server_key(s, index)
        batches = hand.public_batches(asked, common[s], key, epochs, batch_size)
        sgd = cases.Sgd(VALUES.digest, cases.flat(servers[s]))
        servers[s] = public.fit(servers[s], sgd, batches, public.to_probabilities)
    return common


@pytest.mark.parametrize("sharpen", FORMS)
def test_rounds_equal_a_loop_over_clients_and_batches(whole, solo, sharpen):
    """Two rounds, of some (nobody of the second point) and of everybody."""
    strength, sharper = FORMS[sharpen]
    values = replace(VALUES, strength=jnp.float32(strength))
    chosen = method(solo, sharpen=sharpen, per_round=7, digest_epochs=2, public_batch_size=3)
    actives = [SOME, EVERYBODY]
    states, reports = cases.run(chosen, whole, solo, actives, values)
    hand = public.ByHand(whole, stacks(states[0]), 7)
    servers = [public.network(public.point_of(states[0].server, s)["params"]) for s in (0, 1)]
    for index, active in enumerate(actives):
        a_round(hand, servers, index, active, strength, sharper, 2, 3)
        for k in range(N):
            got = cases.of_client(whole, stacks(states[index + 1]), k)
            public.same_network(got, hand.clients[k])
        for s in (0, 1):
            public.same_network(public.point_of(states[index + 1].server, s), servers[s])
    chex.assert_trees_all_equal(
        public.point_of(states[1].server, 1), public.point_of(states[0].server, 1)
    )
    assert reports[0].extra["server_loss"][1] == 0


def test_equal_models_without_sharpening_have_nothing_to_learn(whole, solo):
    """Clients of one architecture start alike; without training they all say the same."""
    values = replace(VALUES, optimiser=rates(0.0))
    only = np.isin(np.arange(N), np.asarray(whole.groups[0]))
    states, _ = cases.run(method(solo, sharpen="none"), whole, solo, [only], values)
    chex.assert_trees_all_close(stacks(states[1]), stacks(states[0]), rtol=1e-5, atol=1e-6)
    states, _ = cases.run(method(solo), whole, solo, [only], values)
    kernel = ["params", "head", "kernel"]
    moved = stacks(states[1])[0][kernel[0]][kernel[1]][kernel[2]]
    assert np.abs(moved - stacks(states[0])[0]["params"]["head"]["kernel"]).max() > 1e-2


def test_without_digest_it_is_local_training(whole, solo):
    actives = [EVERYBODY, SOME]
    states, _ = cases.run(method(solo, digest_epochs=0), whole, solo, actives, VALUES)
    alone = local(MODELS, execution=solo, **LOCAL)
    want, reports = cases.run(alone, whole, solo, actives, VALUES.optimiser)
    chex.assert_trees_all_equal(stacks(states[2]), want[2].clients)
    chex.assert_trees_all_equal(states[2].server, states[0].server)
    _, (report,) = cases.run(method(solo), whole, solo, [EVERYBODY], VALUES)
    np.testing.assert_array_equal(report.loss, reports[0].loss)


def test_some_bad_uploads_cannot_move_a_median_far(whole, solo):
    """The median and a mean without the two outermost of five clients, against NumPy."""
    options = {"sharpen": "none", "per_round": 7}
    hand_rows = {}
    for aggregate, trim, by in (
        ("median", 0.1, lambda said: np.median(said, axis=0)),
        ("trimmed", 0.2, lambda said: np.sort(said, axis=0)[1:-1].mean(axis=0)),
    ):
        chosen = method(solo, aggregate=aggregate, trim=trim, **options)
        states, _ = cases.run(chosen, whole, solo, [EVERYBODY], VALUES)
        hand = public.ByHand(whole, stacks(states[0]), 7)
        for s, members in hand.members(EVERYBODY).items():
            asked = hand.asked(s, 0)
            x, _ = hand.inputs(asked)
            for k in members:
                hand.revisit(k, hand.key(k, 0, Purpose.BATCH_ORDER), 2, VALUES.optimiser)
            said = np.stack([public.softmax(public.logits(hand.clients[k], x)[1]) for k in members])
            common = by(said)
            common = common / common.sum(axis=1, keepdims=True)  # a median need not sum to one
            hand_rows[aggregate, trim, s] = common
            for k in members:
                key = hand.key(k, 0, Purpose.DISTIL_ORDER, Purpose.DISTIL_ORDER)
                hand.digest(k, asked, common, public.to_probabilities, key, 1, VALUES.digest)
                public.same_network(cases.of_client(whole, stacks(states[1]), k), hand.clients[k])
    assert np.abs(hand_rows["median", 0.1, 0] - hand_rows["trimmed", 0.2, 0]).max() > 1e-3


def test_the_views_are_the_clients_models_and_the_servers(whole, solo):
    chosen = method(solo, per_round=6, digest_epochs=3, server=SHARED)
    states, _ = cases.run(chosen, whole, solo, [EVERYBODY], VALUES)
    views = chosen.predict(states[1], whole)
    assert list(views) == ["own", "server"]
    chex.assert_trees_all_equal(tuple(each.stack for each in views["own"]), stacks(states[1]))
    (common,) = views["server"]
    np.testing.assert_array_equal(common.row, whole.people.point)
    x = np.ones((2, 6), np.float32)
    layers = public.network(public.point_of(states[1].server, 1)["params"])
    np.testing.assert_allclose(
        cases.logits_of(common, 7, x), public.logits(layers, x)[1], rtol=1e-4, atol=1e-5
    )


def test_bits_and_operations(whole, solo):
    chosen = method(solo, per_round=6, digest_epochs=3, server=SHARED)
    _, (report,) = cases.run(chosen, whole, solo, [SOME], VALUES)
    counts = np.asarray(whole.people.train.counts)
    second = np.isin(np.arange(N), np.asarray(whole.groups[1]))
    costs = [profile(model) for model in MODELS]
    training = np.where(second, costs[1].training_flops, costs[0].training_flops)
    forward = np.where(second, costs[1].forward_flops, costs[0].forward_flops)
    scores, learn = report.phases
    np.testing.assert_array_equal(scores.uplink_bits, SOME * 32 * 6 * C)
    np.testing.assert_array_equal(learn.downlink_bits, SOME * 32 * 6 * C)
    np.testing.assert_array_equal(report.downlink_bits, SOME * 32 * 6 * C)
    np.testing.assert_allclose(scores.work_flops, SOME * (2 * counts * training + 6 * forward))
    np.testing.assert_allclose(learn.work_flops, SOME * 3 * 6 * training)
    np.testing.assert_array_equal(learn.server_flops, [3 * 6 * profile(SHARED).training_flops, 0.0])
    assert not scores.server_flops.any()


def test_one_bit_a_row_is_the_choice_of_a_class(whole, solo):
    """What the server averages are votes then: multiples of one over the number of voters."""
    chosen = method(solo, upload=largest_remainder(1), sharpen="none", digest_epochs=2)
    states, (report,) = cases.run(chosen, whole, solo, [SOME], VALUES)
    np.testing.assert_allclose(
        report.uplink_bits, SOME * P * largest_remainder_row_bits(1, C), rtol=1e-6
    )
    hand = public.ByHand(whole, stacks(states[0]))
    asked = hand.asked(0, 0)
    x, _ = hand.inputs(asked)
    members = hand.members(SOME)[0]
    for k in members:
        hand.revisit(k, hand.key(k, 0, Purpose.BATCH_ORDER), 2, VALUES.optimiser)
    votes = [np.eye(C)[public.logits(hand.clients[k], x)[1].argmax(axis=1)] for k in members]
    for k in members:
        key = hand.key(k, 0, Purpose.DISTIL_ORDER, Purpose.DISTIL_ORDER)
        mean = np.mean(votes, axis=0)
        hand.digest(k, asked, mean, public.to_probabilities, key, 2, VALUES.digest)
        public.same_network(cases.of_client(whole, stacks(states[1]), k), hand.clients[k])


def test_a_cohort_as_a_federation_of_its_own(federation, solo):
    single = public.with_public(federation, groups=False)
    chosen = ds_fl(MODELS[0], execution=solo, **LOCAL, per_round=5, aggregate="median")
    active = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 0], bool)
    states, reports = cases.run(chosen, single, solo, [EVERYBODY, active], VALUES)
    members = np.flatnonzero(active)
    cohort = replace(single, people=select(single.people, jnp.asarray(members)))
    start = replace(states[1], clients=jax.tree.map(lambda leaf: leaf[members], states[1].clients))
    got, report = cases.run(chosen, cohort, solo, [np.ones(6, bool)], VALUES, first=1, state=start)
    want = jax.tree.map(lambda leaf: leaf[members], states[2].clients)
    chex.assert_trees_all_close(got[1].clients, want, rtol=1e-6, atol=1e-7)
    chex.assert_trees_all_close(got[1].server, states[2].server, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(report[0].uplink_bits, reports[1].uplink_bits[members])


def test_what_cannot_be_is_refused(whole, federation, solo):
    with pytest.raises(ValueError, match="sharpen must be era or power or none; got 'softmax'"):
        method(solo, sharpen="softmax")
    with pytest.raises(ValueError, match="aggregate must be mean or median or trimmed"):
        method(solo, aggregate="krum")
    with pytest.raises(ValueError, match=r"trim must be at least 0 and below 0\.5; got 0\.5"):
        method(solo, trim=0.5)
    with pytest.raises(ValueError, match="secure sum with aggregate 'median'; allowed: mean"):
        method(solo, aggregate="median", upload=secure_sum(8, N))
    with pytest.raises(ValueError, match="digest_epochs must be an integer of at least 0"):
        method(solo, digest_epochs=1.5)
    with pytest.raises(ValueError, match="found n_classes"):
        method(solo, server=build_model("mlp", input_shape=(6,), n_classes=C + 1, hidden=(3,)))
    with pytest.raises(ValueError, match=r"people\.public: found 1 places"):
        jax.eval_shape(method(solo).init, cases.grouped(federation))
    with pytest.raises(ValueError, match="per_round: found 12; allowed: 1 to 11"):
        method(solo, per_round=12).init(whole)
