"""A study's results folder as a report reads it: DT-KD's own tables, or those of a rounds study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedjax_kd.report.rounds_results import ROUNDS_METHODS, RoundsResults, rounds_results
from fedjax_kd.report.tables import Frame, read_manifest, read_summary, read_tables, setting_at

METHODS = ("dt_kd", *ROUNDS_METHODS)

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
    """Everything a DT-KD report is made from; a table that the folder lacks is an empty frame."""

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
        return setting_at(self.manifest.get("settings"), path, default)

    @property
    def title(self) -> str:
        """The study's title, or a general one where the settings give none."""
        return str(self.manifest.get("title") or "A DT-KD study")

    @property
    def seeds(self) -> list[int]:
        """The seeds of the study, from the manifest."""
        return [int(seed) for seed in self.manifest.get("seeds") or []]


def load_results(results_dir: Path) -> Results | RoundsResults:
    """Reads the folder of one finished study; the manifest's method says which tables it has.

    Args:
        results_dir: the folder that a run wrote.

    Returns:
        The manifest and the tables; only the first study point where there are several.

    Raises:
        ReportError: the folder has no readable manifest, the study is not finished, its format or
            method is unknown, or a table cannot be read or lacks a column.
    """
    folder = Path(results_dir)
    manifest = read_manifest(folder, METHODS)
    if manifest["method"] in ROUNDS_METHODS:
        return rounds_results(folder, manifest)
    return Results(
        folder=folder,
        manifest=manifest,
        summary=read_summary(folder / "summary.csv", ("policy",)),
        **read_tables(folder, COLUMNS),
    )
