"""What is wrong with a settings file, said in the words of the person who wrote it.

pydantic reports a location in its own tree (with the tags of unions) and the one bound that was
broken. Here each error becomes a line that names the field as the file spells it, the value found
and everything that the field allows.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ValidationError


class SettingsError(ValueError):
    """Settings that cannot be used.

    Attributes:
      problems: one line for each thing that is wrong.
    """

    def __init__(self, problems: Sequence[str], where: str = ""):
        self.problems = tuple(problems)
        lines = "\n  ".join(self.problems)
        super().__init__(f"{where}:\n  {lines}" if where else lines)


class _Place(NamedTuple):
    path: tuple[str, ...]  # the keys as the file spells them
    annotation: Any  # the type of the field, None for an unknown one
    owner: Any  # the dataclass that holds the field


def problems_of(error: ValidationError, root: type) -> list[str]:
    """Returns one line for each error.

    Args:
      error: what pydantic raised while it read a value of type `root`.
      root: the settings dataclass at the top of the file.
    """
    details = error.errors()
    parents = {detail["loc"][:depth] for detail in details for depth in range(len(detail["loc"]))}
    lines: dict[tuple[str, ...], list[str]] = {}
    for detail in details:
        # pydantic takes items with errors out of a list and then finds the list too short.
        if detail["type"] == "too_short" and detail["loc"] in parents:
            continue
        place = _place(detail["loc"], root)
        # Every alternative that does not fit has errors of its own; the first sees the whole value.
        if place.path in lines and _alternatives(place.annotation):
            continue
        lines.setdefault(place.path, []).append(_line(detail, place, root))
    return [line for found in lines.values() for line in found]


def _line(detail: Any, place: _Place, root: type) -> str:
    path, found = ".".join(place.path), shown(detail["input"])
    kind = detail["type"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden", "invalid_key"):
        return f"{path}: unknown key{_nearest(place, root)}"
    if kind == "missing":
        return f"{path}: missing; allowed: {allowed(place.annotation)}"
    if kind == "union_tag_not_found":
        return f"{path}.kind: missing; allowed: {' | '.join(_members(place.annotation))}"
    if kind == "union_tag_invalid":
        members = _members(place.annotation)
        tag = detail["input"]["kind"]
        guess = difflib.get_close_matches(str(tag), members, n=1)
        hint = f" (did you mean {guess[0]}?)" if guess else ""
        return f"{path}.kind: found {shown(tag)}{hint}; allowed: {' | '.join(members)}"
    if kind == "value_error":  # a rule between the fields of a section
        return f"{path}: {detail['ctx']['error']}"
    if place.annotation is None:
        return f"{path}: found {found}; {detail['msg']}"
    return f"{path}: found {found}; allowed: {allowed(place.annotation)}"


def shown(value: Any) -> str:
    """Returns a value as a message shows it, e.g. `'0.5' (text)`, `null`, `a section`."""
    if isinstance(value, str):
        return f"{value!r} (text)"
    if isinstance(value, dict):
        return "a section" if value else "an empty section"
    try:
        text = json.dumps(value, default=str)
    except ValueError:  # a YAML alias to a list that holds it
        text = "a list inside itself"
    return text if len(text) <= 60 else text[:57] + "..."


def allowed(annotation: Any) -> str:
    """Returns in words what a field accepts, e.g. `a whole number, at least 1`."""
    inner, bounds = _unwrapped(annotation)
    if type(None) in typing.get_args(inner):
        options = [option for option in typing.get_args(inner) if option is not type(None)]
        return " or ".join(["null", *(allowed(option) for option in options)])
    members = _members(annotation)
    if members:
        return f"a section whose kind is {' | '.join(members)}"
    if _alternatives(annotation):
        return " or ".join(allowed(option) for option in _alternatives(annotation))
    if typing.get_origin(inner) is Literal:
        return " | ".join(str(choice) for choice in typing.get_args(inner))
    if typing.get_origin(inner) is tuple and Ellipsis not in typing.get_args(inner):
        each = "; ".join(allowed(item) for item in typing.get_args(inner))
        return f"a list of {len(typing.get_args(inner))}: {each}"
    if typing.get_origin(inner) is tuple:
        least = f", at least {bounds['min_length']} of them" if "min_length" in bounds else ""
        return f"a list, each item {allowed(typing.get_args(inner)[0])}{least}"
    if dataclasses.is_dataclass(inner):
        return f"a section with the keys {', '.join(_fields(inner))}"
    if typing.get_origin(inner) is dict:
        return "a section"
    number = "a finite number" if bounds.get("allow_inf_nan") is False else "a number"
    names = {float: number, int: "a whole number", bool: "true or false", str: "text"}
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    limits = [f"{words[key]} {bounds[key]}" for key in words if key in bounds]
    return ", ".join([names.get(inner, "null"), *([" and ".join(limits)] if limits else [])])


def unknown_setting(path: str, root: type) -> str | None:
    """Returns what is wrong with a dotted path that settings of type `root` cannot have.

    Items of lists are numbers, keys of a section of free keys are anything; where a section may be
    of several kinds, the keys of each are known. None if the path is known.
    """
    if _leads_somewhere(root, path.split(".")):
        return None
    guess = difflib.get_close_matches(path, list(dict.fromkeys(_paths(root))), n=1)
    return f"{path}: unknown key" + (f"; did you mean {guess[0]}?" if guess else "")


def _leads_somewhere(annotation: Any, keys: Sequence[str]) -> bool:
    inner, _ = _unwrapped(annotation)
    origin, options = typing.get_origin(inner), typing.get_args(inner)
    if not keys:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_leads_somewhere(option, keys) for option in options)
    if origin is tuple:
        return keys[0].isdecimal() and _leads_somewhere(options[0], keys[1:])
    if origin is dict:
        return _leads_somewhere(options[1], keys[1:])
    fields = _fields(inner) if dataclasses.is_dataclass(inner) else {}
    return keys[0] in fields and _leads_somewhere(fields[keys[0]], keys[1:])


def _unwrapped(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """Returns the type inside `Annotated`, and the bounds that stood around it."""
    bounds: dict[str, Any] = {}
    if typing.get_origin(annotation) is not Annotated:
        return annotation, bounds
    inner, *extras = typing.get_args(annotation)
    for extra in extras:
        for constraint in getattr(extra, "metadata", [extra]):
            for key in ("gt", "ge", "lt", "le", "min_length", "allow_inf_nan"):
                if getattr(constraint, key, None) is not None:
                    bounds[key] = getattr(constraint, key)
    return inner, bounds


def _members(annotation: Any) -> dict[str, Any]:
    """Returns the dataclasses of a union that `kind` tells apart, by kind; else nothing."""
    inner, _ = _unwrapped(annotation)
    found = {}
    if type(None) in typing.get_args(inner):
        inner, _ = _unwrapped(typing.get_args(inner)[0])
    for option in typing.get_args(inner):
        kind = _fields(option).get("kind") if dataclasses.is_dataclass(option) else None
        for name in typing.get_args(kind):
            found[name] = option
    return found


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Returns the types of a union without a `kind`, of which a value may have any; else ()."""
    inner, _ = _unwrapped(annotation)
    if typing.get_origin(inner) not in (typing.Union, types.UnionType) or _members(annotation):
        return ()
    options = typing.get_args(inner)
    return () if type(None) in options else options


def _fields(owner: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(owner, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(owner)}


def _place(location: tuple[str | int, ...], root: type) -> _Place:
    """Walks the types along pydantic's location and leaves out the tags of unions."""
    path: tuple[str, ...] = ()
    annotation, owner = root, None
    for part in location:
        if _alternatives(annotation):  # the rest says which alternative was tried
            break
        members = _members(annotation)
        if members:
            annotation = members.get(str(part))
            continue
        path += (str(part),)
        annotation, owner = _step(annotation, part)
    return _Place(path, annotation, owner)


def _step(annotation: Any, part: str | int) -> tuple[Any, Any]:
    inner, _ = _unwrapped(annotation)
    if typing.get_origin(inner) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(inner) if option is not type(None)]
        return _step(options[0], part)
    if typing.get_origin(inner) is tuple:
        return typing.get_args(inner)[0], None
    if dataclasses.is_dataclass(inner):
        return _fields(inner).get(str(part)), inner
    return None, None


def _nearest(place: _Place, root: type) -> str:
    """Returns the rest of an unknown key's line: a guess, and the keys that there are."""
    *section, key = place.path
    names = list(_fields(place.owner))
    where = ".".join(section) or "the file"
    kinds = typing.get_args(_fields(place.owner).get("kind"))
    where += f" of kind {kinds[0]}" if kinds else ""
    guess = difflib.get_close_matches(key, names, n=1)
    if guess:
        hint = f"; did you mean {'.'.join([*section, guess[0]])}?"
    else:
        own = ".".join(place.path)
        elsewhere = {path: None for path in _paths(root) if path.rpartition(".")[2] == key}
        others = [path for path in elsewhere if path != own][:3]
        hint = f"; there is a {' and a '.join(others)}" if others else ""
    return f"{hint}; the keys of {where} are {', '.join(names)}"


def _paths(annotation: Any, prefix: str = "") -> Iterator[str]:
    inner, _ = _unwrapped(annotation)
    if typing.get_origin(inner) is tuple:
        yield from _paths(typing.get_args(inner)[0], f"{prefix}0.")
    for owner in _members(annotation).values() or [inner]:
        if dataclasses.is_dataclass(owner):
            for name, field in _fields(owner).items():
                yield prefix + name
                yield from _paths(field, f"{prefix}{name}.")
