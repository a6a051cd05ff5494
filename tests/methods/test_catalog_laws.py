"""Laws that every method of the catalog obeys, on a tiny federation of digits.

Different forms add up the same float32 numbers in another order (a batched product for a product, a
sum over devices for a sum over clients), which moves a number of size one by some units in the last
place, 1e-7, and training carries it on. Measured over these three rounds: at most 3e-7. TOLERANCE
leaves room for other processors. What one program does with data that it must not read is compared
bit for bit.
"""

import functools
from dataclasses import replace

import catalog_cases as cases
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import put_rows, select, take_rows
from fedjax_kd.methods.catalog import METHODS
from fedjax_kd.methods.contract import Federation, Round, State
from fedjax_kd.training import everywhere

TOLERANCE = 5e-6  # relative and absolute
EXECUTIONS = cases.executions()
ONE = cases.reference_execution()
TWO = EXECUTIONS["sequential on 2"]
every_method = pytest.mark.parametrize("name", METHODS)


@functools.cache
def reference(name: str) -> dict[str, np.ndarray]:
    return cases.run_reference(name, ONE)


def assert_same(got: dict[str, np.ndarray], want: dict[str, np.ndarray], tolerance=TOLERANCE):
    assert got.keys() == want.keys()
    for path in want:
        np.testing.assert_allclose(
            got[path], want[path], rtol=tolerance, atol=tolerance, err_msg=path
        )


def assert_close(got, want):
    chex.assert_trees_all_close(got, want, rtol=TOLERANCE, atol=TOLERANCE)


def after_one_round(name: str) -> State:
    """The state in which everybody has taken part once."""
    made, placed = cases.programs(name, ONE), cases.placed_federation(ONE)
    values, first = everywhere(cases.hparams(name), ONE), cases.single_rounds(ONE)[0]
    return made.round(made.init(placed), placed, values, first)[0]


def a_round(name: str, state: State, federation: Federation, active) -> tuple:
    this = Round(jnp.int32(1), jnp.asarray(active, bool))
    given = everywhere((state, federation, cases.hparams(name), this), ONE)
    return jax.device_get(cases.programs(name, ONE).round(*given))


def rows(tree, which):
    return jax.tree.map(lambda leaf: leaf[which], tree)


def test_the_catalog_says_what_it_holds():
    assert set(METHODS) == set(cases.HPARAMS)
    for name, entry in METHODS.items():
        assert jax.tree.structure(entry.default_hparams()) == jax.tree.structure(
            cases.HPARAMS[name]()
        )
        assert entry.summary
        assert "arXiv:" in entry.reference


@every_method
def test_the_reference_learns(name):
    """Guards the other laws: arrays that never move would be equal in every form."""
    reports = {path: leaf for path, leaf in reference(name).items() if path.endswith("loss")}
    (loss,) = reports.values()
    assert loss.shape == (3, 6)
    assert (loss[cases.ACTIVE] > 0).all()
    assert not loss[~cases.ACTIVE].any()
    assert loss[2, :2].mean() < 0.8 * loss[0, :2].mean()


@every_method
@pytest.mark.parametrize("label", [label for label in EXECUTIONS if label != "sequential on 2"])
def test_scanned_rounds_in_every_form_equal_the_loop(name, label):
    execution = EXECUTIONS[label]
    assert_same(cases.on_host(cases.run_scan(name, execution), execution), reference(name))


@every_method
def test_one_trace_and_one_program_serve_all_rounds_on_two_devices(name, monkeypatch):
    made, compiled = cases.programs(name, TWO), []
    chex.clear_trace_counter()
    counted = jax.jit(chex.assert_max_traces(made.method.round, n=1))

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        if event.endswith("backend_compile_duration") and "round_" in str(about.get("fun_name")):
            compiled.append(about["fun_name"])

    monkeypatch.setattr(cases, "programs", lambda *_: made._replace(round=counted))
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        state_and_reports = cases.run_loop(name, TWO)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) == 1
    assert_same(cases.on_host(state_and_reports, TWO), reference(name))


@pytest.mark.parametrize("label", ["vmap on 2", "chunked:2 on 2"])
def test_distillation_in_every_form_equals_the_sequential_one(label):
    execution = EXECUTIONS[label]
    assert_same(cases.run_reference(cases.DT_KD, execution), reference(cases.DT_KD))


@every_method
def test_the_order_of_clients_does_not_matter(name):
    order = jnp.asarray([2, 0, 1, 4, 5, 3])
    state, whole = after_one_round(name), cases.federation()
    shuffled = Federation(whole.table, select(whole.people, order))
    active = np.array([1, 0, 1, 1, 1, 0], bool)
    want, want_report = a_round(name, state, whole, active)
    mixed = State(state.server, take_rows(state.clients, order))
    got, got_report = a_round(name, mixed, shuffled, active[np.asarray(order)])
    assert_close(got.server, want.server)
    for mine, theirs in ((got.clients, want.clients), (got_report, want_report)):
        chex.assert_trees_all_equal(mine, rows(theirs, np.asarray(order)))


@every_method
def test_inactive_clients_are_untouched_and_touch_nobody(name):
    """Bit for bit: with other examples and another state of theirs, nothing else changes."""
    state, whole = after_one_round(name), cases.federation()
    active = np.array([1, 0, 1, 1, 1, 0], bool)
    new, report = a_round(name, state, whole, active)
    chex.assert_trees_all_equal(
        rows(new.clients, ~active), rows(jax.device_get(state.clients), ~active)
    )
    assert not any(leaf[~active].any() for leaf in jax.tree.leaves(report))

    people = whole.people
    idle = jnp.flatnonzero(~active)
    noise = jax.tree.map(lambda leaf: leaf[idle] + jnp.ones((), leaf.dtype), state.clients)
    meddled = State(state.server, put_rows(state.clients, idle, noise, jnp.ones(2, bool)))
    others = people.train.indices.at[idle].set(7)
    strange = replace(people, train=replace(people.train, indices=others))
    got, got_report = a_round(name, meddled, replace(whole, people=strange), active)
    chex.assert_trees_all_equal(got.server, new.server)
    chex.assert_trees_all_equal(rows(got.clients, active), rows(new.clients, active))
    chex.assert_trees_all_equal(got_report, report)


@every_method
def test_a_cohort_on_its_own_equals_the_round_in_which_the_others_are_inactive(name):
    state, whole = after_one_round(name), cases.federation()
    members = np.array([0, 2, 3, 4])
    active = np.isin(np.arange(cases.N_CLIENTS), members)
    want, want_report = a_round(name, state, whole, active)
    cohort = Federation(whole.table, select(whole.people, jnp.asarray(members)))
    part = State(state.server, take_rows(state.clients, jnp.asarray(members)))
    got, got_report = a_round(name, part, cohort, np.ones(4, bool))
    assert_close(got.server, want.server)
    assert_close(got.clients, rows(want.clients, members))
    assert_close(got_report, rows(want_report, members))


@every_method
def test_a_point_alone_and_padded_equals_the_point_in_company(name):
    """Three clients on two devices (so one is made up), rows longer by strangers' examples."""
    people = cases.federation().people
    first = replace(
        people,
        roots=people.roots[:1],
        common_validation=rows(people.common_validation, slice(1)),
        common_test=rows(people.common_test, slice(1)),
    )
    alone = cases.with_longer_rows(select(first, jnp.arange(3)), extra=5)
    made, placed = cases.programs(name, TWO), cases.placed_federation(TWO, alone)
    values = jax.tree.map(lambda leaf: leaf[:1], cases.hparams(name))
    state, losses = made.init(placed), []
    for this in cases.single_rounds(TWO):
        state, report = made.round(state, placed, values, Round(this.index, this.active[:3]))
        losses.append(report.loss)
    want, want_reports = jax.device_get(cases.run_loop(name, ONE))
    assert_close(jax.device_get(state.server), rows(want.server, slice(1)))
    assert_close(jax.device_get(state.clients), rows(want.clients, slice(3)))
    assert_close(np.stack(losses), want_reports.loss[:, :3])


@every_method
def test_what_stands_past_a_clients_count_is_never_read(name):
    want = reference(name)
    longest = int(cases.federation().people.train.counts.max())
    assert cases.federation().people.train.indices.shape[1] == longest
    people = cases.with_longer_rows(cases.federation().people, extra=0)
    got = cases.on_host(cases.run_loop(name, ONE, people=people), ONE)
    assert_same(got, want, tolerance=0)


@every_method
def test_hyper_parameters_stacked_over_points_equal_separate_runs(name):
    both = jax.device_get(cases.run_loop(name, ONE, factors=(1.0, 0.5)))
    for point, factor in enumerate((1.0, 0.5)):
        alone = jax.device_get(cases.run_loop(name, ONE, factors=(factor, factor)))
        own = slice(3 * point, 3 * point + 3)
        chex.assert_trees_all_equal(rows(both[0].server, point), rows(alone[0].server, point))
        chex.assert_trees_all_equal(rows(both[0].clients, own), rows(alone[0].clients, own))
        np.testing.assert_array_equal(both[1].loss[:, own], alone[1].loss[:, own])
    whole = jax.tree.leaves(both[0])
    plain = jax.tree.leaves(jax.device_get(cases.run_loop(name, ONE)[0]))
    assert any((a != b).any() for a, b in zip(whole, plain, strict=True))


def test_federated_distillation_without_weight_is_local_training():
    """Against another method's code: DT-KD's students when nobody labels anything."""
    made, federation = cases.programs("fd", ONE), cases.placed_federation(ONE)
    hparams = everywhere(replace(cases.hparams("fd"), weight=jnp.zeros(2)), ONE)
    state = made.init(federation)
    for this in cases.single_rounds(ONE):
        state, _ = made.round(state, federation, hparams, this)
    students, _ = cases.run_distil(ONE, labelled=False)
    assert_close(state.clients.models, students)
    assert float(state.server.counts.sum()) > 0
