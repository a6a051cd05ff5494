"""Reads a results folder: the manifest, the summary and the tables, checked for what is needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fedjax_kd.report.errors import ReportError

FORMATS = (1,)
METHODS = ("dt_kd",)

Frame = Any  # a pandas frame or series, whose stubs cannot say what a column holds

COLUMNS: dict[str, tuple[str, ...]] = {
    "metrics": ("point", "seed", "round", "scope", "metric", "value"),
    "decisions": ("point", "seed", "policy", "user", "student", "place"),
    "ledger": ("point", "seed", "policy", "user", "cause", "delay_s", "energy_j", "bits", "flops"),
    "accuracy_table": ("seed", "user", "student", "soft_labels", "stage", "accuracy_personal"),
    "frontier": ("seed", "policy", "delay_weight", "accuracy", "delay_s"),
    "partition": ("seed", "user", "split", "class_id", "class_name", "count"),
}


@dataclass(frozen=True)
class Results:
    """Everything a report is made from; a table that the folder lacks is an empty frame."""

    folder: Path
    manifest: dict[str, Any]
    summary: Frame
    metrics: Frame
    decisions: Frame
    ledger: Frame
    accuracy_table: Frame
    frontier: Frame
    partition: Frame

    def setting(self, path: str, default: Any = None) -> Any:
        """The resolved setting at a dotted path, e.g. `objective.delay_weight`."""
        value: Any = self.manifest.get("settings")
        for name in path.split("."):
            if not isinstance(value, dict) or name not in value:
                return default
            value = value[name]
        return value

    @property
    def title(self) -> str:
        """The study's title, or a general one where the settings give none."""
        return str(self.manifest.get("title") or "A DT-KD study")

    @property
    def seeds(self) -> list[int]:
        """The seeds of the study, from the manifest."""
        return [int(seed) for seed in self.manifest.get("seeds") or []]


def load_results(results_dir: Path) -> Results:
    """Reads the folder of one finished study.

    Args:
        results_dir: the folder that a run wrote.

    Returns:
        The manifest and the tables; only the first study point where there are several.

    Raises:
        ReportError: the folder has no readable manifest, the study is not finished, its format or
            method is unknown, or a table cannot be read or lacks a column.
    """
    folder = Path(results_dir)
    tables = {name: _read_table(folder / f"{name}.parquet", name) for name in COLUMNS}
    return Results(
        folder=folder,
        manifest=_read_manifest(folder),
        summary=_read_summary(folder / "summary.csv"),
        **tables,
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ReportError(f"{folder}: there is no such results folder")
    path = folder / "manifest.json"
    if not path.is_file():
        raise ReportError(f"{path}: not found, so {folder} is not a results folder")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(manifest, dict):
        raise ReportError(f"{path}: must hold one JSON object, holds a {type(manifest).__name__}")
    for key, allowed in (("format", FORMATS), ("method", METHODS), ("status", ("complete",))):
        value = manifest.get(key)
        if value in allowed and not isinstance(value, bool):
            continue
        wanted = ", ".join(repr(each) for each in allowed)
        if key == "status":
            raise ReportError(
                f"{path}: the study is not finished: status is {value!r}, must be {wanted}"
            )
        raise ReportError(f"{path}: {key} is {value!r}, this report knows {wanted}")
    return manifest


def _read_table(path: Path, name: str) -> Frame:
    if not path.is_file():
        return pd.DataFrame({column: [] for column in COLUMNS[name]})
    try:
        frame: Frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as parquet ({error})") from error
    missing = [column for column in COLUMNS[name] if column not in frame.columns]
    if missing and len(frame):
        raise ReportError(
            f"{path}: lacks the column {missing[0]!r}; there are {', '.join(map(str, frame))}"
        )
    frame = frame.reindex(columns=[*frame.columns, *missing])
    if "point" in frame.columns and len(frame):
        frame = frame[frame["point"] == frame["point"].min()]
    return frame


def _read_summary(path: Path) -> Frame:
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame({"policy": []}).set_index("policy")
    try:
        frame: Frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as CSV ({error})") from error
    if "policy" not in frame.columns:
        raise ReportError(f"{path}: lacks the column 'policy'; there are {', '.join(frame)}")
    if frame["policy"].duplicated().any():
        twice = frame.loc[frame["policy"].duplicated(), "policy"].iloc[0]
        raise ReportError(f"{path}: names the policy {twice!r} twice; each must have one row")
    frame["policy"] = frame["policy"].astype(str)
    return frame.set_index("policy")
