"""From trained students and decisions to what a DT-KD study reports."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fedjax_kd.methods.contract import RoundReport
from fedjax_kd.methods.dt_kd_decide import Decisions
from fedjax_kd.methods.dt_kd_problem import DecisionProblem
from fedjax_kd.study import dt_kd_outcomes as costs
from fedjax_kd.study import dt_kd_tables as tables
from fedjax_kd.study.dt_kd_setup import Setup
from fedjax_kd.study.dt_kd_students import Scores, SoftLabels
from fedjax_kd.study.settings import DtKdStudy

NO_LABELS, SYNCHRONISED, ALL = "none", "synchronised", "all"
PROPOSED, UNDISTILLED = "q_learning", "no_distillation"


class StageScores(NamedTuple):
    """Accuracies of one training stage.

    Attributes:
        scores: [kind of soft labels][student] -> scores [S, N].
        kind_at: the kind that students at the device and at the server learn from.
    """

    scores: dict[str, list[Scores]]
    kind_at: tuple[str, str]

    def by_action(self, field: str) -> np.ndarray:
        """One field of the scores for every joint action: float [S, N, A]."""
        columns = [getattr(s, field) for kind in self.kind_at for s in self.scores[kind]]
        return np.stack(columns, axis=-1)

    def of(self, field: str, actions: np.ndarray) -> np.ndarray:
        """One field of the scores [S, N] of the students that actions [S, N] chose."""
        return np.take_along_axis(self.by_action(field), actions[..., None], axis=-1)[..., 0]

    def without_teacher(self) -> "StageScores":
        """The same stage as seen by students that learn from hard labels at both places."""
        return self._replace(kind_at=(NO_LABELS, NO_LABELS))


def soft_label_kinds(settings: DtKdStudy, setup: Setup) -> dict[str, SoftLabels]:
    """The kinds of soft labels that some policy's students learn from, by name."""
    counts = {NO_LABELS: jnp.zeros_like(setup.synchronised)}
    counts |= zip(kind_at(settings), costs.labelled_at(settings, setup), strict=True)
    return {name: SoftLabels(name, labelled) for name, labelled in counts.items()}


def kind_at(settings: DtKdStudy) -> tuple[str, str]:
    """The soft labels of a student on the device and of one at the server."""
    whole = settings.twin.synchronised == 1.0 or settings.twin.unsynchronised_labels == "free"
    return (ALL if whole else SYNCHRONISED, ALL)


def wanted_students(
    actions: dict[str, jax.Array],
    kinds: dict[str, SoftLabels],
    at: tuple[str, str],
    n_students: int,
) -> dict[str, np.ndarray]:
    """Which students some policy needs: kind of soft labels -> bool [M, K].

    The undistilled twins of the proposed policy's students are among them.
    """
    flat = {name: np.asarray(chosen).reshape(-1) for name, chosen in actions.items()}
    clients = np.arange(len(flat[PROPOSED]))
    wanted = {kind: np.zeros((n_students, len(clients)), bool) for kind in kinds}
    for chosen in flat.values():
        for place, kind in enumerate(at):
            here = chosen // n_students == place
            wanted[kind][chosen[here] % n_students, clients[here]] = True
    wanted[NO_LABELS][flat[PROPOSED] % n_students, clients] = True
    return wanted


def counted_accuracy(settings: DtKdStudy, personal: np.ndarray, common: np.ndarray) -> np.ndarray:
    """The accuracy that the objective counts, by the setting `objective.accuracy`."""
    if settings.objective.accuracy == "both":
        return 0.5 * (personal + common)
    return personal if settings.objective.accuracy == "personal" else common


def expected_accuracy(settings: DtKdStudy, profile: StageScores) -> np.ndarray:
    """The accuracy table [S, N, A] that decisions are made from: validation splits only."""
    return counted_accuracy(
        settings,
        profile.by_action("accuracy_validation"),
        profile.by_action("accuracy_common_validation"),
    )


def policy_outcomes(
    settings: DtKdStudy,
    setup: Setup,
    problems: DecisionProblem,
    actions: dict[str, jax.Array],
    profile: StageScores,
    deployed: StageScores,
) -> dict[str, tables.Outcome]:
    """What every policy decided, what it cost and what came of it.

    `no_distillation` makes the proposed policy's choices without a teacher.
    """
    chosen = {name: np.asarray(decision) for name, decision in actions.items()}
    distilled = costs.workloads(settings, setup, distilled=True)
    plain = costs.workloads(settings, setup, distilled=False)
    expected = expected_accuracy(settings, profile)
    undistilled = expected_accuracy(settings, profile.without_teacher())
    cases = {
        name: (decision, distilled, expected, deployed, name == costs.EQUAL_SPLIT)
        for name, decision in chosen.items()
    }
    cases[UNDISTILLED] = (chosen[PROPOSED], plain, undistilled, deployed.without_teacher(), False)
    outcomes = {}
    for name, (decision, work, table, reached, equal_split) in cases.items():
        picked = costs.chosen_workload(work, jnp.asarray(decision))
        outcomes[name] = _outcome(
            settings,
            problems,
            costs.price_workload(settings, setup.fleets, picked, equal_split=equal_split),
            action=decision,
            n_students=len(setup.students),
            distilled=name != UNDISTILLED,
            planned=np.take_along_axis(table, decision[..., None], axis=-1)[..., 0],
            personal=reached.of("accuracy_personal", decision),
            common=reached.of("accuracy_common", decision),
        )
    return outcomes


def fedavg_outcome(
    settings: DtKdStudy,
    setup: Setup,
    problems: DecisionProblem,
    smallest: int,
    scores: Scores,
    did: RoundReport,
) -> tables.Outcome:
    """What the FedAvg baseline cost and reached: the smallest student, on every device."""
    work = costs.fedavg_workload(setup, did)
    return _outcome(
        settings,
        problems,
        costs.price_workload(settings, setup.fleets, work),
        action=np.full(scores.accuracy_personal.shape, smallest),
        n_students=len(setup.students),
        distilled=False,
        planned=counted_accuracy(
            settings, scores.accuracy_validation, scores.accuracy_common_validation
        ),
        personal=scores.accuracy_personal,
        common=scores.accuracy_common,
    )


def _outcome(
    settings: DtKdStudy,
    problems: DecisionProblem,
    priced: costs.Priced,
    *,
    action: np.ndarray,
    n_students: int,
    distilled: bool,
    planned: np.ndarray,
    personal: np.ndarray,
    common: np.ndarray,
) -> tables.Outcome:
    reached = counted_accuracy(settings, personal, common)
    return tables.Outcome(
        student=action % n_students,
        place=action // n_students,
        distilled=distilled,
        accuracy_table=planned,
        accuracy_personal=personal,
        accuracy_common=common,
        server_flops_per_s=np.asarray(priced.solution.server_flops_per_s),
        uplink_hz=np.asarray(priced.solution.uplink_hz),
        downlink_hz=np.asarray(priced.solution.downlink_hz),
        utility=costs.utilities(problems, reached, priced.delay_s),
        utility_planned=costs.utilities(problems, planned, priced.delay_s),
        **{name: np.asarray(v, np.float64) for name, v in priced.ledger._asdict().items()},
    )


def frontier_table(
    settings: DtKdStudy, setup: Setup, problems: DecisionProblem, profile: StageScores
) -> pd.DataFrame:
    """Accuracy against delay as the delay weight grows, for Q-learning and the greedy policy.

    Decisions are made from the validation splits; the accuracy reported is that of the same,
    already trained students of the accuracy table on the test splits.
    """
    weights = np.asarray(settings.objective.frontier_weights, np.float64)
    work = costs.workloads(settings, setup, distilled=True)
    frames = []
    for policy, decisions in costs.frontier_decisions(settings, setup, problems, weights).items():
        for weight, actions in zip(weights, decisions, strict=True):
            picked = np.asarray(actions)
            priced = costs.price_workload(
                settings, setup.fleets, costs.chosen_workload(work, actions)
            )
            reached = counted_accuracy(
                settings,
                profile.of("accuracy_personal", picked),
                profile.of("accuracy_common", picked),
            )
            weighted = replace(
                problems, delay_weight=jnp.full_like(problems.delay_weight, float(weight))
            )
            frames.append(
                pd.DataFrame(
                    {
                        **setup.points.labels.columns(1),
                        "policy": policy,
                        "delay_weight": weight,
                        "accuracy": reached.mean(axis=1),
                        "delay_s": np.asarray(priced.delay_s, np.float64),
                        "utility": costs.utilities(weighted, reached, priced.delay_s),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def accuracy_frames(
    setup: Setup, students: Sequence[str], stage: str, scores: StageScores
) -> list[pd.DataFrame]:
    """Rows of accuracy_table.parquet; students that were not trained in the stage have none."""
    frames = []
    for kind, scored in scores.scores.items():
        for name, student in zip(students, scored, strict=True):
            frame = tables.accuracy_frame(setup.points.labels, name, kind, stage, student._asdict())
            frames.append(frame[frame.accuracy_personal.notna()])
    return frames


def learning_rows(
    settings: DtKdStudy, setup: Setup, problems: DecisionProblem, decisions: Decisions
) -> list[pd.DataFrame]:
    """The course of Q-learning, and the optimum where it is known, as rows of metrics.parquet."""
    trace = decisions.trace
    episodes = np.asarray(trace.episode)[0]
    rows = [
        tables.metric_rows(setup.points.labels, PROPOSED, name, getattr(trace, name), episodes)
        for name in ("episode_utility", "best_utility", "greedy_utility")
    ]
    if "exhaustive" in decisions.actions:
        optimum = costs.planned_utilities(settings, problems, decisions.actions["exhaustive"])
        rows.append(
            tables.metric_rows(setup.points.labels, "exhaustive", "utility", optimum, np.zeros(1))
        )
    return rows


def study_rows(settings: DtKdStudy, setup: Setup, problems: DecisionProblem) -> list[pd.DataFrame]:
    """Constants of each seed's instance: the teacher's training delay and the reference delay."""
    synchronised = np.asarray(setup.synchronised, np.float64).reshape(setup.points.count, -1)
    epochs = settings.teacher.rounds * settings.teacher.training.epochs
    work_flops = setup.teacher_profile.training_flops * synchronised.sum(axis=1) * epochs
    constants = {
        "teacher_training_s": work_flops / np.asarray(setup.fleets.server_flops_per_s, np.float64),
        "teacher_training_flops": work_flops,
        "reference_delay_s": np.asarray(problems.reference_delay_s, np.float64),
    }
    return [
        tables.metric_rows(setup.points.labels, "study", name, values, np.zeros(1))
        for name, values in constants.items()
    ]
