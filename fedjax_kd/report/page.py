"""Puts the report together: one HTML file that needs nothing else, or the pictures as files."""

from __future__ import annotations

from collections.abc import Sequence
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
from fedjax_kd.report.errors import NothingToShow, ReportError
from fedjax_kd.report.files import write_whole
from fedjax_kd.report.grid_page import grid_page
from fedjax_kd.report.grid_results import read_comparison
from fedjax_kd.report.pictures import PICTURES, ROUNDS_PICTURES, Picture
from fedjax_kd.report.policy_table import (
    policy_table_csv,
    policy_table_latex,
    policy_table_markdown,
)
from fedjax_kd.report.results import Results, load_results
from fedjax_kd.report.rounds_context import rounds_context
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.rounds_sections import rounds_plans
from fedjax_kd.report.sections import PLANS, Plan, fill


def render_report(
    results: Path | str | Sequence[Path | str],
    output: Path | None = None,
    *,
    targets: Sequence[float] = (),
    tables: Path | None = None,
    pictures: Path | None = None,
) -> Path:
    """Writes the report of a study, of a grid or of several of them as one HTML file.

    The file opens offline. Reads only result tables and manifests; the same results give the same
    bytes. The file is written beside its place and then moved there, so no reader meets half of it.

    Args:
        results: the folder of one finished study or of a grid, which need not be finished; or
            several of them, which are compared.
        output: the file to write; `report.html` in the folder if not given.
        targets: accuracies, above 0 and at most 1; a comparison says what it cost to reach them.
        tables: where to write each table as CSV and LaTeX too; made if absent.
        pictures: where to write each picture as SVG too; made if absent.

    Returns:
        The path of the file.

    Raises:
        ReportError: a folder holds no study or grid in a known format, a table is broken, a target
            is no accuracy or is given for a single study, or several folders have no output.
    """
    folders = [Path(each) for each in ([results] if isinstance(results, (str, Path)) else results)]
    for target in targets:
        if not 0 < target <= 1:
            raise ReportError(f"target: found {target!r}; allowed: a number above 0, at most 1")
    if len(folders) != 1 or (folders[0] / "grid.json").is_file():
        return _compare(folders, output, targets, tables, pictures)
    if targets:
        raise ReportError(
            f"target: {folders[0]} is a single study, whose report compares costs at a share of "
            "the best; allowed: a grid, or several folders"
        )
    study = load_results(folders[0])
    target = Path(output) if output is not None else study.folder / "report.html"
    text = _environment().get_template("report.html.jinja").render(_context(study))
    if tables is not None:
        save_tables(folders[0], tables)
    if pictures is not None:
        save_pictures(folders[0], pictures)
    write_whole(target, text.encode("utf-8"))
    return target


def _compare(
    folders: list[Path],
    output: Path | None,
    targets: Sequence[float],
    tables: Path | None,
    pictures: Path | None,
) -> Path:
    if not folders:
        raise ReportError("results: found no folder; allowed: at least one")
    if output is None and len(folders) > 1:
        raise ReportError(
            "output: none is given; several folders need one, e.g. --output both.html"
        )
    comparison = read_comparison(folders)
    target = Path(output) if output is not None else folders[0] / "report.html"
    places = [None if each is None else Path(each) for each in (tables, pictures)]
    text = grid_page(comparison, _environment(), targets, *places)
    write_whole(target, text.encode("utf-8"))
    return target


def save_tables(results_dir: Path, out_dir: Path) -> list[Path]:
    """Writes the comparison of a single study as CSV and LaTeX.

    Args:
        results_dir: the folder of one finished study.
        out_dir: where to write; made if absent.

    Returns:
        The files written; none where the study has no summary.

    Raises:
        ReportError: as `render_report`.
    """
    if not policy_table_markdown(results_dir):
        return []
    written = []
    texts = {"csv": policy_table_csv(results_dir), "tex": policy_table_latex(results_dir)}
    for suffix, text in texts.items():
        path = Path(out_dir) / f"comparison.{suffix}"
        write_whole(path, text.encode("utf-8"))
        written.append(path)
    return written


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
            write_whole(path, content)
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
