"""A rounds study as a report reads it: contestants that train under the same draws, in rounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_kd.report.tables import Frame, read_summary, read_tables, setting_at

ROUNDS_METHODS = ("on_device_kd", "dfml", "pfedafm", "family")

# Changed forms of the proposed methods. That these are below the method is not expected.
VARIANTS = (
    *("kd_only", "constant_weight"),
    *("dfml_constant_alpha", "dfml_cross_entropy"),
    *("pfedafm_released_code", "pfedafm_joint"),
)

COSTS = ("delay_s", "energy_j", "bits", "flops")
CURVES_COLUMNS = ("point", "seed", "contestant", "view", "round", "metric", "value")
COSTS_COLUMNS = ("point", "seed", "contestant", "round", *COSTS)

ROUNDS_COLUMNS: dict[str, tuple[str, ...]] = {
    "metrics": ("point", "seed", "round", "scope", "metric", "value"),
    "clients": ("point", "seed", "contestant", "view", "user", "model", "strong"),
    "ledger": (
        *("point", "seed", "contestant", "user", "phase", "cause"),
        *("delay_s", "energy_j", "bits", "flops"),
    ),
    "special": ("point", "seed", "contestant", "round", "name", "index", "value"),
    "mixing": ("point", "seed", "contestant", "user", "feature", "value"),
    "partition": ("seed", "user", "split", "class_id", "class_name", "count"),
}


class Contestant(NamedTuple):
    """One of the methods compared; one of them is what the others are held against."""

    name: str
    title: str
    views: tuple[str, ...]  # the first is the one that is compared
    phases: tuple[str, ...]
    peer: bool  # whether bits go from device to device
    variant: bool  # a changed form of the proposed method, not a baseline
    meaning: str  # what it does, in a clause; empty where the manifest does not say
    reference: bool = False  # what the others have to beat, in a study that proposes none


@dataclass(frozen=True)
class RoundsResults:
    """Everything a rounds study's report is made from; an absent table is an empty frame."""

    folder: Path
    manifest: dict[str, Any]
    contestants: tuple[Contestant, ...]
    summary: Frame  # by contestant and view
    curves: Frame
    costs: Frame
    clients: Frame
    ledger: Frame
    special: Frame
    mixing: Frame
    partition: Frame

    def setting(self, path: str, default: Any = None) -> Any:
        """The resolved setting at a dotted path, e.g. `data.source`."""
        return setting_at(self.manifest.get("settings"), path, default)

    @property
    def method(self) -> str:
        """The name of the method that the study is about."""
        return str(self.manifest["method"])

    @property
    def title(self) -> str:
        """The study's title, or a general one where the settings give none."""
        return str(self.manifest.get("title") or "A study of federated methods in rounds")

    @property
    def seeds(self) -> list[int]:
        """The seeds of the study, from the manifest."""
        return [int(seed) for seed in self.manifest.get("seeds") or []]

    @property
    def reference(self) -> Contestant | None:
        """What the others have to beat where no method is proposed; None where one is."""
        return next((each for each in self.contestants if each.reference), None)

    @property
    def proposed(self) -> Contestant | None:
        """The contestant that the others are held against; None where the manifest names none.

        The method that the study is about, which comes first, or else the study's reference.
        """
        return self.reference or (self.contestants[0] if self.contestants else None)

    @property
    def diverged(self) -> list[tuple[str, str]]:
        """Title of each contestant that did not come to an end, and the reason."""
        titles = {each.name: each.title for each in self.contestants}
        return [
            (titles.get(str(each.get("name")), str(each.get("name"))), str(each.get("reason", "")))
            for each in self.manifest.get("diverged") or []
        ]


def rounds_results(folder: Path, manifest: dict[str, Any]) -> RoundsResults:
    """Reads the tables of a rounds study.

    Args:
        folder: the results folder.
        manifest: what its manifest holds.

    Raises:
        ReportError: a table cannot be read or lacks a column.
    """
    tables = read_tables(folder, ROUNDS_COLUMNS)
    metrics = tables.pop("metrics")
    summary = read_summary(folder / "summary.csv", ("contestant", "view"))
    curves = curves_of(metrics, _main_views(manifest))
    return RoundsResults(
        folder=folder,
        manifest=manifest,
        contestants=_contestants(manifest, curves),
        summary=summary,
        curves=curves,
        costs=costs_of(metrics),
        **tables,
    )


def curves_of(metrics: Frame, main_views: dict[str, str]) -> Frame:
    """What was evaluated, by contestant and view, out of the long form of all metrics.

    Args:
        metrics: columns `point, seed, round, scope, metric, value`; a scope is the name of a
            contestant for its main view, and `contestant/view` for the others.
        main_views: of each contestant what its main view is called; `model` where it is not known.

    Returns:
        Columns `point, seed, contestant, view, round, metric, value`.
    """
    rows = metrics[~metrics["metric"].isin(COSTS)]
    parts = rows["scope"].astype(str).str.split("/", n=1)
    contestants = parts.str.get(0)
    main = contestants.map(lambda name: main_views.get(name, "model"))
    named = rows.assign(contestant=contestants, view=main.where(parts.str.len() < 2, parts.str[-1]))
    return named[list(CURVES_COLUMNS)].reset_index(drop=True)


def costs_of(metrics: Frame) -> Frame:
    """What had been spent after each round, one column for each cost, out of the long form.

    Args:
        metrics: as for `curves_of`.

    Returns:
        Columns `point, seed, contestant, round`, and those of `COSTS`.
    """
    rows = metrics[metrics["metric"].isin(COSTS)]
    keys = ["point", "seed", "scope", "round"]
    table = rows.pivot_table(index=keys, columns="metric", values="value", sort=False)
    table = table.reset_index().rename(columns={"scope": "contestant"})
    return table.reindex(columns=list(COSTS_COLUMNS))


def _main_views(manifest: dict[str, Any]) -> dict[str, str]:
    listed = manifest.get("contestants") or []
    return {str(each["name"]): str(each["views"][0]) for each in listed if each.get("views")}


def _contestants(manifest: dict[str, Any], curves: Frame) -> tuple[Contestant, ...]:
    """As the manifest lists them; the views that it does not name are those of the curves."""
    found = []
    for each in manifest.get("contestants") or []:
        name = str(each["name"])
        views = each.get("views") or curves[curves["contestant"] == name]["view"].unique()
        found.append(
            Contestant(
                name=name,
                title=str(each.get("title") or name.replace("_", " ")),
                views=tuple(str(view) for view in views),
                phases=tuple(str(phase) for phase in each.get("phases") or ()),
                peer=bool(each.get("peer", False)),
                variant=each.get("role") == "variant" or name in VARIANTS,
                meaning=str(each.get("meaning") or ""),
                reference=each.get("role") == "reference",
            )
        )
    return tuple(found)
