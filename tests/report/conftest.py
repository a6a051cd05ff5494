"""One made-up study and its report, drawn once for all tests of this room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from grid_synthetic import GridSize, write_grid
from matplotlib.figure import Figure
from report_synthetic import STUDENTS, Size, write_results
from rounds_synthetic import RoundsSize, write_rounds

from fedjax_kd.report import render_report
from fedjax_kd.report.drawing import WIDE, Draw, Layout
from fedjax_kd.report.pictures import PICTURES, ROUNDS_PICTURES
from fedjax_kd.report.results import Results

SPECIAL_PICTURES = ("distillation", "cycle", "mixing")


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 3 seeds, 20 users, 5 students and 11 policies; tests must not change it."""
    return write_results(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def report(study: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of the study's report."""
    output = tmp_path_factory.mktemp("report") / "report.html"
    return render_report(study, output).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick folder: 2 seeds, 3 users, 2 students, 3 policies."""
    size = Size(
        seeds=(0, 1),
        users=3,
        students=STUDENTS[:2],
        policies=("q_learning", "all_device", "all_server"),
        classes=("zero", "one", "two"),
    )
    return write_results(tmp_path_factory.mktemp("small"), size)


@pytest.fixture(scope="session")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of made-up studies in rounds by method: 3 seeds, 10 users; tests must not change."""
    base = tmp_path_factory.mktemp("rounds")

    def folder(method: str) -> Path:
        made = base / method
        return made if made.exists() else write_rounds(made, RoundsSize(method=method, users=10))

    return folder


@pytest.fixture(scope="session")
def rounds_report(
    rounds: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """The text of each method's report, drawn once.

    The pages of family and pfedafm have all pictures; those of others only what is special in them,
    with empty pictures in place of those that all pages have.
    """
    base = tmp_path_factory.mktemp("rounds_reports")

    def text(method: str) -> str:
        path = base / f"{method}.html"
        if not path.exists():
            with pytest.MonkeyPatch.context() as patch:
                for name, picture in ROUNDS_PICTURES.items():
                    if method not in ("family", "pfedafm") and name not in SPECIAL_PICTURES:
                        blank = picture._replace(draw=_keep_blank(None))
                        patch.setitem(ROUNDS_PICTURES, name, blank)
                render_report(rounds(method), path)
        return path.read_text(encoding="utf-8")

    return text


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unfinished grid with failures: 5 seeds, 4 contestants; tests must not change it."""
    return write_grid(tmp_path_factory.mktemp("grids") / "grid", GridSize(pending=3))


@pytest.fixture(scope="session")
def grid_report(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the grid's report, with tables and pictures in folders beside it."""
    base = tmp_path_factory.mktemp("grid_report")
    places = {"tables": base / "tables", "pictures": base / "pictures"}
    return render_report(grid, base / "report.html", targets=[0.7], **places)


def _keep_blank(draw: Draw | None) -> Draw:
    def blank(results: Results, layout: Layout) -> Figure:
        if draw is not None and layout == WIDE:
            draw(results, layout)
        return Figure(figsize=(1, 1))

    return blank


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts an empty picture in place of each."""
    for pictures in (PICTURES, ROUNDS_PICTURES):
        for name, picture in pictures.items():
            monkeypatch.setitem(pictures, name, picture._replace(draw=_keep_blank(None)))


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws each picture once but keeps an empty one: writing SVG is what takes the time."""
    for pictures in (PICTURES, ROUNDS_PICTURES):
        for name, picture in pictures.items():
            blank = picture._replace(draw=_keep_blank(picture.draw))
            monkeypatch.setitem(pictures, name, blank)


@pytest.fixture
def drafts(quick_pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `quick_pictures`, without finding places for the axes: whether there is one to draw."""
    monkeypatch.setattr("fedjax_kd.report.pictures.rounds_catalog.settled", lambda figure: figure)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Copies a folder, so that a test may change it."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "copy"))

    return copy
