"""Laws that every method of the catalog obeys, on a tiny federation of digits.

Different forms add up the same float32 numbers in another order (a batched product for a product, a
sum over devices for a sum over clients), which moves a number of size one by some units in the last
place, 1e-7, and training carries it on. Measured over these three rounds: at most 3e-7. TOLERANCE
leaves room for other processors. What one program does with data that it must not read is compared
bit for bit.
"""

import functools
from dataclasses import replace
from pathlib import Path

import catalog_cases as cases
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.methods.catalog import METHODS
from fedjax_kd.methods.contract import Federation, Round, State
from fedjax_kd.study.checkpoint import Cadence, Keeper, open_keeper
from fedjax_kd.study.folder import ResultFolder
from fedjax_kd.training import everywhere

TOLERANCE = 5e-6  # relative and absolute
EXECUTIONS = cases.executions()
ONE = cases.reference_execution()
TWO = EXECUTIONS["sequential on 2"]
AS_USERS = ("fedavg", "fd, noise, delta")  # of one architecture, and of two with a channel
every_method = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.shipped if name in AS_USERS else ())
        for name in cases.EVERY
    ],
)


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
    made, placed = cases.programs(name, ONE), cases.placed_federation(ONE, None, name)
    values, first = everywhere(cases.hparams(name), ONE), cases.single_rounds(ONE)[0]
    return made.round(made.init(placed), placed, values, first)[0]


def a_round(name: str, state: State, federation: Federation, active) -> tuple:
    this = Round(jnp.int32(1), jnp.asarray(active, bool))
    given = everywhere((state, federation, cases.hparams(name), this), ONE)
    return jax.device_get(cases.programs(name, ONE).round(*given))


def rows(tree, which):
    return jax.tree.map(lambda leaf: leaf[which], tree)


def same_rows(got: list[np.ndarray], want: list[np.ndarray], which, compare=assert_close):
    """Arrays [K'] of a report against rows `which` of those of another."""
    assert len(got) == len(want) > 0
    compare(got, [leaf[which] for leaf in want])


def test_the_catalog_says_what_it_holds():
    assert set(cases.EVERY) == set(cases.HPARAMS)
    assert set(METHODS) == {name for name in cases.EVERY if "," not in name}
    for name, entry in METHODS.items():
        assert type(entry.default_hparams()) is type(cases.HPARAMS[name]())
        assert entry.summary
        assert "arXiv:" in entry.reference


@every_method
def test_the_reference_learns(name):
    """Guards the other laws: arrays that never move would be equal in every form."""
    (loss,) = [leaf for path, leaf in reference(name).items() if path.endswith(".loss")]
    assert loss.shape == (3, 6)
    assert not loss[~cases.ACTIVE].any()
    if name in cases.WITH_ROLES:
        assert (loss >= 0).all()
        assert (loss.max(axis=1) > 0).all()
    else:
        assert (loss[cases.ACTIVE] > 0).all()
        assert loss[2, :2].mean() < 0.8 * loss[0, :2].mean()
    made = cases.programs(name, ONE)
    start = cases.on_host(made.init(cases.placed_federation(ONE, None, name)), ONE)
    end = {path.removeprefix("[0]"): leaf for path, leaf in reference(name).items()}
    moved = [path for path, leaf in start.items() if (leaf != end[path]).any()]
    assert any("params" in path for path in moved), moved


@every_method
@pytest.mark.parametrize("label", [label for label in EXECUTIONS if label != "sequential on 2"])
def test_scanned_rounds_in_every_form_equal_the_loop(name, label):
    execution = EXECUTIONS[label]
    if name not in cases.IN_EVERY_FORM and label != cases.FORM_OF_ALL:
        return  # see IN_EVERY_FORM
    assert_same(cases.on_host(cases.run_scan(name, execution), execution), reference(name))


@every_method
def test_one_trace_and_one_program_serve_all_rounds_on_two_devices(name, monkeypatch):
    want = reference(name)
    made, compiled = cases.programs(name, TWO), []
    chex.clear_trace_counter()

    def round_(*given):
        return made.method.round(*given)

    counted = jax.jit(chex.assert_max_traces(round_, n=1))

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
    assert_same(cases.on_host(state_and_reports, TWO), want)


@pytest.mark.parametrize("label", ["vmap on 2", "chunked:2 on 2"])
def test_distillation_in_every_form_equals_the_sequential_one(label):
    execution = EXECUTIONS[label]
    assert_same(cases.run_reference(cases.DT_KD, execution), reference(cases.DT_KD))


@every_method
def test_the_order_of_clients_does_not_matter(name):
    order = np.asarray([2, 0, 1, 4, 5, 3])
    state, whole = after_one_round(name), cases.federation_of(name)
    shuffled, clients = cases.choose(whole, state.clients, order)
    active = np.array([1, 0, 1, 1, 1, 0], bool)
    want, want_report = a_round(name, state, whole, active)
    got, got_report = a_round(name, State(state.server, clients), shuffled, active[order])
    assert_close(got.server, want.server)
    mine = cases.each_client(shuffled, got.clients)
    theirs = cases.each_client(whole, want.clients)
    meets = name in cases.SUM_MEETS_CLIENTS
    compare = assert_close if meets else chex.assert_trees_all_equal
    compare(mine, [theirs[k] for k in order])
    same_rows(cases.of_clients(got_report, 6), cases.of_clients(want_report, 6), order, compare)


@every_method
def test_inactive_clients_are_untouched_and_touch_nobody(name):
    """Bit for bit: with other examples and another state of theirs, nothing else changes."""
    state, whole = after_one_round(name), cases.federation_of(name)
    active = np.array([1, 0, 1, 1, 1, 0], bool)
    new, report = a_round(name, state, whole, active)
    before, after = (cases.each_client(whole, each.clients) for each in (state, new))
    chex.assert_trees_all_equal(*[[each[1], each[5]] for each in (before, after)])
    assert not any(leaf[~active].any() for leaf in cases.of_clients(replace(report, extra={}), 6))

    people = whole.people
    idle = jnp.flatnonzero(~active)
    strange = replace(
        people,
        train=replace(people.train, indices=people.train.indices.at[idle].set(7)),
        unlabelled=replace(people.unlabelled, indices=people.unlabelled.indices.at[idle].set(7)),
    )
    noise = State(state.server, cases.meddled(whole, state.clients, ~active))
    got, got_report = a_round(name, noise, replace(whole, people=strange), active)
    chex.assert_trees_all_equal(got.server, new.server)
    others = cases.each_client(whole, got.clients)
    chex.assert_trees_all_equal(*[[each[k] for k in (0, 2, 3, 4)] for each in (others, after)])
    chex.assert_trees_all_equal(replace(got_report, extra={}), replace(report, extra={}))


@every_method
def test_a_cohort_on_its_own_equals_the_round_in_which_the_others_are_inactive(name):
    state, whole = after_one_round(name), cases.federation_of(name)
    members = np.array([0, 1, 3, 4] if name in cases.GROUPED else [0, 2, 3, 4])
    active = np.isin(np.arange(cases.N_CLIENTS), members)
    want, want_report = a_round(name, state, whole, active)
    cohort, clients = cases.choose(whole, state.clients, members)
    got, got_report = a_round(name, State(state.server, clients), cohort, np.ones(4, bool))
    assert_close(got.server, want.server)
    theirs = cases.each_client(whole, want.clients)
    assert_close(cases.each_client(cohort, got.clients), [theirs[k] for k in members])
    same_rows(cases.of_clients(got_report, 4), cases.of_clients(want_report, 6), members)


@every_method
def test_a_point_alone_and_padded_equals_the_point_in_company(name):
    """Three clients on two devices (so one is made up), rows longer by strangers' examples."""
    whole = cases.federation_of(name)
    first, _ = cases.choose(replace(whole, groups=()), (), np.arange(3))
    people = replace(
        first.people,
        roots=first.people.roots[:1],
        common_validation=rows(first.people.common_validation, slice(1)),
        common_test=rows(first.people.common_test, slice(1)),
        public=rows(first.people.public, slice(1)),
    )
    people = cases.with_longer_rows(people, extra=5)
    groups = tuple(group[group < 3] for group in whole.groups)
    alone = everywhere(replace(whole, people=people, groups=groups), TWO)
    made = cases.programs(name, TWO)
    values = everywhere(jax.tree.map(lambda leaf: leaf[:1], cases.hparams(name)), TWO)
    state, losses = made.init(alone), []
    for this in cases.single_rounds(TWO):
        state, report = made.round(state, alone, values, Round(this.index, this.active[:3]))
        losses.append(report.loss)
    want, want_reports = jax.device_get(cases.run_loop(name, ONE))
    assert_close(jax.device_get(state.server), rows(want.server, slice(1)))
    theirs = cases.each_client(whole, want.clients)
    assert_close(cases.each_client(alone, state.clients), theirs[:3])
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
def test_a_run_that_dies_after_every_round_goes_on_bit_for_bit(name, tmp_path):
    """What a checkpoint needs: the state and the round's number, and nothing else."""
    made, placed = cases.programs(name, ONE), cases.placed_federation(ONE, None, name)
    values, this = everywhere(cases.hparams(name), ONE), cases.single_rounds(ONE)
    state, reports = made.init(placed), []
    for done, each in enumerate(this):
        keeper = kept_in(tmp_path)  # as another process opens it
        part = keeper.part(name.replace(", ", "-"), len(this))
        if done:
            found = part.restore(state)
            assert found is not None
            assert found[0] == done
            state = everywhere(found[1], ONE)
        state, report = made.round(state, placed, values, each)
        reports.append(report)
        part.offer(done + 1, lambda: state)  # noqa: B023
        keeper.close()
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *reports)
    assert_same(cases.on_host((state, stacked), ONE), reference(name), tolerance=0)


def kept_in(path: Path) -> Keeper:
    """A keeper of checkpoints after every round."""
    folder, cadence = ResultFolder(path, "interrupted"), Cadence(every_rounds=1)
    return open_keeper(folder, cadence, settings_hash="law", form="law", points=2, note=pytest.fail)


@every_method
def test_hyper_parameters_stacked_over_points_equal_separate_runs(name):
    whole = cases.federation_of(name)
    both = jax.device_get(cases.run_loop(name, ONE, factors=(1.0, 0.5)))
    for point, factor in enumerate((1.0, 0.5)):
        alone = jax.device_get(cases.run_loop(name, ONE, factors=(factor, factor)))
        own = slice(3 * point, 3 * point + 3)
        chex.assert_trees_all_equal(rows(both[0].server, point), rows(alone[0].server, point))
        mine, theirs = (cases.each_client(whole, run[0].clients)[own] for run in (both, alone))
        chex.assert_trees_all_equal(mine, theirs)
        np.testing.assert_array_equal(both[1].loss[:, own], alone[1].loss[:, own])
    halved = jax.tree.leaves(both[0])
    plain = jax.tree.leaves(jax.device_get(cases.run_loop(name, ONE)[0]))
    assert any((a != b).any() for a, b in zip(halved, plain, strict=True))


def test_federated_distillation_without_weight_is_local_training():
    """Against another method's code: DT-KD's students when nobody labels anything."""
    made, federation = cases.programs("fd", ONE), cases.placed_federation(ONE)
    hparams = everywhere(replace(cases.hparams("fd"), weight=jnp.zeros(2)), ONE)
    state = made.init(federation)
    for this in cases.single_rounds(ONE):
        state, _ = made.round(state, federation, hparams, this)
    students, _ = cases.run_distil(ONE, labelled=False)
    assert_close(state.clients[0].models, students)
    assert float(state.server.counts.sum()) > 0
