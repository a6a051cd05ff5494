"""Rounds of any method: who takes part, and many rounds as one compiled program.

A sampled cohort is a federation of its own: the engine takes the cohort's rows of the population
and of the clients' state, runs the method on them, and puts the rows back. So a round costs what
its cohort costs, for every method, and no method knows of it. Every draw belongs to a user by name,
not to a place in a stack, so the result is that of a round in which the others are inactive.

Rounds run in chunks inside one program with donated state; the host only looks between chunks. The
number of rounds in a chunk is traced, so chunks of different lengths share the program.
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
from fedjax_kd.training import Execution, settled
from fedjax_kd.training.processes import slowest

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


class History(NamedTuple):
    """What happened in R rounds, on the host.

    Attributes:
        report: the method's reports, arrays [R, K].
        observed: what `observe` returned after each round, arrays [R, ...].
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
    first: int = 0,
    chunk: int = 16,
    on_chunk: Callable[[int, History], None] | None = None,
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
        observe: pure function evaluated after every round, inside the program.
        first: number of the first round; draws depend on it.
        chunk: most rounds per call of the program. Chunks start with one round and grow while they
            take less than two seconds, so that progress is seen; results do not depend on it.
        on_chunk: told after each chunk: rounds done, and the chunk's history.

    Returns:
        The state after the last round and the history of all of them.

    Raises:
        ValueError: if the cohort does not fit or `rounds` or `chunk` is less than one.
    """
    if rounds < 1 or chunk < 1:
        raise ValueError(f"rounds and chunk must be at least 1; got {rounds} and {chunk}")
    step = partial(_chunk, method, execution, participation, observe, min(chunk, rounds))
    parts: list[History] = []
    done, wanted = 0, 1
    while done < rounds:
        count = min(wanted, chunk, rounds - done)
        started = time.perf_counter()
        state, history = step(state, federation, hparams, jnp.int32(first + done), jnp.int32(count))
        history = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], history)  # noqa: B023
        elapsed = slowest(time.perf_counter() - started)
        if elapsed < CHUNK_SECONDS:
            wanted *= 2
        elif elapsed > 2 * CHUNK_SECONDS and done:  # the first chunk also compiles
            wanted = max(1, wanted // 2)
        done += count
        parts.append(history)
        if on_chunk is not None:
            on_chunk(done, history)
    return state, jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


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
        blank = jax.tree.map(
            lambda leaf: jnp.zeros((people.n_clients, *leaf.shape[1:]), leaf.dtype), report
        )
        whole = put_rows(blank, members, report, present)
        whole = replace(whole, executed_flops=_billed(members, report.executed_flops, blank))
        return (
            State(server=new.server, clients=settled(clients, execution, axis="clients")),
            settled(whole, execution),
        )

    def _billed(members, executed_flops, blank):
        # Of everybody who was run: also of members that dropped out, where a form runs them too,
        # and of those that fill up a device's block a second time.
        return blank.executed_flops.at[members].add(executed_flops)

    def round_(state, federation, hparams, index):
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
    static_argnames=("method", "execution", "participation", "observe", "length"),
    donate_argnames=("state",),
)
def _chunk(
    method, execution, participation, observe, length, state, federation, hparams, first, count
):
    """Rounds first .. first + count - 1, their reports in buffers of `length` rows."""
    round_ = one_round(method, execution, participation)

    def one(state, index):
        state, report = round_(state, federation, hparams, index)
        observed = None if observe is None else observe(state, federation)
        return state, settled(History(report, observed), execution)

    shapes = jax.eval_shape(one, state, first)[1]
    blank = jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), shapes)

    def body(i, carry):
        state, history = carry
        state, new = one(state, first + i)
        return state, jax.tree.map(lambda leaf, row: leaf.at[i].set(row), history, new)

    return jax.lax.fori_loop(0, count, body, (state, blank))
