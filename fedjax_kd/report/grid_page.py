"""The page of a grid or of several runs, and its tables and pictures as files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment
from markupsafe import Markup

from fedjax_kd.report.drawing import LAYOUTS, inline_svg, picture_style, svg_document
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.files import write_whole
from fedjax_kd.report.grid_names import scope_title, setting_text
from fedjax_kd.report.grid_remarks import lead_text, notices, overview
from fedjax_kd.report.grid_results import Comparison
from fedjax_kd.report.grid_sections import GridSection, fill, grid_plans
from fedjax_kd.report.grid_statistics import RESAMPLES
from fedjax_kd.report.grid_table_files import GridTable, csv_text, data_uri, latex_text
from fedjax_kd.report.grid_values import Findings, findings_of
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.page_context import flat
from fedjax_kd.report.pictures import Picture
from fedjax_kd.report.pictures.grid_catalog import grid_pictures

_CARDS = 4


class Drawn(NamedTuple):
    """One picture: the SVG elements of the page, and the file of the wide layout."""

    name: str
    button: str  # what the button says that shows it, where pictures are alternatives
    caption: str
    wide: Markup
    narrow: Markup
    document: str

    @property
    def link(self) -> str:
        """A link that holds the file."""
        return data_uri(self.document, "image/svg+xml")


class Linked(NamedTuple):
    """A table with links that hold it as CSV and LaTeX."""

    table: GridTable
    csv: str
    latex: str


def grid_page(
    comparison: Comparison,
    environment: Environment,
    targets: Sequence[float] = (),
    tables: Path | None = None,
    pictures: Path | None = None,
) -> str:
    """The page's text.

    Args:
        comparison: what was read.
        environment: where the templates are.
        targets: accuracies to be reached, as fractions.
        tables: where to write each table as CSV and LaTeX too; made if absent.
        pictures: where to write each picture as SVG too; made if absent.
    """
    findings = findings_of(comparison)
    drawn: dict[str, Drawn] = {}
    catalog = grid_pictures(findings)

    def draws(name: str) -> str:
        try:
            drawn[name] = _drawn(findings, name, catalog)
        except NothingToShow as reason:
            return str(reason)
        return ""

    plans = grid_plans(findings, targets, list(catalog))
    sections = [fill(plan, draws) for plan in plans]
    for folder, files in ((tables, _table_files(sections)), (pictures, _picture_files(drawn))):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                write_whole(folder / name, text.encode("utf-8"))
    template = environment.get_template("grid.html.jinja")
    return template.render(_context(findings, sections, drawn))


def _drawn(findings: Findings, name: str, catalog: dict[str, Picture]) -> Drawn:
    picture, elements, files = catalog[name], [], []
    for layout in LAYOUTS:
        with picture_style():
            files.append(svg_document(picture.draw(findings, layout)))
        prefix = f"g{list(catalog).index(name)}{layout.name[0]}"
        elements.append(Markup(inline_svg(files[-1], prefix, picture.label)))
    button = name.partition("-")[2].replace("-", " ").capitalize()
    return Drawn(name, button, picture.caption, elements[0], elements[1], files[0])


def _table_files(sections: Sequence[GridSection]) -> dict[str, str]:
    tables = [table for section in sections for table in section.tables]
    files = {}
    for table in tables:
        files[f"{table.name}.csv"] = csv_text(table)
        files[f"{table.name}.tex"] = latex_text(table)
    return files


def _picture_files(drawn: dict[str, Drawn]) -> dict[str, str]:
    return {f"{name}.svg": picture.document for name, picture in drawn.items()}


def _context(
    findings: Findings, sections: list[GridSection], drawn: dict[str, Drawn]
) -> dict[str, Any]:
    comparison = findings.comparison
    return {
        "kind": "Grid" if len(comparison.sources) == 1 else "Comparison",
        "title": comparison.title,
        "lead": lead_text(findings),
        "overview": overview(findings),
        "notices": notices(comparison),
        "cards": _cards(findings),
        "resamples": RESAMPLES,
        "settings": [
            (" ".join([source.name, name]).strip(), flat(settings))
            for source in comparison.sources
            for name, settings in source.studies.items()
        ],
        "sections": [
            {
                "plan": section.plan,
                "pictures": [drawn[name] for name in section.pictures],
                "tables": [_linked(table) for table in section.tables],
                "missing": section.missing,
            }
            for section in sections
        ],
    }


def _linked(table: GridTable) -> Linked:
    return Linked(
        table,
        data_uri(csv_text(table), "text/csv"),
        data_uri(latex_text(table), "application/x-tex"),
    )


def _cards(findings: Findings) -> list[dict[str, str]]:
    """The best scopes, each at its best setting."""
    percent = scale_for("fraction", [1.0])
    cards = []
    for best in sorted(findings.best, key=lambda best: -best.estimate.value)[:_CARDS]:
        value, low, high, seeds = best.estimate
        interval = "" if low != low else f"{percent.text(low)} to {percent.text(high)} %"
        cards.append(
            {
                "title": scope_title(findings.comparison, best.scope),
                "value": percent.with_unit(value),
                "interval": interval,
                "seeds": f"{seeds} seed{'s' * (seeds != 1)}",
                "setting": setting_text(
                    findings.comparison, best.point, findings.naming_axes(best.scope)
                ),
            }
        )
    return cards
