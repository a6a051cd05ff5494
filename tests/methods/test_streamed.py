import shutil
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.clients import store as stores
from fedjax_kd.clients.store_journal import journalled
from fedjax_kd.methods.contract import State
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.rounds import Participation, run_rounds
from fedjax_kd.methods.streamed import (
    client_rows,
    client_template,
    host_population,
    initial_server,
    run_streamed_rounds,
    spread,
)
from fedjax_kd.training import Execution, everywhere, rates

ROUNDS = 7
SOME = Participation(cohort=3)
HPARAMS = FdRates(rates(0.1, 0.5), jnp.float32(1), jnp.float32(2))


@cache
def method_of(model, execution):
    return fd(model, epochs=2, batch_size=4, execution=execution)


def resident(method, federation, execution, participation, rounds=ROUNDS, **options):
    placed, hparams = everywhere((federation, HPARAMS), execution)
    state = jax.jit(method.init)(placed)
    return run_rounds(
        method,
        state,
        placed,
        hparams,
        rounds=rounds,
        execution=execution,
        participation=participation,
        **options,
    )


class Streamed:
    """A streamed run with its store, in memory or in a folder."""

    def __init__(self, method, federation, execution, participation, folder=None):
        self.method, self.execution, self.participation = method, execution, participation
        self.people, self.table = host_population(federation.people), federation.table
        template = client_template(method, self.people, self.table)
        n_clients = self.people.n_clients
        make = stores.in_memory if folder is None else lambda *a: stores.on_disk(folder, *a)
        self.store = make(template, n_clients)
        self.server = initial_server(method, self.people, self.table, execution)

    def run(self, rounds=ROUNDS, hparams: Any = HPARAMS, **options):
        self.server, history = run_streamed_rounds(
            self.method,
            self.server,
            self.store,
            self.people,
            self.table,
            hparams,
            rounds=rounds,
            execution=self.execution,
            participation=self.participation,
            **options,
        )
        return history

    def state(self):
        everybody = np.arange(self.people.n_clients)
        rows = client_rows(
            self.method, self.store, self.people, self.table, everybody, self.execution
        )
        return State(server=self.server, clients=rows)


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, leaf), other in zip(
        jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(found), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(other), np.asarray(leaf), str(path))


@pytest.mark.shipped
@pytest.mark.parametrize(
    ("form", "n_devices", "drop_out"),
    [("sequential", 1, 0.0), ("sequential", 2, 0.4), ("chunked", 2, 0.0)],
)
def test_same_results_as_with_everybody_on_the_device(federation, model, form, n_devices, drop_out):
    participation = Participation(cohort=3, drop_out=drop_out)
    execution = Execution(form, tuple(jax.local_devices()[:n_devices]), width=2)
    method = method_of(model, execution)
    state, history = resident(method, federation, execution, participation)
    streamed = Streamed(method, federation, execution, participation)
    seen = spread(streamed.run(), federation.people.n_clients)
    same(streamed.state(), state)
    same(seen.report, history.report)
    assert np.asarray(history.report.loss).any(axis=1).all()


def test_everybody_and_clients_that_keep_nothing(federation, model, solo):
    everybody = Participation()
    method = method_of(model, solo)
    state, _ = resident(method, federation, solo, everybody, rounds=3)
    streamed = Streamed(method, federation, solo, everybody)
    streamed.run(3)
    same(streamed.state(), state)

    method = fedavg(model, epochs=1, batch_size=4, execution=solo)
    hparams = rates(0.1)
    streamed = Streamed(method, federation, solo, SOME)
    streamed.run(hparams=hparams)
    placed = everywhere(federation, solo)
    state, _ = run_rounds(
        method,
        jax.jit(method.init)(placed),
        placed,
        hparams,
        rounds=ROUNDS,
        execution=solo,
        participation=SOME,
    )
    same(streamed.state(), state)


def test_rounds_may_be_run_in_parts_and_a_folder_opened_again(federation, model, solo, tmp_path):
    method = method_of(model, solo)
    whole = Streamed(method, federation, solo, SOME)
    whole.run()
    part = Streamed(method, federation, solo, SOME, tmp_path / "clients")
    part.run(4)
    part.store.close()
    again = Streamed(method, federation, solo, SOME, tmp_path / "clients")
    again.server = part.server
    again.run(ROUNDS - 4, first=4)
    same(again.state(), whole.state())
    again.store.close()


def test_rounds_past_the_saved_state_are_undone_and_come_out_the_same(
    federation, model, solo, tmp_path
):
    method = method_of(model, solo)
    whole = Streamed(method, federation, solo, SOME)
    whole.run()

    def opened(folder, done, server=None):
        run = Streamed(method, federation, solo, SOME)
        template = client_template(method, run.people, run.table)
        journal = journalled(folder, template, run.people.n_clients)
        journal.roll_back(done)
        run.store, run.server = journal.store, run.server if server is None else server
        return run, journal

    killed, journal = opened(tmp_path / "killed", 0)
    killed.run(3)
    journal.mark(3)
    saved = jax.tree.map(np.array, killed.server)
    killed.run(3, first=3)  # overwrites rows of the first three rounds
    shutil.copytree(tmp_path / "killed", tmp_path / "left")  # as it is, without being closed
    stale, _ = opened(tmp_path / "left", 3, saved)
    stale.run(ROUNDS - 3, first=3)
    same(stale.state(), whole.state())
    stale.store.close()
    killed.store.close()


def test_more_rounds_than_cohorts_are_drawn_at_once(federation, model, solo):
    method = method_of(model, solo)
    state, history = resident(method, federation, solo, SOME, rounds=19)
    streamed = Streamed(method, federation, solo, SOME)
    found = streamed.run(19)
    same(streamed.state(), state)
    assert found.members.shape == (19, 6)
    active = spread(found, federation.people.n_clients).report.work_flops > 0
    np.testing.assert_array_equal(active, history.report.work_flops > 0)


def test_told_after_each_round_with_what_was_observed(federation, model, solo):
    def norm(state, cohort):
        assert cohort.people.n_clients == 6
        return jnp.sum(state.server.counts)

    told = []
    method = method_of(model, solo)
    streamed = Streamed(method, federation, solo, SOME)
    history = streamed.run(
        observe=norm, on_round=lambda done, server, part: told.append((done, server, part))
    )
    assert [done for done, _, _ in told] == list(range(1, ROUNDS + 1))
    same(told[-1][1], streamed.server)
    for index, (_, server, part) in enumerate(told):
        assert part.observed[0] == history.observed[index] == np.sum(server.counts)
        np.testing.assert_array_equal(part.members[0], history.members[index])


def test_one_program_for_all_rounds(federation, model, solo):
    traced = []

    def count(state, cohort):
        traced.append(1)
        return jnp.int32(0)

    streamed = Streamed(method_of(model, solo), federation, solo, SOME)
    streamed.run(observe=count)
    once = len(traced)
    streamed.run(first=ROUNDS, observe=count)
    assert once == len(traced) == 1


def test_only_rows_of_participants_are_made(federation, model, solo):
    streamed = Streamed(method_of(model, solo), federation, solo, Participation(cohort=1))
    history = streamed.run(2)
    _, made = streamed.store.read(np.arange(federation.people.n_clients))
    np.testing.assert_array_equal(np.flatnonzero(made), np.unique(history.members))
    assert not made.all()


def test_rows_are_read_while_the_round_before_trains(federation, model, solo):
    method = method_of(model, solo)
    streamed = Streamed(method, federation, solo, SOME)
    order = []

    def read(members):
        order.append("read")
        return streamed_read(members)

    def write(members, rows):
        order.append("write")
        streamed_write(members, rows)

    streamed_read, streamed_write = streamed.store.read, streamed.store.write
    streamed.store = streamed.store._replace(read=read, write=write)
    streamed.run(4)
    assert order == ["read", "read", "write", "read", "write", "read", "write", "write"]


def test_failures_of_the_store_are_raised_and_the_rest_is_written(federation, model, solo):
    streamed = Streamed(method_of(model, solo), federation, solo, SOME)
    calls, flushed = [], []

    def read(members):
        calls.append(members)
        if len(calls) == 4:
            raise stores.StoreError("rows.bin: the disk is gone")
        return streamed_read(members)

    streamed_read = streamed.store.read
    streamed.store = streamed.store._replace(read=read, flush=lambda: flushed.append(1))
    with pytest.raises(stores.StoreError, match="the disk is gone"):
        streamed.run()
    assert flushed
    _, made = streamed_read(np.arange(federation.people.n_clients))
    np.testing.assert_array_equal(np.flatnonzero(made), np.unique(np.concatenate(calls[:3])))


def test_an_interrupted_call_leaves_what_it_finished(federation, model, solo):
    method = method_of(model, solo)
    streamed = Streamed(method, federation, solo, SOME)

    def interrupt(done, server, part):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        streamed.run(on_round=interrupt)
    expected = Streamed(method, federation, solo, SOME)
    expected.run(3)  # the third had begun
    rows = [each.store.read(np.arange(10))[0] for each in (streamed, expected)]
    same(*rows)


def test_bad_arguments_are_named(federation, model, solo):
    streamed = Streamed(method_of(model, solo), federation, solo, SOME)
    with pytest.raises(ValueError, match="rounds must be at least 1; got 0"):
        streamed.run(0)
    streamed.participation = Participation(cohort=6)
    with pytest.raises(ValueError, match="size must be between 1 and the 5 users"):
        streamed.run()
    streamed.participation = Participation(cohort=3, drop_out=2.0)
    with pytest.raises(ValueError, match=r"drop_out must be in \[0, 1\]; got 2.0"):
        streamed.run()
    streamed.participation = SOME
    streamed.people = replace(
        streamed.people, point=streamed.people.point[:5], user=streamed.people.user[:5]
    )
    with pytest.raises(ValueError, match="store: 10 clients; the population has 5"):
        streamed.run()


def test_index_tables_stay_on_the_host(federation):
    people = host_population(federation.people)
    assert all(
        isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((people.train, people.test))
    )
    assert isinstance(people.roots, jax.Array)
