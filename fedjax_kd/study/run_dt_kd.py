"""The DT-KD study from settings to tables: teacher, accuracy table, decisions, students, prices.

Reads as the algorithm does (see `fedjax_kd.methods.dt_kd`). Each stage reports progress, and its
tables are written as soon as they are known, so that an interrupted run leaves what it had. A run
that goes on in the same folder takes rounds and students from their last checkpoints; what takes
seconds (soft labels, scores, decisions, prices) is computed again, with the same outcome.
"""

from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from fedjax_kd.methods.dt_kd import soft_labels
from fedjax_kd.models import Model
from fedjax_kd.study import dt_kd_assemble as assemble
from fedjax_kd.study import dt_kd_outcomes as costs
from fedjax_kd.study import dt_kd_tables as tables
from fedjax_kd.study.book import Book
from fedjax_kd.study.checkpoint import Keeper, no_keeper
from fedjax_kd.study.dt_kd_learning import (
    Course,
    curve_rows,
    train_fedavg,
    train_teacher,
    training_rates,
)
from fedjax_kd.study.dt_kd_manifest import describe
from fedjax_kd.study.dt_kd_memory import require_memory
from fedjax_kd.study.dt_kd_setup import Setup, prepare
from fedjax_kd.study.dt_kd_students import (
    DEPLOYMENT_STAGE,
    PROFILE_STAGE,
    Scores,
    SoftLabels,
    padding_ratio,
    part_of,
    score_clients,
    train_students,
)
from fedjax_kd.study.folder import ResultFolder
from fedjax_kd.study.hosts import agree_on_content
from fedjax_kd.study.outlet import Outlet, no_outlet
from fedjax_kd.study.plan import Job, Plan, kernels_in_use, make_plan, other_than
from fedjax_kd.study.points import Points, points_of
from fedjax_kd.study.progress import Progress, Stage
from fedjax_kd.study.settings import DtKdStudy, Training
from fedjax_kd.study.timings import Timings, elapsed_s
from fedjax_kd.system import CAUSES
from fedjax_kd.training import Execution, default_execution, for_points
from fedjax_kd.training.processes import meet


def run_study(
    settings: DtKdStudy,
    folder: ResultFolder,
    *,
    progress: Progress,
    data_dir: Path | None = None,
    execution: Execution | None = None,
    form: str = "auto",
    trials: Path | None = None,
    points: Points | None = None,
    keeper: Keeper | None = None,
    outlet: Outlet | None = None,
) -> None:
    """Runs a DT-KD study and writes its results.

    Args:
        settings: the study; of several points, what they share.
        folder: where the results go.
        progress: told how far it is.
        data_dir: where prepared data sets are; None for the default.
        execution: the devices; None takes all.
        form: how the client axis is run: `sequential`, `vmap`, `chunked:WIDTH`, or `auto` by a
            short trial of each architecture. What an interrupted run of the study in this folder
            chose is kept.
        trials: file that keeps the outcomes of trials for other studies; None keeps none.
        points: what runs side by side; one for each seed of the study if not given.
        keeper: keeps checkpoints; None keeps none.
        outlet: where rows go as they come; None writes whole tables only.

    Raises:
        ValueError: before anything is trained, for settings that cannot be met.
        Diverged: if a training loss is not finite; says at which points.
        Stopped: if the run was asked to stop; everything up to there is kept.
    """
    keeper = no_keeper() if keeper is None else keeper
    outlet = no_outlet() if outlet is None else outlet
    points = points_of(settings) if points is None else points
    earlier = folder.read_manifest()
    started = earlier.get("started") or datetime.now(UTC).isoformat(timespec="seconds")
    spent_s = earlier.get("elapsed_s") or {}
    execution = default_execution() if execution is None else execution
    for mesh in (execution, for_points(execution, points.count)):
        meet(mesh)
    with progress.stage("kernels", 1) as stage:  # the first study on a machine compiles them
        stage.advance(1, kernels_in_use())
    with progress.stage("data", 1) as stage:
        setup = prepare(settings, execution, data_dir, points)
        stage.advance(1, f"{settings.data.source}, {len(setup.source.labels)} examples")
    agree_on_content("data", setup.federation)
    folder.write_table("partition.parquet", setup.partition)
    require_memory(settings, setup, execution)
    with progress.stage("execution", 1) as stage:
        recorded = earlier.get("execution")
        jobs = training_jobs(settings, setup)
        plan = make_plan(jobs, execution, asked=form, recorded=recorded, memory=trials)
        stage.advance(1, plan.describe()["form"])
    if changed := other_than(earlier.get("execution"), plan):
        progress.note(f"goes on with {changed}: the last bits of results may differ")
    folder.update_manifest(started=started, **describe(settings, setup, plan))
    labels = [spec.label for spec in settings.students]
    n_clients = setup.federation.people.n_clients

    timings = Timings(folder)
    with progress.stage("teacher", settings.teacher.rounds, "rounds") as stage:
        book = Book(keeper.part("teacher", settings.teacher.rounds), outlet, timings)
        teacher = train_teacher(settings, setup, plan, stage, book)
    metrics = _curve(setup, "teacher", teacher)
    _write_metrics(folder, metrics)
    soft = soft_labels(setup.teacher, teacher.predictor, setup.federation, execution=execution)

    kinds = assemble.soft_label_kinds(settings, setup)
    n_profiled = len(kinds) * len(labels) * n_clients
    with progress.stage("accuracy table", n_profiled, "students") as stage:
        everything = {kind: np.ones((len(labels), n_clients), bool) for kind in kinds}
        profile = _train(
            settings, setup, soft, kinds, PROFILE_STAGE, everything, plan, stage, keeper
        )
    accuracies = assemble.accuracy_frames(setup, labels, "profile", profile)
    folder.write_table("accuracy_table.parquet", pd.concat(accuracies, ignore_index=True))

    with progress.stage("FedAvg baseline", settings.fedavg.rounds, "rounds") as stage:
        smallest = int(np.argmin([p.training_flops for p in setup.profiles]))
        small = setup.students[smallest]
        book = Book(keeper.part("fedavg", settings.fedavg.rounds), outlet, timings)
        fedavg = train_fedavg(settings, setup, small, plan, stage, book)
        everybody = np.ones(n_clients, bool)
        fedavg_scores = score_clients(
            small, fedavg.predictor, setup.federation, everybody, execution
        )
    timings.write()
    metrics += _curve(setup, "fedavg", fedavg)

    with progress.stage("decisions", 2) as stage:
        expected = assemble.expected_accuracy(settings, profile)
        problems = costs.decision_problems(settings, setup, expected)
        decisions = jax.block_until_ready(costs.all_decisions(settings, setup, problems))
        keeper.part("decisions", 1).offer(1, lambda: decisions)
        stage.advance(1, "policies")
        frontier = assemble.frontier_table(settings, setup, problems, profile)
        stage.advance(1, "frontier")
    folder.write_table("frontier.parquet", frontier)
    metrics += assemble.learning_rows(settings, setup, problems, decisions)
    metrics += assemble.study_rows(settings, setup, problems)
    _write_metrics(folder, metrics)

    wanted = assemble.wanted_students(decisions.actions, kinds, profile.kind_at, len(labels))
    n_wanted = sum(int(students.sum()) for students in wanted.values())
    with progress.stage("chosen students", n_wanted, "students") as stage:
        deployed = _train(
            settings, setup, soft, kinds, DEPLOYMENT_STAGE, wanted, plan, stage, keeper
        )
    accuracies += assemble.accuracy_frames(setup, labels, "deployment", deployed)
    folder.write_table("accuracy_table.parquet", pd.concat(accuracies, ignore_index=True))

    with progress.stage("tables", 1) as stage:
        outcomes = assemble.policy_outcomes(
            settings, setup, problems, decisions.actions, profile, deployed
        )
        outcomes["fedavg_smallest"] = assemble.fedavg_outcome(
            settings, setup, problems, smallest, fedavg_scores, fedavg.did
        )
        _write(settings, setup, folder, labels, outcomes, metrics)
        stage.advance(1, f"{len(outcomes)} policies")
    ratios = {
        "teacher": _course_padding(teacher),
        "fedavg": _course_padding(fedavg),
        "accuracy table": _students_padding(settings, setup, plan, everything),
        "chosen students": _students_padding(settings, setup, plan, wanted),
    }
    described = {**plan.describe(), "executed_to_useful_flops": ratios}
    timings.write()
    folder.update_manifest(
        status="complete", execution=described, elapsed_s=elapsed_s(spent_s, progress.stage_seconds)
    )
    for student in range(len(labels)):  # what only the accuracy table was made from
        for name in kinds:
            keeper.drop(part_of(PROFILE_STAGE, student, name))
    keeper.finish()
    outlet.close()


def _train(
    settings: DtKdStudy,
    setup: Setup,
    soft: jax.Array,
    kinds: dict[str, SoftLabels],
    number: int,
    wanted: dict[str, np.ndarray],
    plan: Plan,
    stage: Stage,
    keeper: Keeper,
) -> assemble.StageScores:
    """Trains and scores the wanted students: kind of soft labels -> bool [M, K]."""
    scores: dict[str, list[Scores]] = {name: [] for name in kinds}
    for m, model in enumerate(setup.students):
        execution = plan.of(model, settings.distillation.training.batch_size)
        for name, kind in kinds.items():
            clients = wanted[name][m]
            students = train_students(
                settings, setup, m, soft, kind, number, clients, execution, stage, keeper
            )
            scores[name].append(
                score_clients(model, students, setup.federation, clients, execution)
            )
    return assemble.StageScores(scores, assemble.kind_at(settings))


def _course_padding(course: Course) -> float:
    """Executed over useful floating-point operations of rounds of training."""
    return float(course.did.executed_flops.sum() / course.did.work_flops.sum())


def _students_padding(
    settings: DtKdStudy, setup: Setup, plan: Plan, wanted: dict[str, np.ndarray]
) -> float:
    """The same of students: kind of soft labels -> bool [M, K], as `_train` takes them."""
    batch_size = settings.distillation.training.batch_size
    executed = useful = 0.0
    for m, (model, profile) in enumerate(zip(setup.students, setup.profiles, strict=True)):
        for clients in wanted.values():
            spent, held = padding_ratio(
                setup.federation, batch_size, clients[m], plan.of(model, batch_size)
            )
            executed += spent * profile.training_flops
            useful += held * profile.training_flops
    return executed / useful


def training_jobs(settings: DtKdStudy, setup: Setup) -> list[Job]:
    """The local training that the study is going to do."""
    held = np.asarray(setup.federation.people.train.counts)
    synchronised = np.asarray(setup.synchronised)
    if settings.teacher.mode == "pooled":
        synchronised = synchronised.reshape(setup.points.count, -1).sum(axis=1)
    smallest = int(np.argmin([p.training_flops for p in setup.profiles]))

    def job(label: str, model: Model, training: Training, counts: np.ndarray) -> Job:
        sizes = tuple(int(n) for n in counts)
        return Job(label, model, training.batch_size, sizes, training_rates(training))

    return [
        job("teacher", setup.teacher, settings.teacher.training, synchronised),
        *(
            job(spec.label, model, settings.distillation.training, held)
            for spec, model in zip(settings.students, setup.students, strict=True)
        ),
        job("fedavg", setup.students[smallest], settings.fedavg.training, held),
    ]


def _curve(setup: Setup, scope: str, course: Course) -> list[pd.DataFrame]:
    rounds = np.arange(1, course.accuracy.shape[1] + 1)
    return curve_rows(setup.points.labels, scope, course.accuracy, course.loss, rounds)


def _write_metrics(folder: ResultFolder, metrics: list[pd.DataFrame]) -> None:
    folder.write_table("metrics.parquet", pd.concat(metrics, ignore_index=True))


def _write(
    settings: DtKdStudy,
    setup: Setup,
    folder: ResultFolder,
    labels: list[str],
    outcomes: dict[str, tables.Outcome],
    metrics: list[pd.DataFrame],
) -> None:
    shape = (setup.points.count, settings.data.users)
    samples = np.asarray(setup.federation.people.train.counts).reshape(shape)
    synchronised = np.asarray(setup.synchronised).reshape(shape)
    decisions = tables.decisions_table(outcomes, setup.points.labels, labels, samples, synchronised)
    metrics = [*metrics, tables.policy_metric_rows(outcomes, setup.points.labels)]
    folder.write_table("decisions.parquet", decisions)
    folder.write_table("ledger.parquet", tables.ledger_table(outcomes, setup.points.labels, CAUSES))
    _write_metrics(folder, metrics)
    if len(set(setup.points.labels.point)) == 1:  # else means would be over different settings
        folder.write_table("summary.csv", tables.summary_table(outcomes))
