from dataclasses import replace
from typing import Any, NamedTuple, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import groups_by_turns, sample_cohort, whole_axis
from fedjax_kd.methods import rounds as engine
from fedjax_kd.methods.contract import Method, Round, RoundReport, State
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.rounds import (
    Participation,
    deal,
    observed_rounds,
    one_round,
    run_rounds,
)
from fedjax_kd.training import Drop, Execution, everywhere, for_points, rates

HPARAMS = {
    "fedavg": rates(0.1),
    "fd": FdRates(rates(0.1), jnp.float32(0.5), jnp.float32(2.0)),
}
BUILDERS = {"fedavg": fedavg, "fd": fd}


def build(name, model, execution):
    return BUILDERS[name](model, epochs=1, batch_size=4, execution=execution)


def start(method, federation):
    return jax.jit(method.init)(federation)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_chunks_of_any_length_equal_single_rounds(name, model, federation, solo):
    method, hparams = build(name, model, solo), HPARAMS[name]
    step = jax.jit(method.round)
    state = start(method, federation)
    active = jnp.ones(federation.people.n_clients, bool)
    losses = []
    for index in range(5):
        state, report = step(state, federation, hparams, Round(jnp.int32(index), active))
        losses.append(report.loss)
    for chunk in (1, 3, 8):
        got, history = run_rounds(
            method,
            start(method, federation),
            federation,
            hparams,
            rounds=5,
            execution=solo,
            chunk=chunk,
        )
        chex.assert_trees_all_close(got, state, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(history.report.loss, np.stack(losses), rtol=1e-5)


@pytest.mark.shipped
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_run_cut_in_two_equals_the_whole_bit_for_bit(name, model, federation, solo):
    method, hparams = build(name, model, solo), HPARAMS[name]
    participation = Participation(cohort=3, drop_out=0.2)

    def run(state, rounds, first):
        return run_rounds(
            method,
            state,
            federation,
            hparams,
            rounds=rounds,
            first=first,
            chunk=4,
            execution=solo,
            participation=participation,
        )

    whole, history = run(start(method, federation), 6, 0)
    half, early = run(start(method, federation), 4, 0)
    rest, late = run(half, 2, 4)
    chex.assert_trees_all_equal(rest, whole)
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), early, late)
    chex.assert_trees_all_equal(joined, history)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_cohort_equals_the_round_in_which_the_others_are_inactive(
    name, model, federation, executions
):
    people = federation.people
    members = np.asarray(sample_cohort(people, 2, 2))
    active = np.zeros(people.n_clients, bool)
    active[members] = True
    for execution in executions[1::2]:  # both devices, every form
        execution = for_points(execution, people.n_points)
        method, hparams = build(name, model, execution), HPARAMS[name]
        data = everywhere(federation, execution)
        before = start(method, data)
        masked, want = jax.jit(method.round)(
            before, data, hparams, Round(jnp.int32(2), jnp.asarray(active))
        )
        sampled = jax.jit(one_round(method, execution, Participation(cohort=2)))
        after, got = sampled(before, data, hparams, jnp.int32(2))
        chex.assert_trees_all_close(after, masked, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got.loss, want.loss, rtol=1e-5)
        np.testing.assert_array_equal(np.asarray(got.uplink_bits) > 0, active)
        untouched = jax.tree.map(lambda leaf: np.asarray(leaf)[~active], before.clients)
        still = jax.tree.map(lambda leaf: np.asarray(leaf)[~active], after.clients)
        chex.assert_trees_all_equal(still, untouched)


def test_everybody_dropping_out_changes_nothing(model, federation, solo):
    method = build("fd", model, solo)
    before = jax.device_get(start(method, federation))
    after, history = run_rounds(
        method,
        start(method, federation),
        federation,
        HPARAMS["fd"],
        rounds=2,
        execution=solo,
        participation=Participation(cohort=2, drop_out=1.0),
    )
    chex.assert_trees_all_equal(jax.device_get(after).clients[0].models, before.clients[0].models)
    assert history.report.work_flops.sum() == 0


def test_one_program_serves_every_chunk(model, federation, solo):
    method = fedavg(model, epochs=3, batch_size=5, execution=solo)  # of no other test
    assert method is fedavg(model, epochs=3, batch_size=5, execution=solo)
    programs = cast(Any, engine._chunk)
    before = programs._cache_size()
    for first in (0, 7):
        run_rounds(
            method,
            start(method, federation),
            federation,
            HPARAMS["fedavg"],
            rounds=7,
            first=first,
            chunk=3,
            execution=solo,
        )
    assert programs._cache_size() == before + 1


@pytest.mark.parametrize("study_rows", [1, 2])
def test_dealing_keeps_members_and_evens_out_the_blocks(study_rows):
    devices = tuple(jax.local_devices()[:1]) * 4  # the mesh's shape is all that counts here
    execution = Execution("sequential", devices, study_rows=study_rows)
    sizes = jnp.asarray(np.random.default_rng(0).integers(1, 100, 20), jnp.int32)
    members = jnp.asarray([0, 2, 3, 5, 7, 11, 12, 14, 16, 19], jnp.int32)
    dealt, present = deal(members, sizes, 2, execution)
    assert dealt.shape[0] % 4 == 0
    np.testing.assert_array_equal(np.sort(np.asarray(dealt)[np.asarray(present)]), members)
    if study_rows == 2:  # a row of the mesh holds its own points' members only
        half = len(dealt) // 2
        assert set(np.asarray(dealt[:half])) == {0, 2, 3, 5, 7}
    loads = np.where(present, sizes[dealt], 0).reshape(study_rows, 4 // study_rows, -1).sum(axis=2)
    spread = loads.max(axis=1) - loads.min(axis=1)
    assert (spread <= int(sizes.max())).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds, chunk, observe_every and align"),
        ({"participation": Participation(drop_out=1.5)}, "drop_out"),
        ({"participation": Participation(cohort=9)}, "between 1 and the 5 users"),
    ],
)
def test_bad_arguments_are_named(model, federation, solo, change, message):
    method = build("fedavg", model, solo)
    arguments = {"rounds": 1, "execution": solo} | change
    with pytest.raises(ValueError, match=message):
        run_rounds(method, start(method, federation), federation, HPARAMS["fedavg"], **arguments)


def test_observing_now_and_then_gives_what_observing_always_does(model, federation, solo):
    method = build("fd", model, solo)
    everything = {"execution": solo, "rounds": 7, "observe": first_weights}
    always, every_third = (
        run_rounds(
            method,
            start(method, federation),
            federation,
            HPARAMS["fd"],
            observe_every=every,
            **everything,
        )[1]
        for every in (1, 3)
    )
    seen = observed_rounds(7, 3)
    assert np.flatnonzero(seen).tolist() == [2, 5, 6]
    np.testing.assert_array_equal(every_third.observed[seen], always.observed[seen])
    assert not every_third.observed[~seen].any()
    chex.assert_trees_all_equal(every_third.report, always.report)


def test_a_dropped_learning_rate_is_a_lower_learning_rate(model, federation, solo):
    method, low = build("fedavg", model, solo), rates(0.01)

    def run(values, drop, first):
        state = start(method, federation)
        return run_rounds(
            method,
            state,
            federation,
            values,
            rounds=2,
            first=first,
            execution=solo,
            learning_rate_drop=drop,
        )[1].report.loss

    np.testing.assert_array_equal(run(rates(0.1), Drop((3,), 0.1), 3), run(low, Drop(), 3))
    assert (run(rates(0.1), Drop((3,), 0.1), 1)[0] == run(rates(0.1), Drop(), 1)[0]).all()


def first_weights(state, federation):
    return jax.tree.leaves(state.clients[0].models["params"])[0][:, :2]


class Roll(NamedTuple):
    """What a method of two architectures was asked to do."""

    count: jax.Array


def rolls() -> Method:
    """Notes in its state how often each client was active."""

    def init(federation):
        clients = tuple(Roll(jnp.zeros(len(group), jnp.int32)) for group in federation.groups)
        return State(server=(), clients=clients)

    def round_(state, federation, hparams, this):
        counts = tuple(
            Roll(roll.count + this.active[group].astype(jnp.int32))
            for roll, group in zip(state.clients, federation.groups, strict=True)
        )
        active = this.active.astype(jnp.float32)
        return State((), counts), RoundReport(*[active] * 5)

    return Method(init, round_, lambda *_: {})


@pytest.mark.parametrize(
    "participation", [Participation(2), Participation(2, 0.5), Participation()]
)
def test_cohorts_of_several_architectures_are_told_who_is_active(
    model, federation, solo, participation
):
    """The same users as where rows are moved, of whatever architecture."""
    grouped = replace(federation, groups=groups_by_turns(federation.people, 2))
    method, rounds = rolls(), 6
    state, history = run_rounds(
        method,
        method.init(grouped),
        grouped,
        (),
        rounds=rounds,
        execution=solo,
        participation=participation,
    )
    plain = build("fedavg", model, solo)
    want = run_rounds(
        plain,
        start(plain, federation),
        federation,
        HPARAMS["fedavg"],
        rounds=rounds,
        execution=solo,
        participation=participation,
    )[1].report.work_flops
    np.testing.assert_array_equal(history.report.loss > 0, want > 0)
    counts = whole_axis(tuple(roll.count for roll in state.clients), grouped.groups, 10)
    np.testing.assert_array_equal(counts, (want > 0).sum(axis=0))
