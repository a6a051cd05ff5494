"""What the page of any kind of study says of its settings, versions, times and command."""

from __future__ import annotations

import shlex
from typing import Any

from fedjax_kd.report.numbers import duration_text


def shared_context(title: str, manifest: dict[str, Any], seeds: list[int]) -> dict[str, Any]:
    """The template's fields that do not depend on the study's method."""
    return {
        "title": title,
        "settings": flat(manifest.get("settings") or {}),
        "environment": [
            row
            for part in ("versions", "machine", "execution")
            for row in flat(manifest.get(part) or {})
        ],
        "elapsed": _elapsed(manifest),
        "started": str(manifest.get("started") or ""),
        "settings_hash": str(manifest.get("settings_hash") or ""),
        "command": _command(manifest),
        "seeds": seeds,
    }


def computed_in(manifest: dict[str, Any]) -> str:
    """The wall-clock time of all stages together; empty where it was not taken."""
    elapsed = [value for value in (manifest.get("elapsed_s") or {}).values() if value is not None]
    return duration_text(sum(elapsed)) if elapsed else ""


def partition_text(partition: Any) -> str:
    """A partition's kind and concentration, e.g. `dirichlet (0.1)`."""
    partition = partition or {}
    kind = str(partition.get("kind", "")).replace("_", " ")
    return f"{kind} ({partition['alpha']:g})" if "alpha" in partition else kind


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted paths and values, in the order they stand."""
    if isinstance(value, dict) and value:
        return [
            row for key, each in value.items() for row in flat(each, f"{path}.{key}".strip("."))
        ]
    if isinstance(value, list):
        if any(isinstance(each, (dict, list)) for each in value):
            return [row for i, each in enumerate(value) for row in flat(each, f"{path}.{i}")]
        return [(path, ", ".join(_scalar(each) for each in value) or "none")]
    return [(path, _scalar(value))] if path else []


def _elapsed(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    stages = {
        str(stage).replace("_", " "): float(seconds)
        for stage, seconds in (manifest.get("elapsed_s") or {}).items()
        if seconds is not None
    }
    rows = [(stage, duration_text(seconds)) for stage, seconds in stages.items()]
    return [*rows, ("together", duration_text(sum(stages.values())))] if rows else []


def _command(manifest: dict[str, Any]) -> str:
    given = manifest.get("command")
    if isinstance(given, str) and given:
        return given
    return shlex.join(["fedjax-kd", "run", "settings.yaml", "--out", "results/again"])


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == {}:
        return "none"
    return str(value)
