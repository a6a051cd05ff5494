"""The students of a DT-KD study: trained in chunks of clients, kept, and scored.

One compiled program per architecture serves every chunk, every kind of soft label and both stages.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import Part, branch, stack_tables
from fedjax_kd.methods.contract import Federation, Predictor
from fedjax_kd.methods.dt_kd import DistillationRates, distil, init_students, own_student
from fedjax_kd.models import Model
from fedjax_kd.study.book import placed_like, shapes_of
from fedjax_kd.study.checkpoint import Keeper
from fedjax_kd.study.dt_kd_learning import require_finite, training_rates
from fedjax_kd.study.dt_kd_setup import Setup
from fedjax_kd.study.points import stacked
from fedjax_kd.study.progress import Stage
from fedjax_kd.study.settings import (
    Distillation,
    DtKdStudy,
)
from fedjax_kd.training import (
    Execution,
    accuracy_of_clients,
    executed_examples,
    on_host,
)

PROFILE_STAGE, DEPLOYMENT_STAGE = 0, 1
STAGES = ("profile", "deployment")
CLIENTS_PER_CHUNK = 8  # per device; a chunk of small networks takes seconds


class SoftLabels(NamedTuple):
    """Which of the clients' examples the teacher labels.

    Attributes:
        name: `none`, `synchronised` or `all`.
        counts: int32 [K], the first rows of each client that have a soft label.
    """

    name: str
    counts: jax.Array


class Scores(NamedTuple):
    """Accuracies [S, N] of one architecture; NaN where a student was not trained or scored."""

    accuracy_validation: np.ndarray
    accuracy_common_validation: np.ndarray
    accuracy_personal: np.ndarray
    accuracy_common: np.ndarray


def train_students(
    settings: DtKdStudy,
    setup: Setup,
    student: int,
    labels: jax.Array,
    kind: SoftLabels,
    stage: int,
    wanted: np.ndarray,
    execution: Execution,
    progress: Stage,
    keeper: Keeper,
) -> Predictor:
    """Trains one architecture for the wanted clients, in chunks that share a compiled program.

    Args:
        settings: the study.
        setup: its users.
        student: which architecture.
        labels: float32 [K, n_max, C], the teacher's logits.
        kind: which examples have a soft label.
        stage: `PROFILE_STAGE` or `DEPLOYMENT_STAGE`; they draw different weights and batches.
        wanted: bool [K].
        execution: how clients are run.
        progress: told after each chunk.
        keeper: keeps the students, chunk by chunk.

    Returns:
        Every client's predictor; unwanted clients keep their initial weights.
    """
    model = setup.students[student]
    people = branch(setup.federation.people, Part.STUDENTS)
    federation = replace(setup.federation, people=people)
    training = settings.distillation.training
    hparams = stacked([_distillation_rates(point.distillation) for point in setup.points.settings])
    students = init_students(model, federation, jnp.int32(stage), execution=execution)
    blocks = list(chunks(wanted, execution))
    if not blocks:
        return own_student(students, federation)
    name = part_of(stage, student, kind.name)
    part = keeper.part(name, len(blocks))
    trained_after = np.cumsum(blocks, axis=0, dtype=np.int64) > 0
    done = 0
    like = {"students": shapes_of(students), "trained": trained_after[0]}
    kept = part.restore(like)
    if kept is not None and not np.array_equal(kept[1]["trained"], trained_after[kept[0] - 1]):
        # Cut for other devices, or other students are wanted now: what is kept is of no use.
        keeper.drop(name)
        part, kept = keeper.part(name, len(blocks)), None
    if kept is not None:
        done, tree = kept
        students = placed_like(students, tree["students"])
        trained = sum(int(chunk.sum()) for chunk in blocks[:done])
        progress.skip(trained, f"{model.name}, soft labels {kind.name}, taken up")
    steps = training.epochs * np.ceil(np.asarray(people.train.counts) / training.batch_size)
    for place, chunk in enumerate(blocks[done:], start=done + 1):
        students, loss = distil(
            model,
            students,
            federation,
            labels,
            kind.counts,
            hparams,
            jnp.int32(stage),
            jnp.asarray(chunk),
            epochs=training.epochs,
            batch_size=training.batch_size,
            execution=execution,
        )
        loss = on_host(loss, execution)
        require_finite(loss.reshape(setup.points.count, -1), model.name, setup.points.seeds)
        mean_loss = float(loss[chunk].mean())
        progress.advance(
            int(chunk.sum()),
            f"{model.name}, soft labels {kind.name}, loss {mean_loss:.3g}",
            client_steps=float(steps[chunk].sum()),
        )
        trained = trained_after[place - 1]
        part.offer(place, lambda: {"students": students, "trained": trained})  # noqa: B023
    return own_student(students, federation)


def part_of(stage: int, student: int, kind: str) -> str:
    """The name under which students of one architecture and kind of soft labels are kept."""
    return f"{STAGES[stage]}-{student}-{kind}"


def _distillation_rates(distillation: Distillation) -> DistillationRates:
    return DistillationRates(
        optimiser=training_rates(distillation.training),
        temperature=jnp.float32(distillation.temperature),
        weight=jnp.float32(distillation.weight),
    )


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
