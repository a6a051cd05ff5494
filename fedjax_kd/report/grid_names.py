"""What settings, scopes and quantities of a comparison are called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from fedjax_kd.report.grid_results import RUN, Comparison
from fedjax_kd.report.names import Kind, policy_name
from fedjax_kd.report.rounds_names import VIEWS

POLICY = "policy/"


class Quantity(NamedTuple):
    """A number of one scope, point and seed."""

    key: str
    title: str
    kind: Kind
    high: bool  # whether more is better


QUANTITIES = (
    Quantity("personal_best", "Personal, best", "fraction", True),
    Quantity("personal_last", "Personal, last", "fraction", True),
    Quantity("worst_decile_last", "Personal, worst decile, last", "fraction", True),
    Quantity("common_best", "Common, best", "fraction", True),
    Quantity("common_last", "Common, last", "fraction", True),
    Quantity("delay_s", "Simulated time", "seconds", False),
    Quantity("energy_j", "Energy", "joules", False),
    Quantity("bits", "Traffic", "bits", False),
    Quantity("flops", "Work", "flops", False),
    Quantity("utility", "U", "utility", True),
)
COST_QUANTITIES = tuple(each for each in QUANTITIES if each.key in ("delay_s", "energy_j", "bits"))


def quantity(key: str) -> Quantity:
    """The quantity of a key."""
    return next(each for each in QUANTITIES if each.key == key)


def scope_title(comparison: Comparison, scope: str) -> str:
    """A policy, or a contestant with its view where that is not the main one."""
    if scope.startswith(POLICY):
        return policy_name(scope.removeprefix(POLICY))
    name, _, view = scope.partition("/")
    title = comparison.titles.get(name, name.replace("_", " "))
    if not view:
        return title
    return f"{title} ({VIEWS[view][1] if view in VIEWS else view.replace('_', ' ')})"


def axis_names(axes: Sequence[str]) -> dict[str, str]:
    """Short names of settings' paths: their last part, and the one before where that is shared."""
    names = {}
    for axis in axes:
        parts = axis.split(".")
        deep = 1
        while (
            deep < len(parts)
            and sum(other.split(".")[-deep:] == parts[-deep:] for other in axes) > 1
        ):
            deep += 1
        names[axis] = " ".join(parts[-deep:]).replace("_", " ")
    return names


def value_text(value: Any, most: int = 48) -> str:
    """A setting's value in short."""
    text = _value_text(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(_value_text(each) for each in value) or "none"
    if isinstance(value, dict):
        inner = ", ".join(f"{k} {_value_text(v)}" for k, v in value.items() if k != "kind")
        kind = str(value.get("kind", "")).replace("_", " ")
        return f"{kind} ({inner})" if kind and inner else kind or inner
    return str(value)


def axis_values(comparison: Comparison, axis: str) -> list[Any]:
    """The values of an axis: numbers in order, others as they come first."""
    found = {value_key(value): value for value in comparison.points[axis]}
    values = list(found.values())
    return sorted(values) if numeric(values) else values


def numeric(values: Sequence[Any]) -> bool:
    """Whether all are numbers."""
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def value_key(value: Any) -> str:
    """What tells values apart: equal ones, and 1 and 1.0, have the same."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(float(value))
    return json.dumps(value, sort_keys=True, default=str)


def setting_text(comparison: Comparison, point: int, axes: Sequence[str]) -> str:
    """A point's values of some axes, e.g. `learning rate 0.1, run a`."""
    names = axis_names(comparison.axes)
    parts = []
    for axis in axes:
        value = value_text(comparison.points[axis][point])
        parts.append(value if axis == RUN else f"{names[axis]} {value}")
    return ", ".join(parts) or "as given"
