"""From a settings file (and `--set` overrides) to the frozen settings of a study.

What a file leaves out keeps the value that it would have had: a section that gives two keys of five
keeps the other three of the section's own default, not of the class's. Where a file chooses another
`kind` or `name` than the default's, nothing of the default's options is kept.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedjax_kd.study.problems import SettingsError, problems_of, shown
from fedjax_kd.study.studies import STUDIES, Study
from fedjax_kd.study.yaml_text import YamlError, read_yaml
from fedjax_kd.system import Profile, load_profile


def load_settings(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Reads, completes and validates a settings file.

    Args:
      path: a YAML file.
      overrides: `a.b.c=value` each; the value is YAML and items of lists are addressed by number,
        as in `students.0.width=0.5`. Later ones win.

    Raises:
      SettingsError: the file or an override cannot be used; the message lists every problem.
    """
    return settings_from_dict(read_section(path), overrides, where=str(path))


def read_section(path: str | Path, least: str | None = None) -> dict[str, Any]:
    """Reads a file of `key: value` lines and looks at nothing else.

    Args:
      path: a YAML file.
      least: what an empty file is told to say; by default a study's method.

    Raises:
      SettingsError: the file cannot be read or holds something else.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError([f"{path}: there is no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError([f"{path}: cannot be read: {reason}"]) from error
    return _section(text, str(path), least)


def settings_from_text(text: str, overrides: Sequence[str] = (), where: str = "settings") -> Study:
    """Like `load_settings`, for text that is already in memory; `where` opens the message."""
    return settings_from_dict(_section(text, where), overrides, where)


def _section(text: str, where: str, least: str | None = None) -> dict[str, Any]:
    try:
        said = read_yaml(text)
    except YamlError as error:
        raise SettingsError([str(error)], where) from error
    if said is None:
        least = least or _methods()
        raise SettingsError([f"the file is empty; it must say at least {least}"], where)
    if not isinstance(said, dict):
        raise SettingsError([f"found {shown(said)}; the file must hold `key: value` lines"], where)
    return said


def settings_from_dict(
    said: dict[str, Any], overrides: Sequence[str] = (), where: str = "settings"
) -> Study:
    """Like `load_settings`, for settings that are already dictionaries, lists and scalars.

    Args:
      said: what the file says; it is not changed.
      overrides: as in `load_settings`.
      where: opens the message of an error.
    """
    said = {**said, "method": _override_of_method(overrides) or said.get("method")}
    root = _study_type(said["method"], where)
    defaults = _defaults(root)
    problems = []
    for override in overrides:
        try:
            said = _overridden(said, override, defaults)
        except YamlError as error:
            problems.append(f"--set {override}: {error}")
    if problems:
        raise SettingsError(problems, where)
    try:
        return TypeAdapter(root).validate_python(_completed(defaults, said))
    except ValidationError as error:
        raise SettingsError(problems_of(error, root), where) from None


def changed(said: dict[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns a copy of what a file says with other values at some dotted paths.

    Args:
      said: dictionaries, lists and scalars, with a known `method`.
      changes: path -> value, set one after the other.
      where: opens the message of an error.

    Raises:
      SettingsError: a path leads through something that has no keys.
    """
    defaults = _defaults(_study_type(said.get("method"), where))
    problems = []
    for path, value in changes.items():
        try:
            said = _replaced(said, path.split("."), value, defaults, ())
        except YamlError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError(problems, where)
    return said


def completed(said: dict[str, Any], where: str = "settings") -> dict[str, Any]:
    """Returns what a file says with every default filled in; values are not looked at."""
    return _completed(_defaults(_study_type(said.get("method"), where)), said)


@cache
def _defaults(root: type[Study]) -> dict[str, Any]:
    (method,) = (name for name, known in STUDIES.items() if known is root)
    return settings_to_dict(root(method=method))  # pyright: ignore[reportArgumentType]


def settings_to_dict(settings: Study) -> dict[str, Any]:
    """Returns settings as dictionaries, lists and scalars; `settings_from_dict` inverts it."""
    return TypeAdapter(type(settings)).dump_python(settings, mode="json")


def settings_hash(settings: Study) -> str:
    """Returns 16 hexadecimal digits that tell one study from another.

    The numbers of the device profile count, not only its name: its file may be the user's own.

    Raises:
      ValueError: the device profile does not exist or is wrong.
    """
    profile = TypeAdapter(Profile).dump_python(load_profile(settings.system.profile), mode="json")
    identity = {"settings": settings_to_dict(settings), "profile": profile}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _study_type(method: Any, where: str) -> type[Study]:
    if method is None:
        raise SettingsError([f"method: missing; allowed: {' | '.join(STUDIES)}"], where)
    if not isinstance(method, str) or method not in STUDIES:
        guess = difflib.get_close_matches(str(method), STUDIES, n=1)
        hint = f" (did you mean {guess[0]}?)" if guess else ""
        allowed = " | ".join(STUDIES)
        raise SettingsError([f"method: found {shown(method)}{hint}; allowed: {allowed}"], where)
    return STUDIES[method]


def _methods() -> str:
    return " or ".join(f"`method: {name}`" for name in STUDIES)


def _override_of_method(overrides: Sequence[str]) -> str | None:
    chosen = [text.partition("=")[2] for text in overrides if text.partition("=")[0] == "method"]
    return chosen[-1] if chosen else None


def _completed(default: Any, said: Any) -> Any:
    """Returns what was said, with the default's values where nothing was."""
    if not isinstance(default, dict):
        return said
    if said is None:  # a section whose lines are all commented out
        return default
    if not isinstance(said, dict):
        return said
    for choice in ("kind", "name"):
        if choice in default and said.get(choice, default[choice]) != default[choice]:
            return said
    rest = {key: value for key, value in default.items() if key not in said}
    return {**{key: _completed(default.get(key), value) for key, value in said.items()}, **rest}


def _overridden(said: dict[str, Any], override: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """Returns a copy of `said` in which one value is replaced.

    Raises:
      YamlError: the override is not `key=value`, or leads through something that has no keys.
    """
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise YamlError("expected key=value, e.g. data.users=10")
    return _replaced(said, keys, read_yaml(text), defaults, ())


def _replaced(
    said: Any, keys: Sequence[str], value: Any, default: Any, passed: tuple[str, ...]
) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    here = ".".join(passed)
    if said is None:
        said = default if isinstance(default, list) else {}
    if isinstance(said, list):
        if not key.isdecimal() or int(key) >= len(said):
            last = f"0 to {len(said) - 1}" if said else "none, the list is empty"
            raise YamlError(f"{here} is a list, found item {key!r}; allowed: {last}")
        item = _replaced(said[int(key)], rest, value, None, (*passed, key))
        return [*said[: int(key)], item, *said[int(key) + 1 :]]
    if not isinstance(said, dict):
        raise YamlError(f"{here} is {shown(said)} and has no key {key!r}")
    below = default.get(key) if isinstance(default, dict) else None
    return {**said, key: _replaced(said.get(key), rest, value, below, (*passed, key))}
