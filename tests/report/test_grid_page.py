"""The page of a grid or several runs: complete, offline, the same every time, honest on gaps."""

from __future__ import annotations

import base64
import json
import re
import warnings
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from grid_synthetic import GridSize, write_grid
from matplotlib.figure import Figure
from rounds_synthetic import RoundsSize, write_rounds
from test_rounds_report_page import Tags, sections_of

from fedjax_kd.report import ReportError, render_report
from fedjax_kd.report.drawing import WIDE
from fedjax_kd.report.pictures import Picture
from fedjax_kd.report.pictures.grid_catalog import grid_pictures

SECTIONS = [
    *("swept", "failures", "best", "curves", "effects", "fronts", "targets", "users", "all"),
    "notes",
]


@pytest.fixture(scope="module")
def text(grid_report: Path) -> str:
    return grid_report.read_text(encoding="utf-8")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws each picture once but keeps an empty one: writing SVG is what takes the time."""

    def blanks(findings) -> dict[str, Picture]:
        def blank(picture: Picture) -> Picture:
            def draw(results, layout) -> Figure:
                if layout == WIDE:
                    picture.draw(results, layout)
                return Figure(figsize=(1, 1))

            return picture._replace(draw=draw)

        return {name: blank(each) for name, each in grid_pictures(findings).items()}

    monkeypatch.setattr("fedjax_kd.report.grid_page.grid_pictures", blanks)


def words_of(path: Path) -> str:
    return Tags(path.read_text(encoding="utf-8")).text


def test_page_has_every_section_and_nothing_from_elsewhere(text: str):
    page = Tags(text)
    assert page.open == []
    assert list(sections_of(text)) == SECTIONS
    assert 'class="missing"' not in text
    assert text.startswith("<!DOCTYPE html>")
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 2 * 9
    ids = [each["id"] for _, each in page.tags if "id" in each]
    assert len(ids) == len(set(ids))
    links = [each.get("href") or "" for _, each in page.tags]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), value
    assert not re.findall(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", text))
    assert len(text.encode()) < 3_000_000


def test_what_is_missing_is_said_first(text: str):
    head = Tags(text.split("<nav")[0] + "</body></html>").text
    assert "This grid is not finished: of 50 rows: 37 done, 10 failed, 3 pending." in head
    assert "10 rows failed: the training diverged (10)." in head
    words = Tags(text).text
    assert "the loss of FedAvg (seed 3) is not finite after round 1" in words
    assert "learning rate 1e+09, partition dirichlet (alpha 0.1)" in words
    assert "Of 2 of the 10 points, every seed failed." in words
    assert "that flatters" in words


def test_page_reads_without_scripts(text: str):
    page = Tags(re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))
    assert page.open == []
    assert not [tag for tag, _ in page.tags if tag == "button"]
    assert not [each for _, each in page.tags if "hidden" in each]
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]
    assert len(re.findall(r'<figure id="picture-curves-', text)) == 4


def test_links_hold_the_files_beside(text: str, grid_report: Path):
    links = re.findall(r'download="([^"]*)" href="data:([^;]*);charset=utf-8;base64,([^"]*)"', text)
    beside = grid_report.parent
    files = {f.name: f for d in ("tables", "pictures") for f in (beside / d).iterdir()}
    assert {name for name, _, _ in links} == set(files)
    for name, kind, content in links:
        held = base64.b64decode(content).decode()
        assert held == files[name].read_text(encoding="utf-8")
        suffix = name.rsplit(".", 1)[1]
        if suffix == "svg":
            assert kind == "image/svg+xml"
            ElementTree.fromstring(held)
        elif suffix == "csv":
            assert len(pd.read_csv(files[name])) > 0
        else:
            assert held.startswith(r"\begin{tabular}")
    assert "all-settings.csv" in files
    assert "fronts.svg" in files


def test_same_results_give_the_same_bytes(grid: Path, text: str, tmp_path: Path):
    again = render_report(grid, tmp_path / "again.html", targets=[0.7])
    assert again.read_text(encoding="utf-8") == text


@pytest.mark.usefixtures("quick")
def test_policies_have_bars_for_curves(tmp_path: Path):
    axes = {"objective.delay_weight": [0.0, 0.1, 1.0]}
    size = GridSize(method="dt_kd", axes=axes, seeds=(0, 1, 2))
    path = render_report(write_grid(tmp_path / "grid", size))
    assert path == tmp_path / "grid" / "report.html"
    text = path.read_text(encoding="utf-8")
    sections = sections_of(text)
    assert "<svg" in sections["policies"]
    assert not {"curves", "targets", "failures"} & set(sections)
    assert 'class="missing"' not in text
    assert "Q-learning (proposed)" in Tags(text).text


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (GridSize(axes={"training.learning_rate": [0.1]}, seeds=(3,)), "no setting has an effect"),
        (GridSize(seeds=(0, 1), contestants=1), "With fewer than 3 seeds"),
        (GridSize(axes={"training.learning_rate": [1e9]}, seeds=(0,)), "No row is done yet"),
        (GridSize(axes={"a.b": ["x", "y"]}, seeds=(0, 1, 2), pending=6), "No row is done yet"),
    ],
    ids=["one point, one seed", "two seeds", "all failed", "nothing done"],
)
@pytest.mark.usefixtures("quick")
def test_small_and_empty_grids(tmp_path: Path, size: GridSize, words: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = words_of(render_report(write_grid(tmp_path / "grid", size)))
    assert words in text
    assert "nan" not in text.lower().split()


@pytest.mark.usefixtures("quick")
def test_big_grid_stays_usable(tmp_path: Path):
    """A hundred and more points: the page shows the first rows, the files all of them."""
    rates = [round(0.001 * 1.7**i, 5) for i in range(11)]
    axes = {"training.learning_rate": rates, "training.momentum": [i / 10 for i in range(10)]}
    size = GridSize(axes=axes, seeds=(0, 1, 2), contestants=2, rounds=4, every=2)
    folder = write_grid(tmp_path / "grid", size)
    path = render_report(folder, tables=tmp_path / "tables")
    assert "The first 200 of 220 rows; the files hold all." in words_of(path)
    assert len(pd.read_csv(tmp_path / "tables" / "all-settings.csv")) == 220


@pytest.mark.usefixtures("quick")
def test_several_runs_are_compared(tmp_path: Path):
    sizes = {
        "first": RoundsSize(method="family", users=5, rounds=8, title="First"),
        "second": RoundsSize(
            method="dfml", users=6, rounds=8, diverged=("def_kt",), title="Second"
        ),
    }
    folders = [write_rounds(tmp_path / name, size) for name, size in sizes.items()]
    path = render_report(folders, tmp_path / "both.html")
    text = words_of(path)
    assert "First and Second" in text
    assert "In which settings they differ" in text
    assert "data.users" in text
    assert "second: Def-KT diverged: the loss of seed 1 is not finite after round 3." in text
    assert "<svg" in sections_of(path.read_text(encoding="utf-8"))["curves"]
    with pytest.raises(ReportError, match="output: none is given"):
        render_report(folders)


@pytest.mark.usefixtures("quick")
def test_damaged_batches_are_said(grid: Path, copy_of):
    folder = copy_of(grid)
    batch = sorted((folder / "batches").iterdir())[0]
    (batch / "metrics.parquet").write_bytes(b"torn")
    text = words_of(render_report(folder))
    assert "Left out:" in text
    assert batch.name in text


@pytest.mark.usefixtures("quick")
def test_hostile_names_are_escaped(grid: Path, copy_of):
    hostile = '</title><script>alert("x")</script> $\\frac{ 你 & 100%'
    folder = copy_of(grid)
    told = json.loads((folder / "grid.json").read_text())
    (folder / "grid.json").write_text(json.dumps({**told, "title": hostile}))
    for path in folder.glob("batches/*/manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["contestants"][0]["title"] = hostile
        path.write_text(json.dumps(manifest))
    rows = pd.read_csv(folder / "rows.csv", dtype=str)
    rows["data.partition"] = rows["data.partition"].replace('{"kind": "iid"}', hostile)
    rows.to_csv(folder / "rows.csv", index=False)
    page = Tags(render_report(folder).read_text(encoding="utf-8"))
    assert page.open == []
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
    assert hostile in page.text


@pytest.mark.usefixtures("blank_pictures")
def test_tables_and_pictures_of_a_single_run(small: Path, tmp_path: Path):
    places = {"tables": tmp_path / "tables", "pictures": tmp_path / "pictures"}
    render_report([small], tmp_path / "report.html", **places)  # pyright: ignore
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        "comparison.csv",
        "comparison.tex",
    }
    assert list((tmp_path / "pictures").glob("*.svg"))
    with pytest.raises(ReportError, match=r"target: .* is a single study"):
        render_report(small, targets=[0.5])


@pytest.mark.parametrize("target", [0.0, 1.5, float("nan")])
def test_targets_are_checked(grid: Path, target: float):
    with pytest.raises(ReportError, match=r"target: found .*; allowed: a number above 0"):
        render_report(grid, targets=[target])


def test_no_folder_is_refused():
    with pytest.raises(ReportError, match="found no folder"):
        render_report([])
