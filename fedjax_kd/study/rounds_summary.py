"""The summary of a study in rounds: one row per contestant and view, with intervals."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from fedjax_kd.statistics import mean_interval
from fedjax_kd.study.dt_kd_tables import worst_decile
from fedjax_kd.study.rounds_tables import COSTS, SCOPES, Course

SHARE_OF_BEST = 0.9  # of the proposed method's best accuracy, to which ways are compared
SHARES_OF_TOP = (0.8, 0.9)  # of the best accuracy of all, where no method is proposed


def summary_table(courses: Sequence[Course], proposed: str | None, scope: str) -> pd.DataFrame:
    """Means over the seeds, and half the width of their 95 % t intervals (empty for one seed).

    What it took to reach a mark (90 % of the proposed method's best accuracy, or 80 and 90 % of the
    best of all) is empty where a contestant did not get there in every seed: a mean over the seeds
    that did would flatter it.

    Args:
        courses: of the contestants that finished.
        proposed: name of the contestant whose main view sets the mark, seed by seed; without it
            among the courses there is no mark. With None the best main view of all sets it.
        scope: the accuracy that the mark is about, `personal` or `common`.
    """
    setting = [course for course in courses if proposed in (None, course.name)]
    shares = SHARES_OF_TOP if proposed is None else (SHARE_OF_BEST,)
    best = [course.mean_accuracy(scope, course.views[0]).max(axis=0) for course in setting]
    marks = {round(100 * share): share * np.max(best, axis=0) if best else None for share in shares}
    rows = []
    for course in courses:
        for view in course.views:
            row: dict[str, object] = {"contestant": course.name, "view": view}
            for metric, values in _figures(course, view, scope, marks):
                mean, _, high = mean_interval(values)
                row |= {metric: mean, f"{metric}_half": high - mean}
            rows.append(row)
    return pd.DataFrame(rows)


def _figures(
    course: Course, view: str, scope: str, marks: dict[int, np.ndarray | None]
) -> Iterator[tuple[str, np.ndarray]]:
    """Every metric with its values [S]; the marks [S] go by their per cent."""
    for name in SCOPES:
        means = course.mean_accuracy(name, view)
        last = course.accuracy(name, view)[-1].astype(np.float64)
        yield f"accuracy_{name}_best", means.max(axis=0)
        yield f"accuracy_{name}_last", means[-1]
        if name == "personal":
            yield "accuracy_personal_std_last", last.std(axis=-1)
            yield "accuracy_personal_worst_decile_last", worst_decile(last)
    spent = {name: np.cumsum(course.costs[name], axis=0, dtype=np.float64) for name in COSTS}
    for name in COSTS:
        yield name, spent[name][-1]
    for per_cent, mark in marks.items():
        rounds = _rounds_to(course, view, scope, mark)
        yield f"rounds_to_{per_cent}", rounds
        points = np.arange(len(rounds))
        for name in ("delay_s", "energy_j", "bits"):
            there = spent[name][np.nan_to_num(rounds, nan=1).astype(int) - 1, points]
            yield f"{name}_to_{per_cent}", np.where(np.isnan(rounds), np.nan, there)


def _rounds_to(course: Course, view: str, scope: str, mark: np.ndarray | None) -> np.ndarray:
    """The first evaluated round [S] that reached the mark; all NaN unless every seed did."""
    means = course.mean_accuracy(scope, view)
    if mark is None:
        return np.full(means.shape[1], np.nan)
    reached = means >= mark
    if not reached.any(axis=0).all():
        return np.full(means.shape[1], np.nan)
    return course.evaluated[reached.argmax(axis=0)].astype(np.float64)
