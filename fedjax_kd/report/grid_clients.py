"""The users of a comparison, at the best setting of each scope."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.grid_names import scope_title, setting_text
from fedjax_kd.report.grid_table_files import Entry, GridTable, whole, words
from fedjax_kd.report.grid_tables import who
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.tables import Frame

_FIGURES = ("mean", "median", "worst_decile", "best_decile", "std")
_COLUMNS = ("scope", "point", "setting", "users", *_FIGURES)


def client_scores(findings: Findings) -> dict[str, Frame]:
    """Users' counted accuracies after the last round, by scope: columns `seed, user, accuracy`.

    Raises:
        NothingToShow: there are none.
    """
    clients = findings.comparison.clients
    column = f"accuracy_{findings.counted}"
    found = {}
    for best in findings.best:
        rows = clients[(clients["scope"] == best.scope) & (clients["point"] == best.point)]
        rows = rows[["seed", "user", column]].rename(columns={column: "accuracy"}).dropna()
        if len(rows):
            found[best.scope] = rows
    if not found:
        raise NothingToShow("The results hold no accuracies of the single users.")
    return found


def clients_table(findings: Findings) -> GridTable:
    """How the users fare at the best setting of each scope: means over the seeds."""
    percent = scale_for("fraction", [1.0])
    head = [who(findings), "Setting", "Users", "Mean [%]", "Median [%]", "Worst decile [%]"]
    head += ["Best decile [%]", "Standard deviation [points]"]
    rows, full = [], {name: [] for name in _COLUMNS}
    for best in findings.best:
        people = client_scores(findings).get(best.scope)
        if people is None:
            continue
        setting = setting_text(findings.comparison, best.point, findings.naming_axes(best.scope))
        by_seed = [group["accuracy"].to_numpy(float) for _, group in people.groupby("seed")]
        spread: Frame = pd.DataFrame([spread_of(values) for values in by_seed]).mean()
        users = int(people["user"].nunique())
        row = [words(scope_title(findings.comparison, best.scope)), words(setting), whole(users)]
        row += [Entry(percent.text(spread[n]), float(spread[n]), number=True) for n in _FIGURES]
        rows.append(row)
        values = (best.scope, best.point, setting, users, *(float(spread[n]) for n in _FIGURES))
        for name, value in zip(_COLUMNS, values, strict=True):
            full[name].append(value)
    return GridTable("users", "Users at the best settings", head, rows, full)


def spread_of(values: np.ndarray) -> dict[str, float]:
    """How one seed's users [N] are spread; a decile is at least one user."""
    ordered = np.sort(values)
    tenth = max(1, int(np.ceil(len(ordered) / 10)))
    return {
        "mean": float(ordered.mean()),
        "median": float(np.median(ordered)),
        "worst_decile": float(ordered[:tenth].mean()),
        "best_decile": float(ordered[-tenth:].mean()),
        "std": float(ordered.std()),
    }
