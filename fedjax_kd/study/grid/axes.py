"""The axes of a grid: which settings change together, and through which values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fedjax_kd.study.problems import shown, unknown_setting

FORMS = ("product", "zip", "list")
_ELSEWHERE = {
    "seeds": "the key `seeds` of the grid, beside `grid`",
    "method": "a list of files at `study`, one for each method",
}


class Axis(NamedTuple):
    """Settings that change together.

    Attributes:
        paths: the settings, in the order of the file.
        steps: changes, path -> value; a step of a list may leave paths out.
    """

    paths: tuple[str, ...]
    steps: tuple[Mapping[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """The axis as an item of a grid file."""
        return {"list": [dict(step) for step in self.steps]}


def axes_of(given: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> tuple[list[Axis], list[str]]:
    """Reads the `grid` of a grid file.

    Args:
        given: a section, which is the product of its axes, or items of the forms `product`, `zip`
            and `list`.

    Returns:
        The axes, and what is wrong with them.
    """
    axes: list[Axis] = []
    problems: list[str] = []
    if not isinstance(given, Mapping):
        items = [(f"grid.{place}", item) for place, item in enumerate(given)]
    elif set(given) & set(FORMS):
        items = [("grid", given)]
    else:
        items = []
        axes, problems = _product(given, "grid") if given else ([], [])
    for where, item in items:
        if len(item) != 1 or not set(item) <= set(FORMS):
            found = ", ".join(map(str, item)) or "an empty section"
            problems.append(f"{where}: found {found}; allowed: one of {' | '.join(FORMS)}")
            continue
        ((form, content),) = item.items()
        read = {"product": _product, "zip": _zip, "list": _list}[form]
        new, wrong = read(content, f"{where}.{form}")
        axes += new
        problems += wrong
    problems += _overlapping(axes)
    return axes, problems


def path_problems(path: str, roots: Sequence[type]) -> list[str]:
    """What is wrong with a path that is to be changed.

    Args:
        path: dotted.
        roots: the types of the grid's studies, one of which has to know it.
    """
    first = path.split(".")[0]
    if first in _ELSEWHERE:
        return [f"{path}: cannot be changed here; use {_ELSEWHERE[first]}"]
    problems = [unknown_setting(path, root) for root in dict.fromkeys(roots)]
    return [problems[0]] if all(problems) and problems[0] else []


def repeated(where: str, values: Iterable[Any]) -> list[str]:
    """A line for each value that stands more than once."""
    texts = Counter(json.dumps(value, sort_keys=True, default=str) for value in values)
    return [
        f"{where}: found {text} {count} times; allowed: values that differ"
        for text, count in texts.items()
        if count > 1
    ]


def _product(content: Any, where: str) -> tuple[list[Axis], list[str]]:
    columns, problems = _columns(content, where)
    for path, values in columns.items():
        problems += repeated(f"{where}.{path}", values)
    axes = [Axis((path,), tuple({path: value} for value in v)) for path, v in columns.items()]
    return axes, problems


def _zip(content: Any, where: str) -> tuple[list[Axis], list[str]]:
    columns, problems = _columns(content, where)
    lengths = {path: len(values) for path, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} of {path}" for path, length in lengths.items())
        problems.append(f"{where}: found {found}; allowed: lists of equal lengths")
    if problems:
        return [], problems
    steps = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return [Axis(tuple(columns), tuple(steps))], repeated(where, steps)


def _list(content: Any, where: str) -> tuple[list[Axis], list[str]]:
    if not isinstance(content, list | tuple) or not content:
        return [], [f"{where}: found {shown(content)}; allowed: a list of at least one section"]
    problems = [
        f"{where}.{place}: found {shown(step)}; allowed: a section of settings with their values"
        for place, step in enumerate(content)
        if not isinstance(step, Mapping) or not all(isinstance(path, str) for path in step)
    ]
    if problems:
        return [], problems
    paths = tuple(dict.fromkeys(path for step in content for path in step))
    return [Axis(paths, tuple(content))], repeated(where, content)


def _columns(content: Any, where: str) -> tuple[dict[str, Sequence[Any]], list[str]]:
    """The axes of a section: path -> values."""
    if not isinstance(content, Mapping) or not content:
        allowed = "a section of settings, each with a list of values"
        return {}, [f"{where}: found {shown(content)}; allowed: {allowed}"]
    columns, problems = {}, []
    for path, values in content.items():
        if not isinstance(path, str):
            problems.append(f"{where}.{path}: found a key that is no text; allowed: dotted paths")
        elif isinstance(values, list | tuple) and values:
            columns[path] = values
        else:
            found = "an empty list" if values == [] else shown(values)
            problems.append(f"{where}.{path}: found {found}; allowed: a list of at least one value")
    return columns, problems


def _overlapping(axes: Sequence[Axis]) -> list[str]:
    """A line for each setting that two axes, or two paths of one step, would both decide."""
    problems = []
    seen: list[str] = []
    for axis in axes:
        for path in axis.paths:
            if path in seen:
                problems.append(f"grid: found {path} in two axes; allowed: one axis a setting")
            problems += _nested(path, seen)
        for paths in {tuple(step): None for step in axis.steps}:
            for place, path in enumerate(paths):
                problems += _nested(path, paths[:place])
        seen += axis.paths
    return list(dict.fromkeys(problems))


def _nested(path: str, others: Iterable[str]) -> list[str]:
    """A line for each path that holds the given one, or is held by it."""
    pairs = [sorted((path, other), key=len) for other in others if path != other]
    return [
        f"grid: found {inner} beside {outer}, which holds it; allowed: one of them"
        for outer, inner in pairs
        if inner.startswith(f"{outer}.")
    ]
