"""YAML as settings files use it: the scalars of YAML 1.2, and no key twice.

PyYAML reads YAML 1.1, where `1e-3` is text, `no` is a boolean, `010` is eight and `1:30` is ninety,
and where the second of two equal keys silently wins. None of that belongs in a settings file.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml


class YamlError(ValueError):
    """The text is not YAML, or says a key twice; the message names the line."""


class _Reader(yaml.SafeLoader):
    """`yaml.SafeLoader` with the core schema of YAML 1.2 (and `_` between digits)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                first = lines[key.value]
                raise YamlError(f"line {line}: the key `{key.value}` is already on line {first}")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _whole_number(loader: _Reader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    if len(text) > 100:
        line = node.start_mark.line + 1
        raise YamlError(f"line {line}: a number of {len(text)} digits")
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _real_number(loader: _Reader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _scalar(kind: str, pattern: str, first: str) -> None:
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(pattern), list(first))


_Reader.yaml_implicit_resolvers = {}
_scalar("null", r"^(?:~|null|Null|NULL|)$", "~nN")
_Reader.yaml_implicit_resolvers[""] = list(_Reader.yaml_implicit_resolvers["~"])
_scalar("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_scalar("int", r"^(?:[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789")
_scalar(
    "float",
    r"^(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    "-+.0123456789",
)
_scalar("merge", r"^<<$", "<")
_Reader.add_constructor("tag:yaml.org,2002:int", _whole_number)
_Reader.add_constructor("tag:yaml.org,2002:float", _real_number)


def read_yaml(text: str) -> Any:
    """Returns what a YAML text says, as dictionaries, lists and scalars.

    Args:
      text: one YAML document.

    Raises:
      YamlError: the text is not YAML, or a mapping has the same key twice.
    """
    try:
        return yaml.load(text, Loader=_Reader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(text for text in (error.context, error.problem) if text)
        raise YamlError(f"{where}not valid YAML: {problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise YamlError(f"not valid YAML: {error}") from error


def write_yaml(value: Any) -> str:
    """Returns block-style YAML that `read_yaml` reads back to an equal value."""
    return yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=100)


class _Writer(yaml.SafeDumper):
    """Writes lists of scalars on one line and everything else in blocks."""


def _sequence(writer: _Writer, value: list[Any]) -> yaml.Node:
    flat = all(not isinstance(item, dict | list) for item in value)
    return writer.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flat)


_Writer.add_representer(list, _sequence)
# Text that either version of YAML would take for something else is written in quotes.
_Writer.yaml_implicit_resolvers = {
    first: [
        *_Reader.yaml_implicit_resolvers.get(first, []),
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
    ]
    for first in {*_Reader.yaml_implicit_resolvers, *yaml.SafeDumper.yaml_implicit_resolvers}
}
