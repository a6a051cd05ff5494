from dataclasses import replace

import chex
import decentralised_digits as digits
import decentralised_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import Purpose, groups_by_turns
from fedjax_kd.methods.contract import Federation, Round
from fedjax_kd.methods.def_kt import DefKtRates, def_kt, draw_pairs
from fedjax_kd.models import build_model, profile
from fedjax_kd.training import everywhere, rates

N, EPOCHS, BATCH_SIZE = 10, 2, 4
ACTIVE = np.array([1, 1, 0, 1, 1, 1, 1, 1, 1, 1], bool)
SENDERS, ROUNDS = 3, (0, 1)  # 4 clients a point make two pairs


@pytest.fixture(scope="module")
def two(federation) -> Federation:
    return replace(federation, groups=groups_by_turns(federation.people, 2))


@pytest.fixture(scope="module")
def models(model):
    return model, build_model("mlp", input_shape=(6,), n_classes=3, hidden=(5, 4))


def hparams(weight=0.8, learning_rate=0.2):
    return DefKtRates(rates(learning_rate, momentum=0.5), jnp.float32(weight))


def build(models, execution, senders=SENDERS, **options):
    return def_kt(
        models,
        senders=senders,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        execution=execution,
        **options,
    )


def one_round(method, federation, active=ACTIVE, values=None, index=1):
    """The state before and after, and the report."""
    before = jax.jit(method.init)(federation)
    this = Round(jnp.int32(index), jnp.asarray(active))
    after, report = jax.jit(method.round)(before, federation, values or hparams(), this)
    return jax.device_get((before, after, report))


def pairs_of(federation, index, active=ACTIVE, senders=SENDERS):
    """Sender and receiver, in the order drawn."""
    found = []
    for members in oracle.drawn(federation.people, index, active, senders + 1):
        found += list(zip(members[0::2], members[1::2], strict=False))
    return found


def supervised(outputs, labels, given):
    del given
    return [oracle.cross_entropy(outputs[0], labels)]


def mutual(outputs, labels, weight):
    one, other = outputs
    return [
        oracle.cross_entropy(one, labels) + weight * oracle.divergence(other, one),
        oracle.cross_entropy(other, labels) + weight * oracle.divergence(one, other),
    ]


@pytest.mark.parametrize("keep", ["received", "own"])
def test_rounds_equal_the_algorithm_written_by_hand(models, two, solo, keep):
    method, values = build(models, solo, keep=keep), hparams()
    kinds = set()
    for index in ROUNDS:
        before, after, report = one_round(method, two, values=values, index=index)
        pairs = pairs_of(two, index)
        assert len(pairs) == 4
        for i, j in pairs:
            start = [oracle.model_of(before.clients, two, k)["params"] for k in (i, j)]
            kept = [oracle.model_of(after.clients, two, k)["params"] for k in (i, j)]
            seats = [oracle.seat(two, k)[0] for k in (i, j)]
            networks = [models[g] for g in seats]
            steps = oracle.batches(two, index, i, Purpose.BATCH_ORDER, EPOCHS, BATCH_SIZE)
            sent = oracle.train(networks[:1], start[:1], supervised, steps, values.optimiser)[0]
            steps = oracle.batches(two, index, j, Purpose.DISTIL_ORDER, EPOCHS, BATCH_SIZE)
            received, own = oracle.train(
                networks, (sent, start[1]), mutual, steps, values.optimiser, values.weight
            )
            alike = seats[0] == seats[1]
            takes_over, sends_back = alike, not alike
            if keep == "own":
                takes_over = sends_back = False
            want = (received if sends_back else sent, received if takes_over else own)
            kinds.add((alike, tuple(seats)))
            chex.assert_trees_all_close(kept, list(want), rtol=2e-4, atol=2e-5)
        taking_part = np.isin(np.arange(N), pairs)
        np.testing.assert_array_equal(report.loss > 0, taking_part)
        for k in np.flatnonzero(~taking_part):
            chex.assert_trees_all_equal(
                *(oracle.model_of(state.clients, two, int(k)) for state in (before, after))
            )
    assert kinds >= {(False, (0, 1)), (False, (1, 0))}
    assert any(alike for alike, _ in kinds)


def test_pairs_are_made_in_the_order_of_the_draws(federation):
    for senders, n_pairs in ((1, 1), (2, 1), (3, 2), (4, 2), (9, 5)):
        pairs = draw_pairs(federation.people, 1, senders, jnp.asarray(ACTIVE))
        assert pairs.sender.shape == (2 * n_pairs,)
        got = [
            (int(i), int(j))
            for i, j, there in zip(pairs.sender, pairs.receiver, pairs.present, strict=True)
            if there
        ]
        assert got == pairs_of(federation, 1, senders=senders)
        everybody = [k for pair in got for k in pair]
        assert len(set(everybody)) == len(everybody)
        assert ACTIVE[everybody].all()


def test_a_client_without_a_partner_stays_at_home(models, two, solo):
    active = np.isin(np.arange(N), [1, 5, 6, 8])
    before, after, report = one_round(build(models, solo), two, active)
    pairs = pairs_of(two, 1, active)
    assert len(pairs) == 1
    at_home = ~np.isin(np.arange(N), pairs)
    assert at_home[1]
    for k in np.flatnonzero(at_home):
        chex.assert_trees_all_equal(
            *(oracle.model_of(state.clients, two, int(k)) for state in (before, after))
        )
    assert not any(leaf[at_home].any() for leaf in jax.tree.leaves(report) if leaf.shape == (N,))


def test_bits_and_work_are_the_closed_forms(models, two, solo):
    bits = [float(profile(model).bits) for model in models]
    flops = [EPOCHS * float(profile(model).training_flops) for model in models]
    counts = np.asarray(two.people.train.counts, np.float64)
    for keep in ("received", "own"):
        method = build(models, solo, keep=keep)
        assert method.phases == ("learn", "send", "fuse", "return")
        for index in ROUNDS:
            _, _, report = one_round(method, two, index=index)
            up, down, work = (np.zeros((4, N)) for _ in range(3))
            for i, j in pairs_of(two, index):
                a, b = oracle.seat(two, i)[0], oracle.seat(two, j)[0]
                work[0, i] = flops[a] * counts[i]
                work[2, j] = (flops[a] + flops[b]) * counts[j]
                up[1, i] = down[1, j] = bits[a]
                if a != b and keep == "received":
                    up[3, j] = down[3, i] = bits[a]
            for p, phase in enumerate(report.phases):
                assert phase.peer
                np.testing.assert_array_equal(phase.uplink_bits, up[p])
                np.testing.assert_array_equal(phase.downlink_bits, down[p])
                np.testing.assert_allclose(phase.work_flops, work[p])
            np.testing.assert_array_equal(report.uplink_bits, up.sum(0))
            np.testing.assert_array_equal(report.downlink_bits, down.sum(0))
            np.testing.assert_allclose(report.work_flops, work.sum(0))
            assert (report.executed_flops >= report.work_flops).all()


def test_with_one_architecture_models_travel(model, federation, solo):
    """Without a step a receiver ends with its sender's model, bit for bit."""
    method = build((model,), solo)
    before, after, _ = one_round(method, federation, values=hparams(learning_rate=0.0))
    moved = dict((j, i) for i, j in pairs_of(federation, 1))
    source = np.array([moved.get(k, k) for k in range(N)])
    want = jax.tree.map(lambda leaf: leaf[source], before.clients)
    chex.assert_trees_all_equal(after.clients, want)


def test_without_weight_the_two_models_do_not_know_of_each_other(models, two, solo):
    """Of two architectures; the receiver is then trained on its own examples alone."""
    index = next(
        r
        for r in range(20)
        if any(oracle.seat(two, i)[0] != oracle.seat(two, j)[0] for i, j in pairs_of(two, r))
    )
    method, values = build(models, solo), hparams(weight=0.0)
    before, after, _ = one_round(method, two, values=values, index=index)
    _, other, _ = one_round(method, two, values=hparams(weight=2.0), index=index)
    for i, j in pairs_of(two, index):
        if oracle.seat(two, i)[0] == oracle.seat(two, j)[0]:
            continue
        steps = oracle.batches(two, index, j, Purpose.DISTIL_ORDER, EPOCHS, BATCH_SIZE)
        own = [oracle.model_of(before.clients, two, j)["params"]]
        network = [models[oracle.seat(two, j)[0]]]
        want = oracle.train(network, own, supervised, steps, values.optimiser)[0]
        got = oracle.model_of(after.clients, two, j)["params"]
        chex.assert_trees_all_close(got, want, rtol=1e-4, atol=1e-5)
        with_weight = oracle.model_of(other.clients, two, j)["params"]
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), with_weight, got)
        assert max(jax.tree.leaves(moved)) > 1e-3


def test_nobody_there_changes_nothing_and_costs_nothing(models, two, solo):
    before, after, report = one_round(build(models, solo), two, np.zeros(N, bool))
    chex.assert_trees_all_equal(before, after)
    assert not any(leaf.any() for leaf in jax.tree.leaves(report))


def test_chunks_on_two_devices_agree_with_a_loop_on_one(models, two, solo, executions):
    """The other forms are the catalog laws' business."""
    want, execution = one_round(build(models, solo), two), executions[-1]
    placed, values = everywhere((two, hparams()), execution)
    got = one_round(build(models, execution), placed, values=values)
    chex.assert_trees_all_close(got[:2], want[:2], rtol=5e-6, atol=5e-6)
    np.testing.assert_allclose(got[2].loss, want[2].loss, rtol=5e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "both"}, "keep must be received or own; got 'both'"),
        ({"senders": 0}, "senders must be an integer of at least 1; got 0"),
    ],
)
def test_unknown_options_are_refused(models, solo, options, message):
    with pytest.raises(ValueError, match=message):
        build(models, solo, **options)


def test_it_learns_what_clients_alone_cannot():
    """Digits of 8 users, Dirichlet 0.5, 60 rounds of 4 epochs; alone they reach 0.62."""
    method = def_kt(digits.models(), **digits.sizes())
    values = DefKtRates(rates(0.01, momentum=0.9), jnp.float32(1))
    assert digits.common_accuracy(method, values, rounds=60)["regular"] > 0.72
