"""Rounds of training inside a DT-KD study: the teacher over the twins, and the FedAvg baseline.

The host loop around compiled chunks exists to show progress and to keep what was done.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fedjax_kd.clients import Part, Population, branch, keep_first, pooled
from fedjax_kd.methods.contract import Federation, Predictor, RoundReport, State
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.rounds import History, history_shapes, run_rounds
from fedjax_kd.models import Model
from fedjax_kd.study.book import Book, joined, placed_like, shapes_of, with_free_length
from fedjax_kd.study.diverged import Diverged
from fedjax_kd.study.dt_kd_setup import Setup
from fedjax_kd.study.dt_kd_tables import metric_rows
from fedjax_kd.study.plan import Plan
from fedjax_kd.study.points import Labels, stacked
from fedjax_kd.study.progress import Stage
from fedjax_kd.study.settings import (
    DtKdStudy,
    FedAvgBaseline,
    Teacher,
    Training,
)
from fedjax_kd.training import (
    Execution,
    Rates,
    accuracy_of_clients,
    for_points,
    rates,
)


class Keep(NamedTuple):
    """Where rounds are kept, and what their rows are called: the book, the scope, the points."""

    book: Book
    scope: str
    labels: Labels


class Course(NamedTuple):
    """What rounds of training came to.

    Attributes:
        predictor: of every user.
        accuracy: float [S, R], on the common test set after each round.
        loss: float [S, R], mean training loss over the clients.
        did: the reports of all rounds added up, arrays [K] (losses excepted: those of the last).
    """

    predictor: Predictor
    accuracy: np.ndarray
    loss: np.ndarray
    did: RoundReport


def training_rates(training: Training) -> Rates:
    """The traced part of a `Training` setting."""
    return rates(
        training.learning_rate, training.momentum, training.weight_decay, training.gradient_clip
    )


def run_fedavg(
    chosen: Teacher | FedAvgBaseline,
    numbers: Rates,
    model: Model,
    trainers: Population,
    federation: Federation,
    execution: Execution,
    progress: Stage,
    keep: Keep,
) -> Course:
    """Runs rounds in which all trainers take part, scoring the common test set after each.

    Args:
        chosen: rounds and training, as the settings of a stage say.
        numbers: its rates, scalars or [S].
        model: the architecture.
        trainers: who trains.
        federation: the examples, and the users who predict with the result.
        execution: how clients are run.
        progress: told after each round.
        keep: where it is kept, and taken up from where an earlier run stopped.

    Returns:
        What came of it.

    Raises:
        Diverged: if a client's loss is not finite. Deviation from the design: one diverging client
            stops its whole point, because every policy is compared on all clients.
        Stopped: if the run was asked to stop; everything up to there is kept.
    """
    training = chosen.training
    people = trainers
    execution = for_points(execution, people.n_points)
    method = fedavg(
        model, epochs=training.epochs, batch_size=training.batch_size, execution=execution
    )
    predicting = federation.people.point
    points = jnp.arange(people.n_points, dtype=jnp.int32)
    everybody = jnp.ones(people.n_points, bool)

    def common_accuracy(state: State, federation: Federation) -> jax.Array:
        (server,) = method.predict(state, federation)["model"]
        stack, common = server.stack, federation.people.common_test
        return accuracy_of_clients(
            model, stack, points, federation.table, common, points, everybody, execution
        )

    federation = replace(federation, people=people)
    state = jax.jit(method.init)(federation)
    book, scope = keep.book, keep.scope
    steps = training.epochs * np.ceil(np.asarray(people.train.counts) / training.batch_size)
    histories: list[History] = []

    def like() -> dict[str, Any]:
        rows = history_shapes(
            method, federation, numbers, execution=execution, observe=common_accuracy
        )
        return {"state": shapes_of(state), "history": with_free_length(rows)}

    done = 0
    kept = book.part.restore(like)
    if kept is not None:
        done, tree = kept
        state = placed_like(state, tree["state"])
        histories.append(tree["history"])
        progress.skip(done, f"taken up after round {done}")
    book.outlet.rejoin(scope, done)
    book.timings.rejoin(scope, done)
    started = time.perf_counter()

    def look(count: int, part: History, state: State) -> None:
        nonlocal started
        first, last = sum(len(each.report.loss) for each in histories), done + count
        histories.append(part)
        losses = part.report.loss.reshape(len(part.report.loss), people.n_points, -1)
        for index, loss in enumerate(losses):
            require_finite(loss, f"{model.name} in round {first + index + 1}", keep.labels.seed)
        worked = (part.report.work_flops > 0) * steps
        seconds, started = time.perf_counter() - started, time.perf_counter()
        book.timings.add(scope, first + 1, last, seconds, float(worked.sum()))
        rounds = np.arange(first + 1, last + 1)
        loss_by_round = np.asarray(losses.mean(axis=2))
        rows = curve_rows(keep.labels, scope, part.observed.T, loss_by_round.T, rounds)
        book.outlet.rows(scope, last, pd.concat(rows, ignore_index=True))
        accuracy, loss = part.observed[-1].mean(), losses[-1].mean()
        progress.advance(
            last - first,
            f"accuracy {accuracy:.3f}, loss {loss:.3g}",
            client_steps=float(worked.sum()),
        )
        book.part.offer(last, lambda: {"state": state, "history": joined(histories)})

    if done < chosen.rounds:
        state, _ = run_rounds(
            method,
            state,
            federation,
            numbers,
            rounds=chosen.rounds - done,
            first=done,
            execution=execution,
            observe=common_accuracy,
            align=book.part.align,
            on_chunk=look,
        )
    history = joined(histories)
    did = jax.tree.map(lambda leaf: leaf.sum(axis=0), history.report)
    losses = (
        np.asarray(history.report.loss).reshape(chosen.rounds, people.n_points, -1).mean(axis=2)
    )
    (server,) = method.predict(state, federation)["model"]
    predictor = Predictor(stack=server.stack, row=predicting)
    return Course(
        predictor, history.observed.T, losses.T, replace(did, loss=history.report.loss[-1])
    )


def train_teacher(
    settings: DtKdStudy, setup: Setup, plan: Plan, progress: Stage, book: Book
) -> Course:
    """Trains the teacher on what the twins hold: over the twins by FedAvg, or on the pool.

    Args:
        settings: the study.
        setup: its users and architectures.
        plan: how clients are run.
        progress: told after each round.
        book: where it is kept.

    Returns:
        What came of it.
    """
    model, federation = setup.teacher, setup.federation
    people = branch(federation.people, Part.TEACHER)
    twins = replace(people, train=keep_first(people.train, setup.synchronised))
    if settings.teacher.mode == "pooled":
        points = jnp.arange(people.n_points, dtype=jnp.int32)
        twins = replace(
            twins, point=points, user=jnp.zeros_like(points), train=pooled(people, twins.train)
        )
    execution = plan.of(model, settings.teacher.training.batch_size)
    numbers = stacked([training_rates(p.teacher.training) for p in setup.points.settings])
    keep = Keep(book, "teacher", setup.points.labels)
    return run_fedavg(
        settings.teacher, numbers, model, twins, federation, execution, progress, keep
    )


def train_fedavg(
    settings: DtKdStudy, setup: Setup, model: Model, plan: Plan, progress: Stage, book: Book
) -> Course:
    """Trains the baseline: FedAvg of one small model over all users' own examples."""
    execution = plan.of(model, settings.fedavg.training.batch_size)
    federation = setup.federation
    users = branch(federation.people, Part.FEDAVG)
    numbers = stacked([training_rates(p.fedavg.training) for p in setup.points.settings])
    keep = Keep(book, "fedavg", setup.points.labels)
    return run_fedavg(settings.fedavg, numbers, model, users, federation, execution, progress, keep)


def curve_rows(
    labels: Labels, scope: str, accuracy: np.ndarray, loss: np.ndarray, rounds: np.ndarray
) -> list[pd.DataFrame]:
    """Rows of metrics.parquet of some rounds [R] of training: accuracy and loss [S, R]."""
    return [
        metric_rows(labels, scope, "accuracy_common", accuracy, rounds),
        metric_rows(labels, scope, "loss", loss, rounds),
    ]


def require_finite(loss: np.ndarray, what: str, seeds: Sequence[int]) -> None:
    """Stops points whose training diverged: `loss` is [S, clients of a point]."""
    finite = np.isfinite(loss)
    reasons = {}
    for place in map(int, np.flatnonzero(~finite.all(axis=1))):
        clients = np.flatnonzero(~finite[place])
        reasons[place] = (
            f"the training loss of {what} is not finite for {len(clients)} of {loss.shape[1]} "
            f"clients, the first being client {clients[0]} (seed {seeds[place]}); lower the "
            "learning_rate or set a gradient_clip above 0 in the training settings of this stage"
        )
    if reasons:
        raise Diverged(reasons)
