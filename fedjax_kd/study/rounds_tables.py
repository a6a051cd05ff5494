"""The tables of a study in rounds: host arrays in, data frames out; nothing runs on a device."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from fedjax_kd.study.dt_kd_tables import worst_decile
from fedjax_kd.study.points import Labels

SCOPES = ("personal", "common")
COSTS = ("delay_s", "energy_j", "bits", "flops")
SERVER = -1  # the user number of the server in the ledger


class Course(NamedTuple):
    """What one contestant came to, over S seeds, N users and R rounds, of which E were evaluated.

    Attributes:
        name: of the contestant.
        views: names of what was evaluated, the main view first.
        evaluated: int [E], round numbers from 1.
        personal: view -> float [E, S, N], accuracy on the users' own test splits.
        common: view -> float [E, S, N], accuracy on the common test set.
        loss: float [R, S], mean training loss over the users that trained; NaN where nobody did.
        costs: name of `COSTS` -> float [R, S], of every round by itself.
        phases: names of the phases of a round.
        causes: names of what costs something.
        ledger: name of `COSTS` -> float [S, N + 1, phases, causes], summed over the rounds; the
            server comes last.
        special: name -> float [R, S] or [R, S, N], what the method reported beside.
        mixing: float [S, N, d], mixing vectors after the last round; None for other methods.
    """

    name: str
    views: tuple[str, ...]
    evaluated: np.ndarray
    personal: dict[str, np.ndarray]
    common: dict[str, np.ndarray]
    loss: np.ndarray
    costs: dict[str, np.ndarray]
    phases: tuple[str, ...]
    causes: tuple[str, ...]
    ledger: dict[str, np.ndarray]
    special: dict[str, np.ndarray]
    mixing: np.ndarray | None = None

    def accuracy(self, scope: str, view: str) -> np.ndarray:
        """Accuracy [E, S, N] of a view; `scope` is one of `SCOPES`."""
        return (self.personal if scope == "personal" else self.common)[view]

    def mean_accuracy(self, scope: str, view: str) -> np.ndarray:
        """The mean over the users, [E, S]."""
        return self.accuracy(scope, view).astype(np.float64).mean(axis=-1)


def metrics_table(courses: Sequence[Course], labels: Labels) -> pd.DataFrame:
    """Frame of metrics.parquet, in long form: one row per point, round, scope and metric.

    The scope is the contestant, or `contestant/view` for all but its main view. Accuracies and
    losses stand at the rounds that were evaluated; what it has cost since the start, at every one.
    """
    frames = []
    for course in courses:
        for view in course.views:
            scope = scope_of(course.name, view, course.views)
            loss = course.loss[course.evaluated - 1] if view == course.views[0] else None
            personal, common = course.personal[view], course.common[view]
            frames.append(accuracy_rows(scope, labels, course.evaluated, personal, common, loss))
        rounds = np.arange(1, len(course.loss) + 1)
        for name in COSTS:
            totals = np.cumsum(course.costs[name], axis=0, dtype=np.float64)
            frames.append(_by_round(totals, labels, rounds, course.name, name))
    return pd.concat(frames, ignore_index=True)


def accuracy_rows(
    scope: str,
    labels: Labels,
    rounds: np.ndarray,
    personal: np.ndarray,
    common: np.ndarray,
    loss: np.ndarray | None = None,
) -> pd.DataFrame:
    """Rows of metrics.parquet of one view at some evaluated rounds.

    Args:
        scope: as the rows have it.
        labels: of S points.
        rounds: int [E], from 1.
        personal: float [E, S, N], accuracy on the users' own test splits.
        common: float [E, S, N], accuracy on the common test set.
        loss: float [E, S], mean training loss; NaN, which is left out, where nobody trained.
    """
    personal, common = (np.asarray(values, np.float64) for values in (personal, common))
    metrics = {
        "accuracy_personal": personal.mean(axis=-1),
        "accuracy_personal_worst_decile": worst_decile(personal),
        "accuracy_common": common.mean(axis=-1),
    }
    if loss is not None:
        metrics["loss"] = loss
    frames = [_by_round(values, labels, rounds, scope, name) for name, values in metrics.items()]
    return pd.concat(frames, ignore_index=True)


def scope_of(contestant: str, view: str, views: Sequence[str]) -> str:
    """What rows of metrics.parquet call a contestant's view; the main view is views[0]."""
    return contestant if view == views[0] else f"{contestant}/{view}"


def clients_table(
    courses: Sequence[Course],
    labels: Labels,
    user_models: Sequence[str],
    strong: Sequence[bool],
) -> pd.DataFrame:
    """One row per contestant, view, seed and user: accuracies at the end and at the best round.

    The best round of a seed is the one where the mean over the users is highest, the first of
    several.
    """
    frames = []
    for course in courses:
        for view in course.views:
            last, best = {}, {}
            for scope in SCOPES:
                values = course.accuracy(scope, view).astype(np.float64)
                at_best = course.mean_accuracy(scope, view).argmax(axis=0)
                last[f"accuracy_{scope}_last"] = values[-1].ravel()
                best[f"accuracy_{scope}_at_best"] = values[
                    at_best, np.arange(len(labels.seed))
                ].ravel()
            n_users = len(user_models)
            frames.append(
                pd.DataFrame(
                    {
                        **labels.columns(n_users),
                        "contestant": course.name,
                        "view": view,
                        "user": np.tile(np.arange(n_users), len(labels.seed)),
                        "model": np.tile(np.asarray(user_models, object), len(labels.seed)),
                        "strong": np.tile(np.asarray(strong, bool), len(labels.seed)),
                        **last,
                        **best,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def ledger_table(courses: Sequence[Course], labels: Labels) -> pd.DataFrame:
    """One row per contestant, seed, user, phase and cause: sums over the rounds."""
    frames = []
    for course in courses:
        _, n_rows, n_phases, n_causes = course.ledger[COSTS[0]].shape
        users = np.append(np.arange(n_rows - 1), SERVER)
        each = n_phases * n_causes
        phases = np.repeat(np.asarray(course.phases, object), n_causes)
        causes = np.tile(np.asarray(course.causes, object), n_phases)
        frames.append(
            pd.DataFrame(
                {
                    **labels.columns(n_rows * each),
                    "contestant": course.name,
                    "user": np.tile(np.repeat(users, each), len(labels.seed)),
                    "phase": np.tile(phases, len(labels.seed) * n_rows),
                    "cause": np.tile(causes, len(labels.seed) * n_rows),
                    **{name: np.asarray(course.ledger[name], np.float64).ravel() for name in COSTS},
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def special_table(courses: Sequence[Course], labels: Labels) -> pd.DataFrame:
    """One row per contestant, seed, round, name and index: what only one method has to say.

    The index is the user's number, or 0 for what there is one of.
    """
    columns = ("point", "seed", "contestant", "round", "name", "index", "value")
    frames = [pd.DataFrame({column: [] for column in columns})]
    for course in courses:
        for name, values in course.special.items():
            values = np.asarray(values, np.float64)
            values = values[..., None] if values.ndim == 2 else values
            rounds, _, length = values.shape
            frame = {
                **labels.columns(rounds * length),
                "contestant": course.name,
                "round": np.tile(np.repeat(np.arange(1, rounds + 1), length), len(labels.seed)),
                "name": name,
                "index": np.tile(np.arange(length), len(labels.seed) * rounds),
                "value": values.swapaxes(0, 1).ravel(),
            }
            frames.append(pd.DataFrame(frame))
    return pd.concat(frames[1:] or frames, ignore_index=True)


def mixing_table(courses: Sequence[Course], labels: Labels) -> pd.DataFrame | None:
    """One row per contestant, seed, user and feature; None where nobody mixes features."""
    frames = []
    for course in courses:
        if course.mixing is None:
            continue
        _, n_users, features = course.mixing.shape
        frames.append(
            pd.DataFrame(
                {
                    **labels.columns(n_users * features),
                    "contestant": course.name,
                    "user": np.tile(np.repeat(np.arange(n_users), features), len(labels.seed)),
                    "feature": np.tile(np.arange(features), len(labels.seed) * n_users),
                    "value": np.asarray(course.mixing, np.float64).ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else None


def _by_round(
    values: np.ndarray, labels: Labels, rounds: np.ndarray, scope: str, metric: str
) -> pd.DataFrame:
    """Rows of one metric [E, S] at the given rounds [E]; values that are not there have none."""
    return pd.DataFrame(
        {
            **labels.columns(len(rounds)),
            "round": np.tile(np.asarray(rounds, np.int64), len(labels.seed)),
            "scope": scope,
            "metric": metric,
            "value": np.asarray(values, np.float64).T.ravel(),
        }
    ).dropna(subset="value")
