"""Puts the report together: one HTML file that needs nothing else, or the pictures as files."""

from __future__ import annotations

import os
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
from fedjax_kd.report.dt_kd_context import dt_kd_context
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.pictures import PICTURES, ROUNDS_PICTURES, Picture
from fedjax_kd.report.results import Results, load_results
from fedjax_kd.report.rounds_context import rounds_context
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.rounds_sections import rounds_plans
from fedjax_kd.report.sections import PLANS, Plan, fill


def render_report(results_dir: Path, output: Path | None = None) -> Path:
    """Writes a study's report as one HTML file that opens offline.

    Reads only `manifest.json`, `summary.csv` and the parquet tables. The same results give the same
    bytes. The file is written beside its place and then moved there, so no reader meets half of it.

    Args:
        results_dir: the folder of one finished study, of DT-KD or of a method in rounds.
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
    for name, picture in _pictures(results).items():
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


def _plans(results: Results | RoundsResults) -> tuple[Plan, ...]:
    return rounds_plans(results) if isinstance(results, RoundsResults) else PLANS


def _pictures(results: Results | RoundsResults) -> dict[str, Picture]:
    """The pictures of one kind of study; those of a rounds study in the order of its sections."""
    if not isinstance(results, RoundsResults):
        return PICTURES
    return {name: ROUNDS_PICTURES[name] for plan in rounds_plans(results) for name in plan.pictures}


def _context(results: Results | RoundsResults) -> dict[str, Any]:
    pictures = _pictures(results)

    def draw(name: str) -> tuple[str, str]:
        elements = []
        for layout in LAYOUTS:
            with picture_style():
                document = svg_document(pictures[name].draw(results, layout))
            prefix = f"{list(pictures).index(name)}{layout.name[0]}"
            elements.append(Markup(inline_svg(document, f"p{prefix}", pictures[name].label)))
        return elements[0], elements[1]

    context = (
        rounds_context(results) if isinstance(results, RoundsResults) else dt_kd_context(results)
    )
    sections = [fill(plan, results, draw, pictures) for plan in _plans(results)]
    return {**context, "sections": sections}


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
