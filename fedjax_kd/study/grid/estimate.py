"""What a group of rows will take, found out before anything is trained: memory, and seconds.

For a study in rounds, one round of one row is compiled and run twice for each contestant, with its
evaluation. A row takes as many seconds as its rounds, and rows are counted one after the other:
stacked they take less, if anything. The compiler says what a round needs on the way; that, and the
arrays, are counted once for every row. A DT-KD study has no round that stands for all of it: its
seconds come from the trials by which forms of execution are chosen, and its memory from shapes.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.methods.rounds import Participation, one_round
from fedjax_kd.methods.scores import client_accuracies
from fedjax_kd.study import dt_kd_memory
from fedjax_kd.study.contestants import Contestant, contestants, training_jobs
from fedjax_kd.study.dt_kd_assemble import soft_label_kinds
from fedjax_kd.study.dt_kd_setup import Setup, prepare
from fedjax_kd.study.memory import StudyTooLarge, device_limit_bytes
from fedjax_kd.study.plan import make_plan
from fedjax_kd.study.rounds_setup import RoundsSetup, prepare_rounds
from fedjax_kd.study.run_dt_kd import training_jobs as training_jobs_of_dt_kd
from fedjax_kd.study.settings import DtKdStudy
from fedjax_kd.study.studies import RoundsStudy, Study
from fedjax_kd.training import Execution, default_execution


class Estimate(NamedTuple):
    """What rows of a group take on a device.

    Attributes:
        fitting: how many rows fit at once; 0 if not even one does.
        fixed_bytes: what all rows share; None where only `fitting` is known.
        row_bytes: what each row needs; likewise.
        compile_s: seconds until the programs are compiled, once a group; None if not measured.
        row_s: seconds of a row; None if not measured.
    """

    fitting: int
    fixed_bytes: int | None
    row_bytes: int | None
    compile_s: float | None
    row_s: float | None


def estimate(
    settings: Study,
    most: int,
    *,
    data_dir: Path | None = None,
    form: str = "auto",
    execution: Execution | None = None,
    limit_bytes: int | None = None,
) -> Estimate:
    """Estimates what a row takes.

    Args:
        settings: of one row.
        most: how many rows nobody will go beyond.
        data_dir: where prepared data sets are; None for the default.
        form: how clients are run; `auto` takes the platform's usual form.
        execution: the devices; None takes all.
        limit_bytes: of one device; None takes four fifths of what it has.

    Raises:
        ValueError: for settings that cannot be met.
    """
    execution = default_execution() if execution is None else execution
    limit = device_limit_bytes(execution) if limit_bytes is None else limit_bytes
    if isinstance(settings, DtKdStudy):
        return _of_dt_kd(settings, most, data_dir, execution, limit)
    return _of_rounds(settings, most, data_dir, form, execution, limit)


def _of_rounds(
    settings: RoundsStudy,
    most: int,
    data_dir: Path | None,
    form: str,
    execution: Execution,
    limit_bytes: int,
) -> Estimate:
    setup = prepare_rounds(settings, execution, data_dir)
    asked = execution.label if form == "auto" else form
    plan = make_plan(training_jobs(settings, setup), execution, asked=asked)
    fixed_bytes, largest, compile_s, row_s = _bytes(setup.federation.table), 0, 0.0, 0.0
    for player in contestants(settings, setup, plan):
        row_bytes, compiling_s, round_s = _of_contestant(settings, setup, player)
        largest = max(largest, row_bytes)
        compile_s += compiling_s
        row_s += settings.rounds * round_s
    fitting = max(0, min(most, (limit_bytes - fixed_bytes) // max(largest, 1)))
    return Estimate(fitting, fixed_bytes, largest, compile_s, row_s)


def _of_contestant(
    settings: RoundsStudy, setup: RoundsSetup, player: Contestant
) -> tuple[int, float, float]:
    """Bytes of a row, seconds of compilation and seconds of a round, of one contestant."""
    reach = Participation(settings.participation.cohort, settings.participation.drop_out)
    round_ = one_round(player.method, player.execution, reach)
    federation = setup.federation

    def step(state, federation, hparams, index):
        state, report = round_(state, federation, hparams, index)
        scores = {
            view: client_accuracies(predictors, federation, player.execution)
            for view, predictors in player.method.predict(state, federation).items()
        }
        return state, (report, scores)

    started = time.perf_counter()
    state = jax.jit(player.method.init)(federation)
    arguments = state, federation, player.hparams, jnp.int32(1)
    compiled = jax.jit(step).lower(*arguments).compile()
    compile_s = time.perf_counter() - started
    round_s = min(_timed(compiled, arguments) for _ in range(2))
    spent = compiled.memory_analysis()
    people = federation.people
    tables = people.train, people.validation, people.test, people.unlabelled, people.public
    temporaries = int(spent.temp_size_in_bytes) if spent is not None else 0
    clients = math.ceil(_bytes(state.clients) / player.execution.n_devices)
    held = 2 * (clients + _bytes(state.server)) + _bytes(tables)
    return held + temporaries, compile_s, round_s


def _of_dt_kd(
    settings: DtKdStudy, most: int, data_dir: Path | None, execution: Execution, limit_bytes: int
) -> Estimate:
    setup = prepare(settings, execution, data_dir)
    fitting = most
    while fitting and not _fits(settings, setup, execution, limit_bytes // fitting):
        fitting //= 2
    plan = make_plan(training_jobs_of_dt_kd(settings, setup), execution)
    return Estimate(fitting, None, None, None, _seconds_of_dt_kd(settings, setup, plan.trials))


def _fits(settings: DtKdStudy, setup: Setup, execution: Execution, limit_bytes: int) -> bool:
    try:
        dt_kd_memory.require_memory(settings, setup, execution, limit_bytes)
    except StudyTooLarge:
        return False
    return True


def _seconds_of_dt_kd(
    settings: DtKdStudy, setup: Setup, trials: tuple[dict[str, Any], ...]
) -> float | None:
    """Examples to train on, by the examples per second of the trials; None without trials.

    Every student is counted once for each kind of soft labels, as the accuracy table trains them,
    and once more for the chosen ones, which are fewer.
    """
    speeds = {row["job"]: max(row["examples_per_s"].values(), default=0.0) for row in trials}
    held = float(np.asarray(setup.federation.people.train.counts).sum())
    synchronised = float(np.asarray(setup.synchronised).sum())
    teacher = settings.teacher.rounds * settings.teacher.training.epochs * synchronised
    baseline = settings.fedavg.rounds * settings.fedavg.training.epochs * held
    times = len(soft_label_kinds(settings, setup)) + 1
    students = times * settings.distillation.training.epochs * held
    work = {"teacher": teacher, "fedavg": baseline}
    work |= {spec.label: students for spec in settings.students}
    if not all(speeds.values()) or not speeds:
        return None
    slowest = min(speeds.values())  # jobs of equal models share one trial, under another's name
    return sum(examples / speeds.get(job, slowest) for job, examples in work.items())


def _timed(compiled: Any, arguments: tuple[Any, ...]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    return time.perf_counter() - started


def _bytes(tree: Any) -> int:
    return sum(leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
