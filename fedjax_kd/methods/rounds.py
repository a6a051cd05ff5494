"""Rounds of any method: who takes part, and many rounds as one compiled program.

A sampled cohort is a federation of its own: the engine takes the cohort's rows of the population
and of the clients' state, runs the method on them, and puts the rows back. So a round costs what
its cohort costs, for every method, and no method knows of it. Every draw belongs to a user by name,
not to a place in a stack, so the result is that of a round in which the others are inactive.

Rounds run in chunks inside one program with donated state; the host only looks between chunks. The
number of rounds in a chunk is traced, so chunks of different lengths share the program.

Where clients have several architectures, a cohort has another number of each in every round, and
arrays cannot; there, and where a method draws roles of its own, a cohort is told to the method as
those who are active, nothing is moved, and the forms of execution skip the others (`vmap` alone
runs them and drops what they did).
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import Population, drop_out, put_rows, sample_cohort, select, take_rows
from fedjax_kd.methods.contract import Federation, Method, Round, RoundReport, State
from fedjax_kd.training import Drop, Execution, settled
from fedjax_kd.training.processes import slowest
from fedjax_kd.training.schedule import dropped

Observe = Callable[[State, Federation], Any]
CHUNK_SECONDS = 2.0


class Participation(NamedTuple):
    """Who takes part in a round; static.

    Attributes:
        cohort: users drawn per study point and round, without replacement; None is everybody.
        drop_out: probability in [0, 1] that a drawn user drops out of the round.
    """

    cohort: int | None = None
    drop_out: float = 0.0


class Watch(NamedTuple):
    """What is looked at between rounds; static.

    Attributes:
        observe: `(state, federation) -> pytree`, or None.
        every: rounds from one look to the next.
    """

    observe: Observe | None
    every: int


class History(NamedTuple):
    """What happened in R rounds, on the host.

    Attributes:
        report: the method's reports, arrays [R, K].
        observed: what `observe` returned after each round, arrays [R, ...]; zeros for rounds in
            which it was not asked, see `observed_rounds`.
    """

    report: RoundReport
    observed: Any


def run_rounds(
    method: Method,
    state: State,
    federation: Federation,
    hparams: Any,
    *,
    rounds: int,
    execution: Execution,
    participation: Participation = Participation(),  # noqa: B008
    observe: Observe | None = None,
    observe_every: int = 1,
    learning_rate_drop: Drop = Drop(),  # noqa: B008
    first: int = 0,
    chunk: int = 16,
    align: int | None = None,
    on_chunk: Callable[[int, History, State], None] | None = None,
) -> tuple[State, History]:
    """Runs rounds `first` to `first + rounds - 1`.

    Args:
        method: the method.
        state: as `method.init` or an earlier call left it; given away to the call.
        federation: the examples and clients.
        hparams: the method's traced hyper-parameters, scalars or [S].
        rounds: how many.
        execution: how clients are run.
        participation: who takes part.
        observe: pure function evaluated inside the program after every `observe_every` rounds,
            counted from round 0, and after the last one.
        observe_every: at least 1.
        learning_rate_drop: rounds from which on learning rates are lower.
        first: number of the first round; draws depend on it. Rounds in two calls, the second with
            the state of the first, run the same program as all of them in one: bit for bit.
        chunk: most rounds per call of the program. Chunks start with one round and grow while they
            take less than two seconds, so that progress is seen; results do not depend on it.
        align: no chunk goes past a multiple of this many rounds, counted from round 0.
        on_chunk: told after each chunk: rounds done, the chunk's history, and the state, which is
            given away to the next chunk: whoever wants to keep it has to copy it.

    Returns:
        The state after the last round and the history of all of them.

    Raises:
        ValueError: if the cohort does not fit or `rounds`, `chunk`, `align` or `observe_every` is
            less than one.
    """
    least = (rounds, chunk, observe_every, 1 if align is None else align)
    if min(least) < 1:
        raise ValueError(
            "rounds, chunk, observe_every and align must be at least 1; got "
            f"{', '.join(str(number) for number in least)}"
        )
    watch = Watch(observe, observe_every)
    length = min(chunk, first + rounds)  # of the whole, so that a later part is the same program
    step = partial(_chunk, method, execution, participation, watch, learning_rate_drop, length)
    end = jnp.int32(first + rounds)
    parts: list[History] = []
    done, wanted = 0, 1
    while done < rounds:
        to_mark = rounds if align is None else align - (first + done) % align
        count = min(wanted, chunk, rounds - done, to_mark)
        started = time.perf_counter()
        state, history = step(
            state, federation, hparams, jnp.int32(first + done), jnp.int32(count), end
        )
        history = jax.tree.map(partial(_first_rows, count), history)
        elapsed = slowest(time.perf_counter() - started)
        if elapsed < CHUNK_SECONDS:
            wanted *= 2
        elif elapsed > 2 * CHUNK_SECONDS and done:  # the first chunk also compiles
            wanted = max(1, wanted // 2)
        done += count
        parts.append(history)
        if on_chunk is not None:
            on_chunk(done, history, state)
    return state, jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _first_rows(count: int, leaf: jax.Array) -> np.ndarray:
    """The first rows of an array, on the host; a few rows do not keep the memory of all."""
    whole = np.asarray(leaf)
    return whole if count == len(whole) else whole[:count].copy()


def one_round(
    method: Method,
    execution: Execution,
    participation: Participation = Participation(),  # noqa: B008
) -> Callable[[State, Federation, Any, jax.Array], tuple[State, RoundReport]]:
    """A round with its participation: `(state, federation, hparams, index) -> (state, report)`.

    The report has a row for every client of the federation, zeros for those that were not there.
    """
    if not 0.0 <= participation.drop_out <= 1.0:
        raise ValueError(f"drop_out must be in [0, 1]; got {participation.drop_out}")

    def everybody(state, federation, hparams, index):
        active = jnp.ones(federation.people.n_clients, bool)
        return method.round(state, federation, hparams, Round(index, active))

    def some(state, federation, hparams, index):
        people = federation.people
        members, present = draw_cohort(people, index, participation, execution)
        cohort = replace(federation, people=select(people, members))
        rows = take_rows(state.clients, members)
        new, report = method.round(
            replace(state, clients=rows), cohort, hparams, Round(index, present)
        )
        clients = put_rows(state.clients, members, new.clients, present)
        everyone = Round(index, jnp.ones(people.n_clients, bool))
        shapes = jax.eval_shape(method.round, state, federation, hparams, everyone)[1]

        def put(shape, leaf):
            if shape.shape[0] != people.n_clients:
                return leaf  # the servers', whose rows are not those of a cohort
            blank = jnp.zeros((people.n_clients, *leaf.shape[1:]), leaf.dtype)
            return put_rows(blank, members, leaf, present)

        whole = jax.tree.map(put, shapes, report)
        whole = replace(whole, executed_flops=_billed(people, members, report.executed_flops))
        return (
            State(server=new.server, clients=settled(clients, execution, axis="clients")),
            settled(whole, execution),
        )

    def _billed(people, members, executed_flops):
        # Of everybody who was run: also of members that dropped out, where a form runs them too,
        # and of those that fill up a device's block a second time.
        return jnp.zeros(people.n_clients, jnp.float32).at[members].add(executed_flops)

    def marked(state, federation, hparams, index):
        people = federation.people
        active = jnp.ones(people.n_clients, bool)
        if participation.cohort is not None:
            members = sample_cohort(people, index, participation.cohort)
            active = jnp.zeros_like(active).at[members].set(True)
        if participation.drop_out > 0:
            everyone = jnp.arange(people.n_clients, dtype=jnp.int32)
            active &= drop_out(people, everyone, index, participation.drop_out)
        return method.round(state, federation, hparams, Round(index, active))

    def round_(state, federation, hparams, index):
        if federation.groups or method.has_roles:
            return marked(state, federation, hparams, index)
        # Clients without state may be dealt to the devices anew each round, which evens out their
        # loads at no cost; moving the state of everybody would cost more than it gains.
        evens_out = execution.n_devices > 1 and not jax.tree.leaves(state.clients)
        whole = participation.cohort is None and participation.drop_out == 0.0
        chosen = everybody if whole and not evens_out else some
        return chosen(state, federation, hparams, index)

    return round_


def draw_cohort(
    people: Population, index: jax.Array, participation: Participation, execution: Execution
) -> tuple[jax.Array, jax.Array]:
    """Who works in a round, in the order of the devices' blocks.

    Args:
        people: the whole population.
        index: int32 scalar, the round.
        participation: how many are drawn, and how many of them stay.
        execution: the mesh.

    Returns:
        int32 [M] and bool [M]: positions on the client axis, and whether a member takes part. M is
        the cohort's size, filled up to a multiple of the number of devices.
    """
    if participation.cohort is None:
        members = jnp.arange(people.n_clients, dtype=jnp.int32)
    else:
        members = sample_cohort(people, index, participation.cohort)
    members, present = deal(members, people.train.counts, people.n_points, execution)
    if participation.drop_out > 0:
        present &= drop_out(people, members, index, participation.drop_out)
    return members, present


def deal(
    members: jax.Array, sizes: jax.Array, n_points: int, execution: Execution
) -> tuple[jax.Array, jax.Array]:
    """Orders a cohort so that every device's block of it holds about as much work as any other.

    Within each row of the mesh the members are dealt out by size, back and forth over the devices.

    Args:
        members: int32 [M], positions on the client axis, point by point, equally many of each.
        sizes: int32 [K], what a client's work grows with.
        n_points: S.
        execution: the mesh; with one device the members stay as they are.

    Returns:
        int32 [M'] and bool [M'] with M' >= M a multiple of the number of devices: members in the
        order of the blocks, and which places hold one; the others repeat a member of their row.
    """
    if execution.n_devices == 1:
        return members, jnp.ones(members.shape[0], bool)
    rows = execution.study_rows if n_points % execution.study_rows == 0 else 1
    columns = execution.n_devices // rows
    per_row = members.shape[0] // rows
    slots = -(-per_row // columns)
    turn, place = np.divmod(np.arange(per_row), columns)
    column = np.where(turn % 2 == 0, place, columns - 1 - place)
    target = column * slots + turn

    def deal_row(row):
        by_size = row[jnp.argsort(-sizes[row], stable=True)]
        return jnp.full(columns * slots, row[0]).at[target].set(by_size)

    present = np.zeros(columns * slots, bool)
    present[target] = True
    dealt = jax.vmap(deal_row)(members.reshape(rows, per_row)).reshape(-1)
    return dealt, jnp.tile(jnp.asarray(present), rows)


@partial(
    jax.jit,
    static_argnames=("method", "execution", "participation", "watch", "drop", "length"),
    donate_argnames=("state",),
)
def _chunk(
    method,
    execution,
    participation,
    watch,
    drop,
    length,
    state,
    federation,
    hparams,
    first,
    count,
    end,
):
    """Rounds first .. first + count - 1 of those before `end`, reported in `length` rows."""
    one = _step(method, execution, participation, watch, drop, federation, hparams, end)
    shapes = jax.eval_shape(one, state, first)[1]
    blank = jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), shapes)

    def body(i, carry):
        state, history = carry
        state, new = one(state, first + i)
        return state, jax.tree.map(lambda leaf, row: leaf.at[i].set(row), history, new)

    return jax.lax.fori_loop(0, count, body, (state, blank))


def _step(method, execution, participation, watch, drop, federation, hparams, end):
    """A round and what is seen of it: `(state, index) -> (state, History of one round)`."""
    round_ = one_round(method, execution, participation)

    def one(state, index):
        state, report = round_(state, federation, dropped(hparams, drop, index), index)
        observed = _look(watch, state, federation, index, end)
        return state, settled(History(report, observed), execution)

    return one


def history_shapes(
    method: Method,
    federation: Federation,
    hparams: Any,
    *,
    execution: Execution,
    participation: Participation = Participation(),  # noqa: B008
    observe: Observe | None = None,
) -> History:
    """Shapes of the history of one round, as `run_rounds` has them without its leading axis."""
    state = jax.eval_shape(method.init, federation)
    index = jax.ShapeDtypeStruct((), jnp.int32)
    watch = Watch(observe, 1)

    def one(state, federation, hparams, index):
        step = _step(method, execution, participation, watch, Drop(), federation, hparams, index)
        return step(state, index)[1]

    return jax.eval_shape(one, state, federation, hparams, index)


def _look(watch: Watch, state, federation, index, end):
    """What is observed after a round; zeros after a round that is not looked at."""
    observe = watch.observe
    if observe is None or watch.every == 1:
        return None if observe is None else observe(state, federation)
    shapes = jax.eval_shape(observe, state, federation)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    wanted = ((index + 1) % watch.every == 0) | (index + 1 == end)
    return jax.lax.cond(wanted, observe, lambda *_: blank, state, federation)


def observed_rounds(rounds: int, every: int, first: int = 0) -> np.ndarray:
    """Which of the rounds `first` to `first + rounds - 1` `run_rounds` looks at, bool [rounds]."""
    index = np.arange(first, first + rounds)
    return ((index + 1) % every == 0) | (index + 1 == first + rounds)
