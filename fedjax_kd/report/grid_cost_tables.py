"""Tables of a comparison about costs: settings on a front, and what reaching an accuracy took."""

from __future__ import annotations

from collections.abc import Sequence

from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.grid_courses import AGAINST
from fedjax_kd.report.grid_fronts import fronts
from fedjax_kd.report.grid_names import scope_title, setting_text
from fedjax_kd.report.grid_statistics import NOTHING
from fedjax_kd.report.grid_table_files import Entry, GridTable, estimated, words
from fedjax_kd.report.grid_tables import who
from fedjax_kd.report.grid_targets import Reached, Target, cheapest, reached
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.numbers import Scale, scale_for

_PERCENT = scale_for("fraction", [1.0])
_FRONT = ("cost", "scope", "point", "setting", "accuracy", "value")
_TARGET = ("target", "scope", "point", "setting", "chosen_by", "seeds", "seeds_there")


def front_table(findings: Findings) -> GridTable:
    """Settings that no other beats in accuracy and one cost."""
    rows, full = [], {name: [] for name in _FRONT}
    for each in fronts(findings):
        for line in each.frame[each.frame["front"]].to_dict("records"):
            scope, point, accuracy, cost = (
                line[name] for name in ("scope", "point", "accuracy", "cost")
            )
            setting = setting_text(findings.comparison, point, findings.naming_axes(scope))
            row = [words(each.cost.title), words(scope_title(findings.comparison, scope))]
            row += [words(setting), Entry(_PERCENT.text(accuracy), accuracy, number=True)]
            written = scale_for(each.cost.kind, [cost]).with_unit(cost)
            rows.append([*row, Entry(written, cost, number=True)])
            values = (each.cost.key, scope, point, setting, accuracy, cost)
            for name, value in zip(_FRONT, values, strict=True):
                full[name].append(value)
    head = ["Against", who(findings), "Setting", "Accuracy, last [%]", "Cost"]
    return GridTable("fronts", "What is on a front", head, rows, full, folded=True)


def target_table(findings: Findings, targets: Sequence[Target]) -> GridTable:
    """What reaching each target took: at the best setting, and at the one with fewest rounds.

    Raises:
        NothingToShow: nothing has rounds.
    """
    if findings.only_policies:
        raise NothingToShow("Policies are evaluated once, so there is no way to an accuracy.")
    found = [
        each
        for target in targets
        for scope in findings.main_scopes
        for each in _ways(findings, scope, target)
    ]
    if not found:
        raise NothingToShow("The results hold no accuracies over the rounds.")
    known = [a for a in AGAINST if any(a.key in each.costs for each, _ in found)]
    scales: dict[str, Scale] = {}
    for a in known:
        costs = [each.costs[a.key].value for each, _ in found if a.key in each.costs]
        scales[a.key] = scale_for(a.kind, [cost for cost in costs if cost > 0])
    head = ["Target", "Contestant", "Setting", "Which has", "Seeds that got there"]
    for a in known:
        head.append(f"{a.title} [{scales[a.key].unit}]" if scales[a.key].unit else a.title)
    columns = [*_TARGET, *(f"{a.key}{end}" for a in known for end in ("", "_low", "_high"))]
    rows, full = [], {name: [] for name in columns}
    for each, why in found:
        setting = setting_text(findings.comparison, each.point, findings.naming_axes(each.scope))
        row = [Entry(each.target.name, each.target.accuracy)]
        row += [words(scope_title(findings.comparison, each.scope)), words(setting), words(why)]
        row.append(Entry(f"{each.there} of {each.seeds}", each.there, number=True))
        row += [estimated(each.costs.get(a.key, NOTHING), scales[a.key]) for a in known]
        rows.append(row)
        values = [each.target.accuracy, each.scope, each.point, setting, why]
        values += [each.seeds, each.there]
        values += [value for a in known for value in each.costs.get(a.key, NOTHING)[:3]]
        for name, value in zip(columns, values, strict=True):
            full[name].append(value)
    return GridTable("cost-to-target", "Cost to target", head, rows, full)


def _ways(findings: Findings, scope: str, target: Target) -> list[tuple[Reached, str]]:
    """What is said of one scope and target, with why that setting was chosen."""
    best, least = findings.best_of(scope), cheapest(findings, scope, target)
    if best is None:
        return []
    several = best.settings > 1
    chosen = {best.point: "highest accuracy" if several else "only one"}
    if least is not None and several:
        both = f"{chosen[best.point]}, fewest rounds"
        chosen[least] = both if least == best.point else "fewest rounds"
    ways = [(reached(findings, scope, point, target), why) for point, why in chosen.items()]
    return [(way, why) for way, why in ways if way is not None]
