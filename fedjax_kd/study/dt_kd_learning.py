"""The training stages of a DT-KD study, each a loop on the host around compiled chunks.

The host loop exists to show progress and to stay interruptible; one compiled program per
architecture serves every chunk, every kind of soft label and both stages.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import Part, Population, branch, keep_first, pooled, stack_tables
from fedjax_kd.methods.contract import Federation, Predictor, RoundReport, State
from fedjax_kd.methods.dt_kd import DistillationRates, distil, init_students, own_student
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.rounds import History, run_rounds
from fedjax_kd.models import Model
from fedjax_kd.study.plan import Plan
from fedjax_kd.study.progress import Stage
from fedjax_kd.study.settings import DtKdStudy, FedAvgBaseline, Teacher, Training
from fedjax_kd.training import (
    Execution,
    Rates,
    accuracy_of_clients,
    executed_examples,
    for_points,
    on_host,
    rates,
)

PROFILE_STAGE, DEPLOYMENT_STAGE = 0, 1
CLIENTS_PER_CHUNK = 8  # per device; a chunk of small networks takes seconds


class SoftLabels(NamedTuple):
    """Which of the clients' examples the teacher labels.

    Attributes:
        name: `none`, `synchronised` or `all`.
        counts: int32 [K], the first rows of each client that have a soft label.
    """

    name: str
    counts: jax.Array


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


class Scores(NamedTuple):
    """Accuracies [S, N] of one architecture; NaN where a student was not trained or scored."""

    accuracy_validation: np.ndarray
    accuracy_common_validation: np.ndarray
    accuracy_personal: np.ndarray
    accuracy_common: np.ndarray


def training_rates(training: Training) -> Rates:
    """The traced part of a `Training` setting."""
    return rates(
        training.learning_rate, training.momentum, training.weight_decay, training.gradient_clip
    )


def run_fedavg(
    chosen: Teacher | FedAvgBaseline,
    model: Model,
    trainers: Population,
    federation: Federation,
    execution: Execution,
    progress: Stage,
) -> Course:
    """Runs rounds in which all trainers take part, scoring the common test set after each.

    Args:
        chosen: rounds and training, as the settings of a stage say.
        model: the architecture.
        trainers: who trains.
        federation: the examples, and the users who predict with the result.
        execution: how clients are run.
        progress: told after each round.

    Returns:
        What came of it.

    Raises:
        FloatingPointError: if a client's loss is not finite. Deviation from the design: one
            diverging client stops the whole study, because every policy is compared on all seeds.
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

    seen = 0

    def look(done: int, part: History) -> None:
        nonlocal seen
        losses = part.report.loss.reshape(len(part.report.loss), people.n_points, -1)
        for index, loss in enumerate(losses):
            _require_finite(loss, f"{model.name} in round {seen + index + 1}")
        accuracy, loss = part.observed[-1].mean(), losses[-1].mean()
        progress.advance(done - seen, f"accuracy {accuracy:.3f}, loss {loss:.3f}")
        seen = done

    federation = replace(federation, people=people)
    state, history = run_rounds(
        method,
        jax.jit(method.init)(federation),
        federation,
        training_rates(training),
        rounds=chosen.rounds,
        execution=execution,
        observe=common_accuracy,
        on_chunk=look,
    )
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
    settings: DtKdStudy,
    model: Model,
    federation: Federation,
    synchronised: jax.Array,
    plan: Plan,
    progress: Stage,
) -> Course:
    """Trains the teacher on what the twins hold: over the twins by FedAvg, or on the pool.

    Args:
        settings: the study.
        model: the teacher's architecture.
        federation: the users.
        synchronised: int32 [K], examples of each user at its twin.
        plan: how clients are run.
        progress: told after each round.

    Returns:
        What came of it.
    """
    people = branch(federation.people, Part.TEACHER)
    twins = replace(people, train=keep_first(people.train, synchronised))
    if settings.teacher.mode == "pooled":
        points = jnp.arange(people.n_points, dtype=jnp.int32)
        twins = replace(
            twins, point=points, user=jnp.zeros_like(points), train=pooled(people, twins.train)
        )
    execution = plan.of(model, settings.teacher.training.batch_size)
    return run_fedavg(settings.teacher, model, twins, federation, execution, progress)


def train_fedavg(
    settings: DtKdStudy, model: Model, federation: Federation, plan: Plan, progress: Stage
) -> Course:
    """Trains the baseline: FedAvg of one small model over all users' own examples."""
    execution = plan.of(model, settings.fedavg.training.batch_size)
    users = branch(federation.people, Part.FEDAVG)
    return run_fedavg(settings.fedavg, model, users, federation, execution, progress)


def train_students(
    settings: DtKdStudy,
    model: Model,
    federation: Federation,
    labels: jax.Array,
    kind: SoftLabels,
    stage: int,
    wanted: np.ndarray,
    execution: Execution,
    progress: Stage,
) -> Predictor:
    """Trains one architecture for the wanted clients, in chunks that share a compiled program.

    Args:
        settings: the study.
        model: the students' architecture.
        federation: K clients.
        labels: float32 [K, n_max, C], the teacher's logits.
        kind: which examples have a soft label.
        stage: `PROFILE_STAGE` or `DEPLOYMENT_STAGE`; they draw different weights and batches.
        wanted: bool [K].
        execution: how clients are run.
        progress: told after each chunk.

    Returns:
        Every client's predictor; unwanted clients keep their initial weights.
    """
    federation = replace(federation, people=branch(federation.people, Part.STUDENTS))
    distillation = settings.distillation
    hparams = DistillationRates(
        optimiser=training_rates(distillation.training),
        temperature=jnp.float32(distillation.temperature),
        weight=jnp.float32(distillation.weight),
    )
    students = init_students(model, federation, jnp.int32(stage), execution=execution)
    for chunk in chunks(wanted, execution):
        students, loss = distil(
            model,
            students,
            federation,
            labels,
            kind.counts,
            hparams,
            jnp.int32(stage),
            jnp.asarray(chunk),
            epochs=distillation.training.epochs,
            batch_size=distillation.training.batch_size,
            execution=execution,
        )
        loss = on_host(loss, execution)
        _require_finite(loss.reshape(federation.people.n_points, -1), model.name)
        mean_loss = float(loss[chunk].mean())
        progress.advance(
            int(chunk.sum()), f"{model.name}, soft labels {kind.name}, loss {mean_loss:.3f}"
        )
    return own_student(students, federation)


def score_clients(
    model: Model,
    predictor: Predictor,
    federation: Federation,
    wanted: np.ndarray,
    execution: Execution,
) -> Scores:
    """Scores the wanted clients on every split.

    Returns:
        Accuracies [S, N].
    """
    people = federation.people
    own = jnp.arange(people.n_clients, dtype=jnp.int32)
    splits = (  # one padded table for all splits, so that one compiled program scores them all
        (people.validation, own),
        (people.common_validation, people.point),
        (people.test, own),
        (people.common_test, people.point),
    )
    rows = stack_tables([table for table, _ in splits])
    accuracies, first = [], 0
    for table, row in splits:
        result = accuracy_of_clients(
            model,
            predictor.stack,
            predictor.row,
            federation.table,
            rows,
            row + first,
            jnp.asarray(wanted),
            execution,
        )
        accuracies.append(np.where(wanted, on_host(result, execution), np.nan))
        first += len(table.counts)
    return Scores(*(values.reshape(people.n_points, people.n_users) for values in accuracies))


def _require_finite(loss: np.ndarray, what: str) -> None:
    """Stops a study whose training diverged: `loss` is [S, clients of a point]."""
    lost = np.argwhere(~np.isfinite(loss))
    if len(lost):
        point, client = lost[0]
        raise FloatingPointError(
            f"the training loss of {what} is not finite for {len(lost)} of {loss.size} clients, "
            f"the first being client {client} of point {point}; lower the learning_rate or "
            "set a gradient_clip above 0 in the training settings of this stage"
        )


def padding_ratio(
    federation: Federation, batch_size: int, wanted: np.ndarray, execution: Execution
) -> tuple[float, float]:
    """Examples per epoch that training the wanted clients computes on, and that they hold."""
    counts = federation.people.train.counts
    executed = sum(
        float(executed_examples(counts, jnp.asarray(chunk), batch_size, execution).sum())
        for chunk in chunks(wanted, execution)
    )
    return executed, float(np.asarray(counts)[wanted].sum())


def chunks(wanted: np.ndarray, execution: Execution) -> Iterator[np.ndarray]:
    """Cuts the wanted clients into masks [K] that keep every device busy.

    Devices own contiguous blocks of the client axis, so a chunk takes as many clients from each
    block.
    """
    n_clients = len(wanted)
    block = -(-n_clients // execution.n_devices)
    owner = np.arange(n_clients) // block
    rank = np.zeros(n_clients, np.int64)
    for device in range(execution.n_devices):
        mine = wanted & (owner == device)
        rank[mine] = np.arange(mine.sum())
    size = CLIENTS_PER_CHUNK if execution.form == "sequential" else n_clients
    for start in range(0, int(rank[wanted].max()) + 1 if wanted.any() else 0, size):
        yield wanted & (rank >= start) & (rank < start + size)
