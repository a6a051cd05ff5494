"""Reports in a real browser, narrow and wide: nothing fails, nothing is asked of the network."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grid_synthetic import GridSize, write_grid

from fedjax_kd.report import render_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (390, 1440)


def browser_path() -> str | None:
    """Where Chromium is: as the environment says, in its usual place, or on the path."""
    given = os.environ.get("FEDJAX_KD_CHROMIUM")
    found = [given] if given else ["/usr/bin/chromium", *map(shutil.which, NAMES)]
    return next((each for each in found if each and Path(each).exists()), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = browser_path()
    if path is None:
        pytest.skip("no Chromium found: set FEDJAX_KD_CHROMIUM to its path, or install it")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(grid_report: Path, report: str, rounds_report, tmp_path_factory) -> dict[str, Path]:
    """Files of every kind of page."""
    base = tmp_path_factory.mktemp("pages")
    files = {"grid": grid_report}
    for name, text in (("dt_kd", report), ("family", rounds_report("family"))):
        files[name] = base / f"{name}.html"
        files[name].write_text(text, encoding="utf-8")
    size = GridSize(method="dt_kd", axes={"objective.delay_weight": [0.0, 0.1]}, seeds=(0, 1, 2))
    policies = write_grid(base / "policies", size)
    files["policies"] = render_report(policies, base / "policies.html")
    return files


class Visit:
    """One page in one window, with everything that went wrong on it."""

    def __init__(self, browser: Any, path: Path, width: int, **options: Any) -> None:
        size = {"width": width, "height": 900}
        self.context = browser.new_context(viewport=size, accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())


@pytest.fixture(scope="module")
def visit(browser: Any, reports: dict[str, Path]) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def opened(name: str, width: int = 1440, **options: Any) -> Visit:
        visits.append(Visit(browser, reports[name], width, **options))
        return visits[-1]

    yield opened
    for each in visits:
        each.context.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["grid", "policies", "dt_kd", "family"])
def test_page_is_whole_on_narrow_and_wide_screens(visit, reports, name: str, width: int):
    seen = visit(name, width)
    for button in seen.page.query_selector_all(".switch button"):
        button.click()
    assert seen.wrong == []
    assert seen.asked == [reports[name].as_uri()]
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    figures = seen.page.query_selector_all("figure:not([hidden])")
    assert figures
    for figure in figures:
        drawn = [each for each in figure.query_selector_all("svg") if each.is_visible()]
        assert len(drawn) == 1
        box = drawn[0].bounding_box()
        assert box["width"] > min(300, width / 2)
        assert box["height"] > 60
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    for table in seen.page.query_selector_all("table"):
        inside = table.evaluate("t => t.parentElement.clientWidth <= document.body.clientWidth")
        assert inside


def column(page: Any, table: str, place: int) -> list[str]:
    cells = f"{table} tbody tr td:nth-child({place})"
    return page.eval_on_selector_all(cells, "cells => cells.map(cell => cell.dataset.sort)")


def test_tables_are_sorted_by_click_and_by_keyboard(visit):
    page = visit("grid").page
    table = "#all table"
    heads = page.eval_on_selector_all(f"{table} th", "heads => heads.map(h => h.textContent)")
    place = heads.index("Personal, last [%]") + 1
    head = page.query_selector(f"{table} th:nth-child({place})")
    assert head.get_attribute("aria-sort") == "none"
    page.click(f"{table} th:nth-child({place}) button")
    assert head.get_attribute("aria-sort") == "ascending"
    rising = [float(each) for each in column(page, table, place)]
    assert rising == sorted(rising)
    assert len(set(rising)) > 5
    page.focus(f"{table} th:nth-child({place}) button")
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(each) for each in column(page, table, place)] == rising[::-1]
    page.focus(f"{table} th:nth-child(1) button")
    page.keyboard.press("Space")
    names = column(page, table, 1)
    assert names == sorted(names, key=str.lower)
    assert head.get_attribute("aria-sort") == "none"


def test_tables_of_single_studies_are_sorted_too(visit):
    page = visit("family").page
    page.click("table.policies th:nth-child(2) button")
    cells = "table.policies tbody td:nth-child(2)"
    values = page.eval_on_selector_all(cells, "cells => cells.map(cell => +cell.dataset.sort)")
    assert values == sorted(values)
    assert len(set(values)) > 2


def test_buttons_switch_what_curves_are_drawn_against(visit):
    page = visit("grid").page
    names = page.eval_on_selector_all(".switch button", "all => all.map(b => b.textContent)")
    assert names == ["Rounds", "Seconds", "Joules", "Bits"]

    def shown() -> list[str]:
        return page.eval_on_selector_all(
            ".switch figure", "all => all.filter(f => f.offsetHeight > 0).map(f => f.id)"
        )

    assert shown() == ["picture-curves-rounds"]
    page.click("text=Joules")
    assert shown() == ["picture-curves-joules"]
    page.focus(".switch button:nth-of-type(4)")
    page.keyboard.press("Enter")
    assert shown() == ["picture-curves-bits"]
    pressed = page.eval_on_selector_all(
        ".switch button", "all => all.map(b => b.getAttribute('aria-pressed'))"
    )
    assert pressed == ["false", "false", "false", "true"]


def test_without_scripts_all_curves_are_there(visit):
    seen = visit("grid", java_script_enabled=False)
    figures = seen.page.query_selector_all(".switch figure")
    assert len(figures) == 4
    assert all(figure.is_visible() for figure in figures)
    assert seen.page.query_selector_all("button") == []


def test_links_give_files(visit, reports):
    page = visit("grid").page
    hrefs = page.eval_on_selector_all(
        "a[download]", "all => all.map(a => [a.download, a.getAttribute('href')])"
    )
    assert len(hrefs) >= 20
    for name, href in hrefs:
        content = base64.b64decode(href.split("base64,")[1]).decode()
        starts = {"svg": "<?xml", "tex": r"\begin{tabular}", "csv": ""}[name.rsplit(".", 1)[1]]
        assert content.startswith(starts)
        assert len(content) > 40, name
    with page.expect_download() as waiting:
        page.click('a[download="best-settings.csv"]')
    saved = Path(waiting.value.path()).read_text(encoding="utf-8")
    beside = reports["grid"].parent / "tables" / "best-settings.csv"
    assert saved == beside.read_text(encoding="utf-8")


def test_dark_screens_have_dark_pages_with_light_pictures(visit):
    page = visit("grid", color_scheme="dark").page
    colour = "e => getComputedStyle(e).backgroundColor"
    dark = [int(part) for part in page.eval_on_selector("body", colour)[4:-1].split(",")]
    assert max(dark) < 60
    assert page.eval_on_selector(".sheet", colour) == "rgb(255, 255, 255)"
