"""The DT-KD study from settings to tables: teacher, accuracy table, decisions, students, prices.

Reads as the algorithm does (see `fedjax_kd.methods.dt_kd`). Each stage reports progress, and its
tables are written as soon as they are known, so that an interrupted run leaves what it had.
"""

from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from fedjax_kd.methods.dt_kd import soft_labels
from fedjax_kd.study import dt_kd_assemble as assemble
from fedjax_kd.study import dt_kd_outcomes as costs
from fedjax_kd.study import dt_kd_tables as tables
from fedjax_kd.study.dt_kd_learning import (
    DEPLOYMENT_STAGE,
    PROFILE_STAGE,
    Course,
    Scores,
    SoftLabels,
    score_clients,
    train_fedavg,
    train_students,
    train_teacher,
)
from fedjax_kd.study.dt_kd_manifest import describe
from fedjax_kd.study.dt_kd_setup import Setup, prepare
from fedjax_kd.study.folder import ResultFolder
from fedjax_kd.study.progress import Progress, Stage
from fedjax_kd.study.settings import DtKdStudy
from fedjax_kd.system import CAUSES
from fedjax_kd.training import Execution, default_execution


def run_study(
    settings: DtKdStudy,
    folder: ResultFolder,
    *,
    progress: Progress,
    data_dir: Path | None = None,
    execution: Execution | None = None,
) -> None:
    """Runs a DT-KD study and writes its results.

    Args:
        settings: the study.
        folder: where the results go.
        progress: told how far it is.
        data_dir: where prepared data sets are; None for the default.
        execution: how the client axis is run; None chooses by platform.

    Raises:
        ValueError: before anything is trained, for settings that cannot be met.
        FloatingPointError: if a training loss is not finite; says where.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    execution = default_execution() if execution is None else execution
    with progress.stage("data", 1) as stage:
        setup = prepare(settings, execution, data_dir)
        stage.advance(1, f"{settings.data.source}, {len(setup.source.labels)} examples")
    folder.write_table("partition.parquet", setup.partition)
    folder.update_manifest(started=started, **describe(settings, setup, execution))
    labels = [spec.label for spec in settings.students]
    n_clients = setup.federation.people.n_clients

    with progress.stage("teacher", settings.teacher.rounds) as stage:
        teacher = train_teacher(
            settings, setup.teacher, setup.federation, setup.synchronised, execution, stage
        )
    metrics = _curve(settings, "teacher", teacher)
    _write_metrics(folder, metrics)
    soft = soft_labels(setup.teacher, teacher.predictor, setup.federation, execution=execution)

    kinds = assemble.soft_label_kinds(settings, setup)
    with progress.stage("accuracy table", len(kinds) * len(labels) * n_clients) as stage:
        wanted = {kind: np.ones((len(labels), n_clients), bool) for kind in kinds}
        profile = _train(settings, setup, soft, kinds, PROFILE_STAGE, wanted, execution, stage)
    accuracies = assemble.accuracy_frames(settings, labels, "profile", profile)
    folder.write_table("accuracy_table.parquet", pd.concat(accuracies, ignore_index=True))

    with progress.stage("FedAvg baseline", settings.fedavg.rounds) as stage:
        smallest = int(np.argmin([p.training_flops for p in setup.profiles]))
        small = setup.students[smallest]
        fedavg = train_fedavg(settings, small, setup.federation, execution, stage)
        everybody = np.ones(n_clients, bool)
        fedavg_scores = score_clients(
            small, fedavg.predictor, setup.federation, everybody, execution
        )
    metrics += _curve(settings, "fedavg", fedavg)

    with progress.stage("decisions", 2) as stage:
        expected = assemble.expected_accuracy(settings, profile)
        problems = costs.decision_problems(settings, setup, expected)
        decisions = jax.block_until_ready(costs.all_decisions(settings, setup, problems))
        stage.advance(1, "policies")
        frontier = assemble.frontier_table(settings, setup, problems, profile)
        stage.advance(1, "frontier")
    folder.write_table("frontier.parquet", frontier)
    metrics += assemble.learning_rows(settings, problems, decisions)
    metrics += assemble.study_rows(settings, setup, problems)
    _write_metrics(folder, metrics)

    wanted = assemble.wanted_students(decisions.actions, kinds, profile.kind_at, len(labels))
    n_wanted = sum(int(students.sum()) for students in wanted.values())
    with progress.stage("chosen students", n_wanted) as stage:
        deployed = _train(settings, setup, soft, kinds, DEPLOYMENT_STAGE, wanted, execution, stage)
    accuracies += assemble.accuracy_frames(settings, labels, "deployment", deployed)
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
    folder.update_manifest(status="complete", elapsed_s=dict(progress.stage_seconds))


def _train(
    settings: DtKdStudy,
    setup: Setup,
    soft: jax.Array,
    kinds: dict[str, SoftLabels],
    number: int,
    wanted: dict[str, np.ndarray],
    execution: Execution,
    stage: Stage,
) -> assemble.StageScores:
    """Trains and scores the wanted students: kind of soft labels -> bool [M, K]."""
    scores: dict[str, list[Scores]] = {name: [] for name in kinds}
    for m, model in enumerate(setup.students):
        for name, kind in kinds.items():
            clients = wanted[name][m]
            students = train_students(
                settings, model, setup.federation, soft, kind, number, clients, execution, stage
            )
            scores[name].append(
                score_clients(model, students, setup.federation, clients, execution)
            )
    return assemble.StageScores(scores, assemble.kind_at(settings))


def _curve(settings: DtKdStudy, scope: str, course: Course) -> list[pd.DataFrame]:
    rounds = np.arange(1, course.accuracy.shape[1] + 1)
    return [
        tables.metric_rows(settings.seeds, scope, "accuracy_common", course.accuracy, rounds),
        tables.metric_rows(settings.seeds, scope, "loss", course.loss, rounds),
    ]


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
    shape = (len(settings.seeds), settings.data.users)
    samples = np.asarray(setup.federation.people.train.counts).reshape(shape)
    synchronised = np.asarray(setup.synchronised).reshape(shape)
    decisions = tables.decisions_table(outcomes, settings.seeds, labels, samples, synchronised)
    metrics = [*metrics, tables.policy_metric_rows(outcomes, settings.seeds)]
    folder.write_table("decisions.parquet", decisions)
    folder.write_table("ledger.parquet", tables.ledger_table(outcomes, settings.seeds, CAUSES))
    _write_metrics(folder, metrics)
    folder.write_table("summary.csv", tables.summary_table(outcomes))
