"""Rounds over a population larger than the device: only a cohort's rows are ever there.

The clients' state lives in a `ClientStore` and their index tables in NumPy arrays. Each round is
one program of the cohort's size, which runs the method on the cohort as `run_rounds` would, with
the same draws. While round t trains, a thread reads the rows of cohort t + 1 from the store; it
writes those of cohort t back as soon as they are there. A client that is in both cohorts is not
waited for: the program of round t + 1 takes its row from the results of round t, on the device. A
client that never took part has no row yet, and the program draws its initial state.

The thread does one thing after the other, in the order read 1, write 0, read 2, write 1, ..., so a
row read for round t + 1 has seen every write up to round t - 1, and the results of round t are
handed on as said. The main thread is at most one round ahead of the device.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from fedjax_kd.clients import Population, select
from fedjax_kd.clients.store import ClientStore
from fedjax_kd.data import ExampleTable, IndexTable
from fedjax_kd.methods.contract import Federation, Method, Round, RoundReport, State
from fedjax_kd.methods.rounds import History, Observe, Participation, draw_cohort
from fedjax_kd.training import Execution, everywhere, settled
from fedjax_kd.training.execution import mesh_of, spec_of

DRAWN_AT_ONCE = 16  # rounds whose cohorts one call draws
Tree = Any


class CohortHistory(NamedTuple):
    """What happened in R rounds to their cohorts of M, on the host.

    Attributes:
        members: int32 [R, M], positions on the client axis of the population.
        present: bool [R, M], who of them took part; places of the others may repeat a member.
        report: the method's reports, arrays [R, M].
        observed: what `observe` returned after each round, arrays [R, ...].
    """

    members: np.ndarray
    present: np.ndarray
    report: RoundReport
    observed: Any


def run_streamed_rounds(
    method: Method,
    server: Tree,
    store: ClientStore,
    people: Population,
    table: ExampleTable,
    hparams: Any,
    *,
    rounds: int,
    execution: Execution,
    participation: Participation,
    observe: Observe | None = None,
    first: int = 0,
    on_round: Callable[[int, Tree, CohortHistory], None] | None = None,
) -> tuple[Tree, CohortHistory]:
    """Runs rounds `first` to `first + rounds - 1`, clients' state staying on the host.

    Between calls the store and the returned server belong together. A call that ends by an
    exception first finishes and writes the rounds that it began, as far as it can.

    Args:
        method: the method.
        server: `State.server` as `method.init` or an earlier call left it.
        store: the clients' state, see `client_template` and `fedjax_kd.clients.store`.
        people: the population; `on_host` spares the device its index tables.
        table: the examples.
        hparams: the method's traced hyper-parameters, scalars or [S].
        rounds: how many.
        execution: how the clients of a cohort are run; devices of this process only.
        participation: who takes part.
        observe: pure function evaluated after every round on the server and the cohort: their state
            and the cohort's federation.
        first: number of the first round; draws depend on it.
        on_round: told after each round: rounds done, the server's state, and the round's history
            (arrays with R = 1). The store may already be a round further.

    Returns:
        The server's state after the last round, and the history of all of them.

    Raises:
        ValueError: if the cohort does not fit, `rounds` is less than one, `drop_out` is not in
            [0, 1], the store is of another population or the execution of several processes.
        StoreError: if the store cannot be read or written.
    """
    _check(store, people, rounds, execution, participation)
    people = host_population(people)
    clients_axis = NamedSharding(mesh_of(execution), spec_of("clients", execution, 0))
    study_axis = NamedSharding(mesh_of(execution), spec_of("study", execution, people.n_points))
    server = jax.device_put(server, study_axis)
    hparams, shared = everywhere((hparams, _Shared.of(table, people)), execution)
    parts: list[CohortHistory] = []

    def finish(done: int, server: Tree, writing: Future) -> None:
        parts.append(writing.result())
        if on_round is not None:
            on_round(done, server, parts[-1])

    cohorts = _cohorts(people, participation, execution, first, rounds)
    cohort, previous, unfinished = next(cohorts), None, None
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="client-store") as thread:
            reading = thread.submit(_read, store, people, cohort, None)
            for index in range(first, first + rounds):
                incoming = jax.device_put(reading.result(), clients_axis, may_alias=False)
                if previous is None:
                    blank = jax.tree.map(np.zeros_like, incoming.rows)
                    previous = jax.device_put(blank, clients_axis)
                server, previous, report, observed = _round(
                    method,
                    execution,
                    observe,
                    server,
                    incoming.rows,
                    previous,
                    incoming._replace(rows=()),
                    shared,
                    hparams,
                    jnp.int32(index),
                )
                done = cohort
                if index + 1 < first + rounds:
                    cohort = next(cohorts)
                    reading = thread.submit(_read, store, people, cohort, done)
                writing = thread.submit(_write, store, done, previous, report, observed)
                if unfinished is not None:
                    finish(*unfinished)
                unfinished = (index + 1 - first, server, writing)
            if unfinished is not None:
                finish(*unfinished)
    except BaseException:
        store.flush()
        raise
    return server, jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def host_population(people: Population) -> Population:
    """The same population with everything that grows with the clients in NumPy arrays."""
    kept = {
        name: getattr(people, name) for name in ("point", "user", "train", "validation", "test")
    }
    return replace(people, **jax.tree.map(np.asarray, kept))


def initial_server(
    method: Method, people: Population, table: ExampleTable, execution: Execution
) -> Tree:
    """`State.server` as `method.init` has it; no client's state is made."""
    federation = Federation(table=table, people=_one_of_each_point(people))
    return _init_server(method, everywhere(federation, execution))


def client_template(method: Method, people: Population, table: ExampleTable) -> Tree:
    """Shapes and dtypes of the clients' state, for `fedjax_kd.clients.store`."""
    federation = Federation(table=table, people=_one_of_each_point(people))
    return jax.eval_shape(method.init, federation).clients


def client_rows(
    method: Method,
    store: ClientStore,
    people: Population,
    table: ExampleTable,
    members: np.ndarray,
    execution: Execution,
) -> Tree:
    """State of some clients [M, ...] on the devices; initial where they never took part.

    Args:
        method: the method.
        store: the clients' state.
        people: the population.
        table: the examples.
        members: int [M], positions on the client axis, equally many of each study point.
        execution: where.
    """
    rows, made = store.read(members)
    federation = Federation(table=table, people=_chosen(people, members))
    return _completed(method, *everywhere((rows, ~made, federation), execution))


def spread(history: CohortHistory, n_clients: int) -> History:
    """The history with a row for every client, zeros for those that did not take part."""
    turn, place = np.nonzero(history.present)

    def put(leaf):
        whole = np.zeros((len(leaf), n_clients, *leaf.shape[2:]), leaf.dtype)
        whole[turn, history.members[turn, place]] = leaf[turn, place]
        return whole

    report = jax.tree.map(put, history.report)
    executed = np.zeros_like(report.executed_flops)
    rounds = np.arange(len(executed))[:, None]  # also of members that did not take part
    np.add.at(executed, (rounds, history.members), history.report.executed_flops)
    return History(replace(report, executed_flops=executed), observed=history.observed)


def _check(store, people, rounds, execution, participation) -> None:
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1; got {rounds}")
    if not 0.0 <= participation.drop_out <= 1.0:
        raise ValueError(f"drop_out must be in [0, 1]; got {participation.drop_out}")
    if store.n_clients != people.n_clients:
        raise ValueError(f"store: {store.n_clients} clients; the population has {people.n_clients}")
    if any(device.process_index != jax.process_index() for device in execution.devices):
        raise ValueError("execution: devices of several processes; streamed rounds take one's own")


def _one_of_each_point(people: Population) -> Population:
    point = np.asarray(people.point)
    return _chosen(people, np.unique(point, return_index=True)[1])


def _chosen(people: Population, members: np.ndarray) -> Population:
    """`select` where both are on the host, and so is the result."""
    return select(people, cast(Any, members))


class _Cohort(NamedTuple):
    """Who was drawn for a round: members int32 [M], and who is present, bool [M]."""

    members: np.ndarray
    present: np.ndarray


class _Incoming(NamedTuple):
    """What the devices need of a cohort, arrays [M, ...].

    Attributes:
        rows: state, from the store.
        unmade: bool, rows that are to be drawn.
        source: int32, place of the client in the cohort before, if it took part there; else -1.
        present: bool.
        clients: the cohort's point, user, train, validation, test and unlabelled.
    """

    rows: Tree
    unmade: Any
    source: Any
    present: Any
    clients: Any


class _Shared(NamedTuple):
    """What all cohorts share, on the devices once."""

    table: ExampleTable
    roots: jax.Array
    common_validation: IndexTable
    common_test: IndexTable
    public: IndexTable

    @classmethod
    def of(cls, table: ExampleTable, people: Population) -> "_Shared":
        common = people.common_validation, people.common_test, people.public
        return cls(table, people.roots, *common)

    def with_clients(self, clients) -> Federation:
        point, user, train, validation, test, unlabelled = clients
        people = Population(
            roots=self.roots,
            point=point,
            user=user,
            train=train,
            validation=validation,
            test=test,
            unlabelled=unlabelled,
            common_validation=self.common_validation,
            common_test=self.common_test,
            public=self.public,
        )
        return Federation(table=self.table, people=people)


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)
def _round(method, execution, observe, server, rows, previous, incoming, shared, hparams, index):
    """One round of a cohort; its rows are given away to the results."""
    cohort = shared.with_clients(incoming.clients)
    rows = _with_initial(method, rows, incoming.unmade, cohort)
    rows = _with_handed_on(rows, previous, incoming.source)
    state = State(server=server, clients=rows)
    state, report = method.round(state, cohort, hparams, Round(index, incoming.present))
    observed = None if observe is None else observe(state, cohort)
    return (
        settled(state.server, execution, axis="study"),
        settled(state.clients, execution, axis="clients"),
        settled(report, execution),
        settled(observed, execution),
    )


@partial(jax.jit, static_argnums=0)
def _init_server(method, federation):
    return method.init(federation).server


@partial(jax.jit, static_argnums=0)
def _completed(method, rows, unmade, federation):
    return _with_initial(method, rows, unmade, federation)


def _with_initial(method, rows, unmade, federation):
    def draw(rows):
        return _where(unmade, method.init(federation).clients, rows)

    return jax.lax.cond(jnp.any(unmade), draw, lambda rows: rows, rows)


def _with_handed_on(rows, previous, source):
    def take(rows):
        place = jnp.maximum(source, 0)
        return _where(source >= 0, jax.tree.map(lambda leaf: leaf[place], previous), rows)

    return jax.lax.cond(jnp.any(source >= 0), take, lambda rows: rows, rows)


def _where(mask, chosen: Tree, other: Tree) -> Tree:
    def pick(a, b):
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, chosen, other)


def _read(store: ClientStore, people: Population, cohort: _Cohort, before) -> _Incoming:
    """A cohort's rows and clients, in the thread. Rows that the cohort before has are stale."""
    rows, made = store.read(cohort.members)
    source = np.full(len(cohort.members), -1, np.int32)
    if before is not None:
        places = np.flatnonzero(before.present)
        places = places[np.argsort(before.members[places])]
        sorted_members = before.members[places]
        found = np.searchsorted(sorted_members, cohort.members) % max(len(places), 1)
        if len(places):
            same = sorted_members[found] == cohort.members
            source[same] = places[found[same]]
    chosen = _chosen(people, cohort.members)
    own = (chosen.train, chosen.validation, chosen.test, chosen.unlabelled)
    clients = (chosen.point, chosen.user, *own)
    return _Incoming(rows, ~made & (source < 0), source, cohort.present, clients)


def _write(store: ClientStore, cohort: _Cohort, rows, report, observed) -> CohortHistory:
    """Brings a round's results to the host once they are there, in the thread."""
    rows, report, observed = jax.tree.map(np.asarray, (rows, report, observed))
    if not cohort.present.all():
        rows = jax.tree.map(lambda leaf: leaf[cohort.present], rows)
    store.write(cohort.members[cohort.present], rows)
    whole = CohortHistory(cohort.members, cohort.present, report, observed)
    return jax.tree.map(lambda leaf: leaf[None], whole)


def _cohorts(
    people: Population, participation: Participation, execution: Execution, first: int, rounds: int
) -> Iterator[_Cohort]:
    """The cohort of each round, drawn a block of rounds ahead."""
    none = np.zeros((people.n_clients, 0), np.int32)
    counted = IndexTable(cast(Any, none), people.train.counts)
    small = replace(people, train=counted, validation=counted, test=counted)
    small = jax.device_put(small, execution.devices[0])
    length = min(DRAWN_AT_ONCE, rounds)

    def draw(start: int):
        indices = np.arange(start, start + length, dtype=np.int32)
        return _draw(small, jax.device_put(indices, execution.devices[0]), participation, execution)

    block = draw(first)
    for start in range(first, first + rounds, length):
        ahead = draw(start + length) if start + length < first + rounds else None
        members, present = jax.tree.map(np.asarray, block)
        for each in range(min(length, first + rounds - start)):
            yield _Cohort(members[each], present[each])
        block = ahead


@partial(jax.jit, static_argnums=(2, 3))
def _draw(people, indices, participation, execution):
    """Members int32 [R, M] and who is present, bool [R, M], in some rounds."""
    return jax.lax.map(lambda index: draw_cohort(people, index, participation, execution), indices)
