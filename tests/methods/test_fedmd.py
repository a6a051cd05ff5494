"""FedMD against a loop in NumPy, and what it must be in special cases."""

from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import mixture_cases as cases
import numpy as np
import public_cases as public
import pytest
from mixture_cases import EVERYBODY, MODELS, C, N
from public_cases import LOCAL, SOME, P

from fedjax_kd.clients import Purpose, select
from fedjax_kd.exchange import delta, largest_remainder, secure_sum, traced_numbers, uniform
from fedjax_kd.methods.fedmd import FedMdRates, fedmd
from fedjax_kd.methods.local import local
from fedjax_kd.models import profile
from fedjax_kd.training import rates

VALUES = FedMdRates(rates(0.1, 0.5), rates(0.2))


@cache
def method(execution, **options):
    return fedmd(MODELS, execution=execution, **LOCAL, **options)


@pytest.fixture(scope="module")
def whole(federation):
    return public.with_public(federation)


def stacks(state):
    return tuple(part.model for part in state.clients)


@pytest.mark.parametrize("per_round", [None, 6])
def test_rounds_equal_a_loop_over_clients_and_batches(whole, solo, per_round):
    """Two rounds, of everybody and of some; public labels come first, then the own."""
    options = {"per_round": per_round, "digest_epochs": 3, "public_batch_size": 5}
    chosen = method(solo, public_epochs=2, private_epochs=1, **options)
    actives = [SOME, EVERYBODY]
    states, _ = cases.run(chosen, whole, solo, actives, VALUES)
    hand, seen = public.ByHand(whole, stacks(states[0]), per_round), set()
    for index, active in enumerate(actives):
        for s, members in hand.members(active).items():
            asked = hand.asked(s, index)
            everything = np.asarray(whole.people.public.indices[s])
            for k in set(members) - seen:
                first = hand.key(k, index, Purpose.PUBLIC, Purpose.PUBLIC)
                hand.digest(k, everything, None, public.to_labels, first, 2, VALUES.optimiser, 5)
                second = hand.key(k, index, Purpose.PUBLIC, Purpose.BATCH_ORDER)
                hand.revisit(k, second, 1, VALUES.optimiser)
            seen |= set(members)
            x, _ = hand.inputs(asked)
            said = [public.logits(hand.clients[k], x)[1] for k in members]
            for k in members:
                key = hand.key(k, index, Purpose.BATCH_ORDER, Purpose.DISTIL_ORDER)
                mean = np.mean(said, axis=0)
                hand.digest(k, asked, mean, public.to_logits, key, 3, VALUES.digest, 5)
                hand.revisit(k, hand.key(k, index, Purpose.BATCH_ORDER), 2, VALUES.optimiser)
        for k in range(N):
            got = cases.of_client(whole, stacks(states[index + 1]), k)
            public.same_network(got, hand.clients[k])
    taken = [cases.of_client(whole, states[2].clients, k).rounds for k in range(N)]
    np.testing.assert_array_equal(taken, SOME.astype(int) + 1)


def test_the_divergence_draws_probabilities_together(whole, solo):
    chosen = method(solo, distance="kl", digest_epochs=2)
    states, _ = cases.run(chosen, whole, solo, [EVERYBODY], VALUES)
    hand = public.ByHand(whole, stacks(states[0]))
    for s, members in hand.members(EVERYBODY).items():
        asked = hand.asked(s, 0)
        x, _ = hand.inputs(asked)
        mean = np.mean([public.logits(hand.clients[k], x)[1] for k in members], axis=0)
        for k in members:
            key = hand.key(k, 0, Purpose.BATCH_ORDER, Purpose.DISTIL_ORDER)
            wanted = public.softmax(mean)
            hand.digest(k, asked, wanted, public.to_probabilities, key, 2, VALUES.digest)
            hand.revisit(k, hand.key(k, 0, Purpose.BATCH_ORDER), 2, VALUES.optimiser)
            got = cases.of_client(whole, stacks(states[1]), k)
            public.same_network(got, hand.clients[k])


def test_without_digest_it_is_local_training(whole, solo):
    actives = [EVERYBODY, SOME]
    states, _ = cases.run(method(solo, digest_epochs=0), whole, solo, actives, VALUES)
    alone = local(MODELS, execution=solo, **LOCAL)
    want, _ = cases.run(alone, whole, solo, actives, VALUES.optimiser)
    chex.assert_trees_all_equal(stacks(states[2]), want[2].clients)
    still = replace(VALUES, digest=rates(0.0))
    states, _ = cases.run(method(solo), whole, solo, actives, still)
    chex.assert_trees_all_close(stacks(states[2]), want[2].clients, rtol=1e-6, atol=1e-7)


def test_alone_there_is_nothing_to_digest(whole, solo):
    """The mean of one's own logits; with steps of no length the distance shows as it was."""
    values = replace(VALUES, digest=rates(0.0))
    apart = []
    for active in (np.arange(N) == 3, EVERYBODY):
        _, (report,) = cases.run(method(solo), whole, solo, [active], values)
        apart.append(report.extra["digest_loss"][3])
    assert apart[0] < 1e-6
    assert apart[1] > 1e-3


def test_bits_and_operations(whole, solo):
    chosen = method(solo, per_round=6, digest_epochs=3, public_epochs=2, private_epochs=1)
    _, reports = cases.run(chosen, whole, solo, [SOME, EVERYBODY], VALUES)
    counts = np.asarray(whole.people.train.counts)
    second = np.isin(np.arange(N), np.asarray(whole.groups[1]))
    costs = [profile(model) for model in MODELS]
    training = np.where(second, costs[1].training_flops, costs[0].training_flops)
    forward = np.where(second, costs[1].forward_flops, costs[0].forward_flops)
    new = [SOME, ~SOME]
    for report, active, first in zip(reports, [SOME, EVERYBODY], new, strict=True):
        scores, learn = report.phases
        np.testing.assert_array_equal(scores.uplink_bits, active * 32 * 6 * C)
        np.testing.assert_array_equal(learn.downlink_bits, active * 32 * 6 * C)
        assert not scores.downlink_bits.any()
        assert not learn.uplink_bits.any()
        before = first * training * (2 * P + counts)
        np.testing.assert_allclose(scores.work_flops, active * (6 * forward + before), rtol=1e-6)
        after = training * (3 * 6 + 2 * counts)
        np.testing.assert_allclose(learn.work_flops, active * after, rtol=1e-6)
        np.testing.assert_allclose(report.work_flops, scores.work_flops + learn.work_flops)
        np.testing.assert_array_equal(report.uplink_bits, scores.uplink_bits)
        assert not scores.server_flops.any()


def test_what_changed_is_sent_and_a_sum_will_do(whole, solo):
    values = replace(VALUES, optimiser=rates(0.0), digest=rates(0.0))
    chosen = method(solo, upload=delta())
    states, reports = cases.run(chosen, whole, solo, [EVERYBODY, EVERYBODY], values)
    np.testing.assert_array_equal(reports[0].uplink_bits, P * (32 * C + 1))
    np.testing.assert_array_equal(reports[1].uplink_bits, P)  # nobody moved: a flag a row
    assert states[1].clients[0].memory.rows.all()
    summed = secure_sum(20, N, largest=16.0)
    numbers = replace(VALUES, upload=traced_numbers(summed))
    smooth = {"distance": "kl"}  # of `mae` the sign of a small difference may turn
    got, report = cases.run(
        method(solo, upload=summed, **smooth), whole, solo, [EVERYBODY], numbers
    )
    want, _ = cases.run(method(solo, **smooth), whole, solo, [EVERYBODY], VALUES)
    grid = 16.0 / (2**19 - 1)
    chex.assert_trees_all_close(stacks(got[1]), stacks(want[1]), rtol=0.0, atol=grid)
    np.testing.assert_array_equal(report[0].uplink_bits, P * C * 24)  # ceil(log2(10 (2^20 - 1)))


def test_a_cohort_as_a_federation_of_its_own(whole, federation, solo):
    """With one architecture the engine hands a method the cohort's rows alone."""
    single = public.with_public(federation, groups=False)
    chosen = fedmd(MODELS[0], execution=solo, **LOCAL, per_round=5)
    active = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 0], bool)
    states, reports = cases.run(chosen, single, solo, [EVERYBODY, active], VALUES)
    members = np.flatnonzero(active)
    rows = jax.tree.map(lambda leaf: leaf[members], states[1].clients)
    cohort = replace(single, people=select(single.people, jnp.asarray(members)))
    start = replace(states[1], clients=rows)
    got, report = cases.run(chosen, cohort, solo, [np.ones(6, bool)], VALUES, first=1, state=start)
    want = jax.tree.map(lambda leaf: leaf[members], states[2].clients)
    chex.assert_trees_all_close(got[1].clients, want, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(report[0].loss, reports[1].loss[members], rtol=1e-6)
    idle = np.flatnonzero(~active)
    before, after = (jax.tree.map(lambda leaf: leaf[idle], s.clients) for s in states[1:])
    chex.assert_trees_all_equal(before, after)


def test_what_cannot_be_is_refused(whole, federation, solo):
    with pytest.raises(ValueError, match=r"distance must be mae or kl; got 'mse'"):
        fedmd(MODELS, execution=solo, **LOCAL, distance="mse")
    with pytest.raises(ValueError, match="per_round must be an integer of at least 1; got 0"):
        fedmd(MODELS, execution=solo, **LOCAL, per_round=0)
    with pytest.raises(ValueError, match="private_epochs must be an integer of at least 0; got -1"):
        fedmd(MODELS, execution=solo, **LOCAL, private_epochs=-1)
    with pytest.raises(ValueError, match=r"people\.public: found 0 places"):
        method(solo).init(cases.grouped(federation))
    with pytest.raises(ValueError, match=r"people\.public: found 1 places"):
        jax.eval_shape(method(solo).init, cases.grouped(federation))
    with pytest.raises(ValueError, match="per_round: found 12; allowed: 1 to 11"):
        method(solo, per_round=12).init(whole)
    with pytest.raises(ValueError, match="per_round: found 5 with an upload of changed rows only"):
        method(solo, per_round=5, upload=delta()).init(whole)
    with pytest.raises(ValueError, match="probability"):
        cases.run(method(solo, upload=largest_remainder(1)), whole, solo, [EVERYBODY], VALUES)


def test_coarse_logits_cost_their_bits(whole, solo):
    _, (report,) = cases.run(method(solo, upload=uniform(4)), whole, solo, [SOME], VALUES)
    np.testing.assert_array_equal(report.uplink_bits, SOME * P * (4 * C + 64))
