"""FedDF against a loop in NumPy, and against FedAvg inside each architecture."""

from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import mixture_cases as cases
import numpy as np
import public_cases as public
import pytest
from mixture_cases import EVERYBODY, MODELS, N, flat, layered
from public_cases import LOCAL, SOME, P

from fedjax_kd.clients import Purpose, select
from fedjax_kd.exchange import secure_sum, uniform
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.feddf import FedDfRates, feddf
from fedjax_kd.models import profile
from fedjax_kd.training import rates

VALUES = FedDfRates(rates(0.1, 0.5), rates(0.01))


@cache
def method(execution, steps=5, **options):
    options = {"public_batch_size": 4, "server_steps": steps, **options}
    return feddf(MODELS, execution=execution, **LOCAL, **options)


@pytest.fixture(scope="module")
def whole(federation):
    return public.with_public(federation)


@pytest.mark.parametrize("form", ["adam_cosine", "sgd"])
def test_rounds_equal_a_loop_over_clients_and_batches(whole, solo, form):
    """The first round has no participant of the second architecture at the first point."""
    people, steps = whole.people, 5  # of 9 rows in batches of 4: one epoch and two steps more
    actives = [np.isin(np.arange(N), [0, 2]), EVERYBODY]
    chosen = method(solo, steps, per_round=9, server_optimiser=form)
    states, _ = cases.run(chosen, whole, solo, actives, VALUES)
    made = [
        [public.network(public.point_of(states[0].server[a], s)["params"]) for s in (0, 1)]
        for a in (0, 1)
    ]
    second = np.isin(np.arange(N), np.asarray(whole.groups[1])).astype(int)
    start = tuple(
        jax.tree.map(lambda leaf: leaf[np.asarray(people.point)[np.asarray(group)]], stack)  # noqa: B023
        for stack, group in zip(states[0].server, whole.groups, strict=True)
    )
    hand = public.ByHand(whole, start, 9)
    for index, active in enumerate(actives):
        for s, members in hand.members(active).items():
            asked = hand.asked(s, index)
            x, _ = hand.inputs(asked)
            for k in members:
                hand.clients[k] = made[second[k]][s]
                hand.revisit(k, hand.key(k, index, Purpose.BATCH_ORDER), 2, VALUES.optimiser)
            if not members:
                continue
            said = [public.logits(hand.clients[k], x)[1] for k in members]
            wanted = public.softmax(np.mean(said, axis=0))
            for a in (0, 1):
                own = [k for k in members if second[k] == a]
                if own:
                    counts = hand.counts[own]
                    parts = zip(*[flat(hand.clients[k]) for k in own], strict=True)
                    mean = [np.average(each, axis=0, weights=counts) for each in parts]
                    made[a][s] = layered(mean)
                like = flat(made[a][s])
                optimiser = (
                    cases.Sgd(VALUES.server, like)
                    if form == "sgd"
                    else public.Adam(float(VALUES.server.learning_rate), steps, like)
                )
                key = hand.server_key(s, index, a)
                batches = list(hand.public_batches(asked, wanted, key, 2, 4))[:steps]
                made[a][s] = public.fit(made[a][s], optimiser, batches, public.to_probabilities)
        for a in (0, 1):
            for s in (0, 1):
                got = public.point_of(states[index + 1].server[a], s)
                public.same_network(got, made[a][s], atol=1e-4)
        if index == 0:
            alone = [public.point_of(states[i].server[1], 1) for i in (0, 1)]
            chex.assert_trees_all_equal(*alone)


def test_without_steps_it_is_fedavg_inside_each_architecture(whole, solo):
    actives = [EVERYBODY, SOME]
    states, (report, _) = cases.run(method(solo, 0), whole, solo, actives, VALUES)
    averaged = fedavg(MODELS, execution=solo, **LOCAL)
    want, (theirs, _) = cases.run(averaged, whole, solo, actives, VALUES.optimiser)
    chex.assert_trees_all_equal(states[2].server, want[2].server)
    for field in ("loss", "work_flops", "uplink_bits", "downlink_bits"):
        np.testing.assert_array_equal(getattr(report, field), getattr(theirs, field))
    assert not report.phases[0].server_flops.any()
    states, _ = cases.run(method(solo), whole, solo, actives, VALUES)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), states[2].server, want[2].server)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_bits_operations_and_views(whole, solo):
    chosen = method(solo, 5, per_round=9)
    states, (report,) = cases.run(chosen, whole, solo, [SOME], VALUES)
    second = np.isin(np.arange(N), np.asarray(whole.groups[1]))
    costs = [profile(model) for model in MODELS]
    bits = np.where(second, costs[1].bits, costs[0].bits)
    np.testing.assert_array_equal(report.uplink_bits, SOME * bits)
    np.testing.assert_array_equal(report.downlink_bits, SOME * bits)
    training = np.where(second, costs[1].training_flops, costs[0].training_flops)
    counts = np.asarray(whole.people.train.counts)
    np.testing.assert_allclose(report.work_flops, SOME * 2 * counts * training)
    forward = np.where(second, costs[1].forward_flops, costs[0].forward_flops)
    examples = 9 + 4 + 4  # batches of 4, 4 and 1, then of 4 and 4
    steps = examples * sum(cost.training_flops for cost in costs)
    server = np.array([9 * np.sum(SOME * forward) + steps, 0.0])
    np.testing.assert_allclose(report.phases[0].server_flops, server, rtol=1e-6)
    (views,) = chosen.predict(states[1], whole).values()
    for view, stack, group in zip(views, states[1].server, whole.groups, strict=True):
        chex.assert_trees_all_equal(view.stack, stack)
        np.testing.assert_array_equal(view.row, np.asarray(whole.people.point)[np.asarray(group)])


def test_a_cohort_of_one_architecture_as_a_federation_of_its_own(federation, solo):
    single = public.with_public(federation, groups=False)
    chosen = feddf(
        MODELS[0], execution=solo, **LOCAL, server_steps=3, public_batch_size=4, upload=uniform(8)
    )
    active = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 0], bool)
    states, reports = cases.run(chosen, single, solo, [active], VALUES)
    members = np.flatnonzero(active)
    cohort = replace(single, people=select(single.people, jnp.asarray(members)))
    got, report = cases.run(chosen, cohort, solo, [np.ones(6, bool)], VALUES, state=states[0])
    chex.assert_trees_all_close(got[1].server, states[1].server, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(report[0].uplink_bits, reports[0].uplink_bits[members])
    sizes = [leaf.size for leaf in jax.tree.leaves(MODELS[0].init(jax.random.key(0)))]
    np.testing.assert_array_equal(report[0].uplink_bits, 8 * sum(sizes) + 64 * len(sizes))


def test_what_cannot_be_is_refused(whole, federation, solo):
    with pytest.raises(ValueError, match="server_optimiser must be adam_cosine or adam or sgd"):
        method(solo, server_optimiser="lamb")
    with pytest.raises(ValueError, match="server_steps must be an integer of at least 0; got -1"):
        method(solo, -1)
    with pytest.raises(ValueError, match="public_batch_size must be an integer of at least 1"):
        method(solo, public_batch_size=0)
    with pytest.raises(ValueError, match=r"people\.public: found 0 places"):
        method(solo).init(cases.grouped(federation))
    with pytest.raises(ValueError, match=f"per_round: found {P + 1}; allowed: 1 to {P}"):
        method(solo, per_round=P + 1).init(whole)
    with pytest.raises(ValueError, match="secure sum; allowed: channels through which the server"):
        cases.run(method(solo, upload=secure_sum(8, N)), whole, solo, [EVERYBODY], VALUES)
