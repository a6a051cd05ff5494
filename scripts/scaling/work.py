"""Builds a case out of the package's parts and runs its rounds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import population
from fedjax_kd.clients.store import in_memory, on_disk
from fedjax_kd.data import (
    Dirichlet,
    Iid,
    Source,
    UserSplit,
    example_table,
    host_rng,
    partition,
)
from fedjax_kd.methods.contract import Federation, Method
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.rounds import Participation, run_rounds
from fedjax_kd.methods.streamed import (
    client_rows,
    client_template,
    host_population,
    initial_server,
    run_streamed_rounds,
)
from fedjax_kd.models import build_model
from fedjax_kd.training import Execution, everywhere, executed_examples, for_points, rates

from .case import MODEL, Case

PARTITIONS = {"equal": Iid(), "dirichlet": Dirichlet(alpha=0.1)}
FILLED_AT_ONCE = 50


class Ready(NamedTuple):
    """A case, ready for its first round.

    Attributes:
        rounds: `(first, count) -> RoundReport`, finished when it returns.
        close: frees what it holds.
        row_bytes: of one client's state.
    """

    rounds: Callable[[int, int], Any]
    close: Callable[[], None]
    row_bytes: int


def prepare(case: Case, source: Source, execution: Execution, folder: Path) -> Ready:
    """Makes federation, method and state of a case; a store on disk goes into `folder`."""
    execution = for_points(execution, case.seeds)
    federation = federation_of(case, source)
    method, hparams = method_of(case, source, execution)
    participation = Participation(cohort=case.cohort)
    make = _resident if case.keep == "resident" else _streamed
    return make(case, method, hparams, federation, execution, participation, folder)


def federation_of(case: Case, source: Source) -> Federation:
    """The clients and their examples, by the seed."""
    splits = [split_of(case, source, seed) for seed in range(case.seeds)]
    return Federation(example_table(source), population(range(case.seeds), splits))


def split_of(case: Case, source: Source, seed: int) -> UserSplit:
    """Who holds which training examples; the held-out parts, which nobody looks at, are small."""
    rng = np.random.default_rng(seed)
    n_examples = len(source.train_labels)
    if case.partition == "shared":
        rows = [rng.choice(n_examples, case.examples, replace=False) for _ in range(case.clients)]
    else:
        spec = PARTITIONS[case.partition]
        rng = host_rng(seed, "partition")
        rows = partition(spec, source.train_labels, case.clients, rng)
    train = tuple(row.astype(np.int32) for row in rows)
    unused = tuple(row[:1] for row in train)
    test = np.arange(n_examples, n_examples + 1000, dtype=np.int32)
    return UserSplit(train, unused, unused, test[:1], test)


def method_of(case: Case, source: Source, execution: Execution) -> tuple[Method, Any]:
    """The method with its hyper-parameters; one local epoch of plain SGD."""
    model = build_model(MODEL, input_shape=source.input_shape, n_classes=source.n_classes)
    options = {"epochs": 1, "batch_size": case.batch_size, "execution": execution}
    if case.method == "fedavg":
        return fedavg(model, **options), rates(0.1)
    return fd(model, **options), FdRates(rates(0.1), jnp.float32(1), jnp.float32(1))


def executed_by_form(case: Case, source: Source, execution: Execution) -> dict[str, float]:
    """Executed over useful FLOPs of a round of everybody: as reported, and of the other forms."""
    ready = prepare(case, source, execution, Path(tempfile.gettempdir()))
    report = ready.rounds(0, 1)
    ready.close()
    found = {f"{execution.label} (reported)": _ratio(report.executed_flops, report.work_flops)}
    counts = federation_of(case, source).people.train.counts
    active = jnp.ones(counts.shape, bool)
    for form in ("sequential", "chunked", "vmap"):
        other = execution._replace(form=form)
        executed = executed_examples(counts, active, case.batch_size, other)
        found[other.label] = _ratio(executed, counts)
    return found


def _ratio(executed, useful) -> float:
    return float(np.asarray(executed, np.float64).sum() / np.asarray(useful, np.float64).sum())


def _resident(case, method, hparams, federation, execution, participation, folder) -> Ready:
    placed, hparams = everywhere((federation, hparams), execution)
    state = [jax.jit(method.init)(placed)]
    clients = jax.tree.leaves(state[0].clients)

    def rounds(first: int, count: int):
        state[0], history = run_rounds(
            method,
            state[0],
            placed,
            hparams,
            rounds=count,
            execution=execution,
            participation=participation,
            first=first,
            chunk=max(count, 1),
        )
        jax.block_until_ready(state[0])
        return history.report

    row_bytes = sum(leaf.nbytes for leaf in clients) // (case.clients * case.seeds)
    return Ready(rounds, lambda: None, row_bytes)


def _streamed(case, method, hparams, federation, execution, participation, folder) -> Ready:
    people, table = host_population(federation.people), federation.table
    template = client_template(method, people, table)
    n_clients = people.n_clients
    if case.keep == "memory":
        store = in_memory(template, n_clients)
    else:
        store = on_disk(folder / "clients", template, n_clients)
    server = [initial_server(method, people, table, execution)]
    if case.filled:
        for start in range(0, n_clients, FILLED_AT_ONCE):
            members = np.arange(start, min(start + FILLED_AT_ONCE, n_clients))
            store.write(members, client_rows(method, store, people, table, members, execution))
        store.flush()

    def rounds(first: int, count: int):
        server[0], history = run_streamed_rounds(
            method,
            server[0],
            store,
            people,
            table,
            hparams,
            rounds=count,
            execution=execution,
            participation=participation,
            first=first,
        )
        jax.block_until_ready(server[0])
        return history.report

    return Ready(rounds, store.close, store.row_bytes)
