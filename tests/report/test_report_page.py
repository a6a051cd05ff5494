"""The HTML report: complete, offline, escaped, the same every time, and graceful without tables."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pandas as pd
import pytest
from report_synthetic import POLICIES, STUDENTS, Size, write_results

from fedjax_kd.report import render_report, save_pictures
from fedjax_kd.report.pictures import PICTURES
from fedjax_kd.report.sections import PLANS

VOID = {"meta", "br", "hr", "img", "link", "input", "col", "wbr"}


class Page(HTMLParser):
    """Collects tags and attributes, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script", "svg"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(report: str) -> Page:
    return Page(report)


def small_page(folder: Path) -> Page:
    return Page(render_report(folder).read_text(encoding="utf-8"))


def test_page_is_well_formed_and_has_every_section_and_picture(page: Page):
    assert page.open == []
    sections = [each["id"] for each in page.all("section")]
    assert sections == [*(plan.name for plan in PLANS), "notes"]
    assert len(page.all("svg")) == 2 * len(PICTURES)
    for plan in PLANS:
        assert plan.title in page.text
    assert "class" in page.all("p")[0]
    assert not [each for each in page.all("p") if each.get("class") == "missing"]


def test_every_policy_and_student_is_named(page: Page):
    for name in ("Q-learning (proposed)", "All on devices", "FedAvg (smallest)", *STUDENTS):
        assert name in page.text
    rows = [each for each in page.all("tr") if each.get("class") == "proposed"]
    assert len(rows) == 1


def test_nothing_is_fetched_from_elsewhere(report: str, page: Page):
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), value
    assert page.all("link") == []
    assert "@import" not in report
    assert not re.findall(r"url\((?!#)[^)]*\)", report)
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", report)
    assert not re.findall(r"https?://", without_namespaces)


def test_file_stays_small_and_ids_are_unique_and_resolved(report: str, page: Page):
    assert len(report.encode()) < 3_000_000
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for _, a in page.tags if (a.get("href") or "").startswith("#")}  # type: ignore[index]
    wanted |= set(re.findall(r"url\(#([^)]*)\)", report))
    assert wanted <= set(ids)


def test_page_reads_without_scripts(report: str):
    """Everything is in the markup: the only script sorts tables and puts its buttons in itself."""
    page = Page(re.sub(r"<script>.*?</script>", "", report, flags=re.DOTALL))
    assert page.open == []
    assert page.all("button") == []
    assert page.text.count("Q-learning (proposed)") >= 3
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]


def test_every_picture_has_words_for_those_who_do_not_see_it(page: Page):
    assert {each.get("aria-label") for each in page.all("svg")} == {
        picture.label for picture in PICTURES.values()
    }
    for picture in PICTURES.values():
        assert picture.caption in page.text


def test_same_results_give_the_same_bytes(small: Path, tmp_path: Path):
    first = render_report(small, tmp_path / "a.html").read_bytes()
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "other"}):
        second = render_report(small, tmp_path / "deep" / "b.html").read_bytes()
        assert matplotlib.rcParams["font.size"] == 20
    assert first == second
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.html", "deep"]


@pytest.mark.usefixtures("blank_pictures")
def test_default_place_and_replacement(small: Path, copy_of):
    folder = copy_of(small)
    (folder / "report.html").write_text("old")
    before = {each.name for each in folder.iterdir()}
    assert render_report(folder) == folder / "report.html"
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert {each.name for each in folder.iterdir()} == before


@pytest.mark.usefixtures("blank_pictures")
def test_interrupted_writing_keeps_the_old_report(small: Path, copy_of, monkeypatch):
    folder = copy_of(small)
    (folder / "report.html").write_text("old")

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        render_report(folder)
    assert (folder / "report.html").read_text() == "old"
    assert not list(folder.glob(".*partial"))


def test_hostile_names_are_escaped(small: Path, copy_of):
    hostile = '</title><script>alert("x")</script><img src=x onerror=y> $\\frac{ 你 & 100%'
    folder = copy_of(small)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["title"] = hostile
    manifest["settings"]["data"]["source"] = hostile
    manifest["versions"][hostile] = hostile
    manifest["students"][0]["label"] = hostile
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for name in ("decisions", "accuracy_table"):
        table = pd.read_parquet(folder / f"{name}.parquet")
        table["student"] = table["student"].replace(STUDENTS[0], hostile)
        table.to_parquet(folder / f"{name}.parquet", index=False)
    table = pd.read_parquet(folder / "partition.parquet")
    table["class_name"] = table["class_name"].replace("zero", hostile)
    table.to_parquet(folder / "partition.parquet", index=False)
    page = small_page(folder)
    assert page.open == []
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert hostile in page.text


@pytest.mark.parametrize(
    ("table", "sections", "sentence"),
    [
        ("frontier.parquet", {"frontier"}, "swept no delay weights"),
        ("decisions.parquet", {"decisions"}, "no decisions"),
        ("ledger.parquet", {"costs"}, "no ledger"),
        ("accuracy_table.parquet", {"accuracy-table"}, "no accuracy table"),
        ("partition.parquet", {"partition"}, "who holds which"),
        ("metrics.parquet", {"learning", "teacher"}, "no learning curve"),
        ("summary.csv", {"comparison"}, "no summary of the policies"),
    ],
)
@pytest.mark.usefixtures("quick_pictures")
def test_missing_table_becomes_a_sentence(small: Path, copy_of, table, sections, sentence):
    """Its own section says so; the others keep their pictures."""
    folder = copy_of(small)
    (folder / table).unlink()
    text = render_report(folder).read_text(encoding="utf-8")
    parts = dict(re.findall(r'<section id="([^"]*)">(.*?)</section>', text, flags=re.DOTALL))
    assert sentence in text
    for name, part in parts.items():
        assert ('class="missing"' in part) == (name in sections), name
        assert ("<svg" in part) == (name not in sections and name != "notes"), name


def test_empty_tables_are_as_good_as_missing(small: Path, copy_of):
    folder = copy_of(small)
    for path in folder.glob("*.parquet"):
        pd.read_parquet(path).iloc[:0].to_parquet(path, index=False)
    (folder / "summary.csv").write_text("policy\n")
    page = small_page(folder)
    assert page.all("svg") == []
    missing = [each for each in page.all("p") if each.get("class") == "missing"]
    assert (
        len(missing) == len(PLANS) + 2
    )  # the head, and students beside the accuracy table or less


@pytest.mark.parametrize(
    "size",
    [
        Size(
            seeds=(7,),
            users=1,
            students=STUDENTS[:1],
            policies=("q_learning",),
            classes=("only",),
            title="",
        ),
        Size(
            seeds=(0, 3),
            users=70,
            students=STUDENTS[:2],
            policies=("q_learning", "a_policy_of_my_own"),
            classes=tuple(f"class {i}" for i in range(30)),
        ),
    ],
    ids=["one of each", "many users and classes"],
)
@pytest.mark.usefixtures("quick_pictures")
def test_other_sizes_draw_without_warnings(tmp_path: Path, size: Size):
    folder = write_results(tmp_path / "study", size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = small_page(folder)
    assert len(page.all("svg")) == 2 * len(PICTURES)
    if not size.title:
        assert "A DT-KD study" in page.text
        assert "±" not in "".join(page.words[: page.words.index("Notes")])


def test_pictures_are_saved_for_readers_elsewhere(small: Path, copy_of, tmp_path: Path):
    folder = copy_of(small)
    (folder / "frontier.parquet").unlink()
    files = save_pictures(folder, tmp_path / "pictures")
    names = [name.replace("_", "-") for name in PICTURES if name != "frontier"]
    assert [path.name for path in files] == [f"{n}{end}" for n in names for end in (".svg", ".png")]
    for path in files:
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            ElementTree.fromstring(text)
            assert "dc:date" not in text
        else:
            assert path.read_bytes().startswith(b"\x89PNG")


def test_report_room_imports_no_numeric_engine():
    code = (
        "import sys, fedjax_kd.report;"
        "print(sorted({'jax', 'flax', 'optax', 'fedjax_kd.study'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_fixture_covers_all_policies(report: str):
    assert len(POLICIES) == 11
    assert report.count('scope="row" data-sort') == 11
