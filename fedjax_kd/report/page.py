"""Puts the report together: one HTML file that needs nothing else, or the pictures as files."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedjax_kd.report.drawing import (
    LAYOUTS,
    WIDE,
    inline_svg,
    picture_style,
    png_bytes,
    svg_document,
)
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.headline import headline
from fedjax_kd.report.names import POLICIES, policy_name, policy_order
from fedjax_kd.report.numbers import duration_text
from fedjax_kd.report.pictures import PICTURES
from fedjax_kd.report.policy_table import policy_table
from fedjax_kd.report.results import Results, load_results
from fedjax_kd.report.sections import PLANS, fill


def render_report(results_dir: Path, output: Path | None = None) -> Path:
    """Writes a study's report as one HTML file that opens offline.

    Reads only `manifest.json`, `summary.csv` and the parquet tables. The same results give the same
    bytes. The file is written beside its place and then moved there, so no reader meets half of it.

    Args:
        results_dir: the folder of one finished study.
        output: the file to write; `report.html` in the folder if not given.

    Returns:
        The path of the file.

    Raises:
        ReportError: the folder holds no finished study in a known format, or a table is broken.
    """
    results = load_results(Path(results_dir))
    target = Path(output) if output is not None else results.folder / "report.html"
    text = _environment().get_template("report.html.jinja").render(_context(results))
    _write(target, text.encode("utf-8"))
    return target


def save_pictures(results_dir: Path, out_dir: Path) -> list[Path]:
    """Writes each picture of the report as SVG and PNG, in the wide layout.

    Args:
        results_dir: the folder of one finished study.
        out_dir: where to write; made if absent.

    Returns:
        The files written, in the report's order; pictures without data are left out.

    Raises:
        ReportError: as `render_report`.
    """
    results = load_results(Path(results_dir))
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in PICTURES.items():
        with picture_style():
            try:
                figure = picture.draw(results, WIDE)
            except NothingToShow:
                continue
            files = {".svg": svg_document(figure).encode("utf-8"), ".png": png_bytes(figure)}
        for suffix, content in files.items():
            path = folder / f"{name.replace('_', '-')}{suffix}"
            _write(path, content)
            written.append(path)
    return written


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("fedjax_kd.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _context(results: Results) -> dict[str, Any]:
    def draw(name: str) -> tuple[str, str]:
        elements = []
        for layout in LAYOUTS:
            with picture_style():
                document = svg_document(PICTURES[name].draw(results, layout))
            prefix = f"{list(PICTURES).index(name)}{layout.name[0]}"
            elements.append(Markup(inline_svg(document, f"p{prefix}", PICTURES[name].label)))
        return elements[0], elements[1]

    manifest = results.manifest
    policies = policy_order(results)
    return {
        "title": results.title,
        "headline": headline(results),
        "table": policy_table(results),
        "meanings": [(policy_name(p), POLICIES[p].meaning) for p in policies if p in POLICIES],
        "sections": [fill(plan, results, draw) for plan in PLANS],
        "overview": _overview(results),
        "settings": _flat(manifest.get("settings") or {}),
        "environment": [
            row
            for part in ("versions", "machine", "execution")
            for row in _flat(manifest.get(part) or {})
        ],
        "elapsed": _elapsed(manifest),
        "started": str(manifest.get("started") or ""),
        "settings_hash": str(manifest.get("settings_hash") or ""),
        "command": _command(results),
        "seeds": results.seeds,
    }


def _overview(results: Results) -> list[tuple[str, str]]:
    """The few settings that a reader wants first."""
    manifest = results.manifest
    partition = results.setting("data.partition") or {}
    kind = str(partition.get("kind", "")).replace("_", " ")
    if "alpha" in partition:
        kind += f" ({partition['alpha']:g})"
    seeds = results.seeds
    weight = results.setting("objective.delay_weight")
    synchronised = results.setting("twin.synchronised")
    elapsed = [value for value in (manifest.get("elapsed_s") or {}).values() if value is not None]
    pairs = [
        ("Data", str(results.setting("data.source", ""))),
        ("Users", str(results.setting("data.users", ""))),
        ("Partition", kind),
        ("Students", str(len(manifest.get("students") or []) or "")),
        ("Teacher", str((manifest.get("teacher") or {}).get("label", ""))),
        ("Synchronised", f"{100 * synchronised:g} %" if synchronised is not None else ""),
        ("Delay weight λ", f"{weight:g}" if weight is not None else ""),
        ("Seeds", str(len(seeds) or "")),
        ("Computed in", duration_text(sum(elapsed)) if elapsed else ""),
    ]
    return [(name, value) for name, value in pairs if value]


def _elapsed(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    stages = {
        str(stage).replace("_", " "): float(seconds)
        for stage, seconds in (manifest.get("elapsed_s") or {}).items()
        if seconds is not None
    }
    rows = [(stage, duration_text(seconds)) for stage, seconds in stages.items()]
    return [*rows, ("together", duration_text(sum(stages.values())))] if rows else []


def _command(results: Results) -> str:
    given = results.manifest.get("command")
    if isinstance(given, str) and given:
        return given
    return shlex.join(["fedjax-kd", "run", "settings.yaml", "--out", "results/again"])


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted paths and values, in the order they stand."""
    if isinstance(value, dict) and value:
        return [
            row for key, each in value.items() for row in _flat(each, f"{path}.{key}".strip("."))
        ]
    if isinstance(value, list):
        if any(isinstance(each, (dict, list)) for each in value):
            return [row for i, each in enumerate(value) for row in _flat(each, f"{path}.{i}")]
        return [(path, ", ".join(_scalar(each) for each in value) or "none")]
    return [(path, _scalar(value))] if path else []


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == {}:
        return "none"
    return str(value)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
