"""The report of studies in rounds: every section of every method, and what it says of gaps."""

from __future__ import annotations

import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from rounds_synthetic import METHODS, RoundsSize, write_rounds

from fedjax_kd.report import (
    ReportError,
    policy_table_csv,
    policy_table_latex,
    policy_table_markdown,
    render_report,
    save_pictures,
)
from fedjax_kd.report.results import load_results
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.rounds_sections import rounds_plans

SPECIAL = {"on_device_kd": "distillation", "dfml": "cycle", "pfedafm": "mixing"}
VOID = {"meta", "br", "hr", "img", "link", "input", "col", "wbr"}


class Tags(HTMLParser):
    """Collects tags, attributes and words, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script", "svg"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def sections_of(text: str) -> dict[str, str]:
    return dict(re.findall(r'<section id="([^"]*)">(.*?)</section>', text, flags=re.DOTALL))


def read(folder: Path) -> RoundsResults:
    results = load_results(folder)
    assert isinstance(results, RoundsResults)
    return results


def edit_manifest(folder: Path, **fields) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("method", METHODS)
def test_page_has_every_section_and_nothing_from_elsewhere(method, rounds, rounds_report):
    folder, text = rounds(method), rounds_report(method)
    page = Tags(text)
    assert page.open == []
    plans = rounds_plans(read(folder))
    assert (SPECIAL.get(method) in {plan.name for plan in plans}) == (method in SPECIAL)
    assert list(sections_of(text)) == [*(plan.name for plan in plans), "notes"]
    drawn = sum(len(plan.pictures) for plan in plans)
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 2 * drawn
    assert 'class="missing"' not in text
    for made in METHODS[method]:
        assert made.title in page.text
    proposed = [each for tag, each in page.tags if tag == "tr" and each.get("class") == "proposed"]
    assert len(proposed) == 1
    assert len(text.encode()) < 3_000_000
    ids = [each["id"] for _, each in page.tags if "id" in each]
    assert len(ids) == len(set(ids))
    links = [each.get("href") or "" for _, each in page.tags]
    wanted = {link[1:] for link in links if link.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert wanted <= set(ids)
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), value
    assert not re.findall(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", text))


def test_same_results_give_the_same_bytes(rounds, rounds_report, tmp_path: Path):
    again = render_report(rounds("pfedafm"), tmp_path / "again.html")
    assert again.read_text(encoding="utf-8") == rounds_report("pfedafm")


@pytest.mark.parametrize(
    ("method", "table", "sections", "sentence"),
    [
        ("on_device_kd", "special.parquet", set(), ""),
        ("on_device_kd", "ledger.parquet", {"ledger"}, "no ledger"),
        ("on_device_kd", "clients.parquet", {"users"}, "no accuracies of the single users"),
        ("on_device_kd", "partition.parquet", {"partition"}, "who holds which"),
        ("on_device_kd", "summary.csv", {"comparison"}, "no summary of the contestants"),
        (
            "on_device_kd",
            "metrics.parquet",
            {"curves", "cost", "distillation"},
            "no accuracies of the proposed method",
        ),
        ("dfml", "special.parquet", {"cycle"}, "no cycle of the weight of distillation"),
        ("pfedafm", "mixing.parquet", {"mixing"}, "no mixing vectors"),
        ("pfedafm", "special.parquet", set(), ""),
    ],
)
@pytest.mark.usefixtures("drafts")
def test_missing_table_becomes_a_sentence(rounds, copy_of, method, table, sections, sentence):
    """Its own section says so; the others keep their pictures."""
    folder = copy_of(rounds(method))
    (folder / table).unlink()
    text = render_report(folder).read_text(encoding="utf-8")
    assert sentence in text
    for name, part in sections_of(text).items():
        assert ('class="missing"' in part) == (name in sections), name
        assert ("<svg" in part) == (name not in sections and name != "notes"), name


@pytest.mark.usefixtures("drafts")
def test_costs_that_were_not_taken_are_missed_in_their_section_only(rounds, copy_of):
    folder = copy_of(rounds("on_device_kd"))
    table = pd.read_parquet(folder / "metrics.parquet")
    table = table[~table["metric"].isin(["delay_s", "energy_j", "bits", "flops"])]
    table.to_parquet(folder / "metrics.parquet", index=False)
    text = render_report(folder).read_text(encoding="utf-8")
    assert "no costs over the rounds" in text
    missing = [name for name, part in sections_of(text).items() if 'class="missing"' in part]
    assert missing == ["cost"]


@pytest.mark.parametrize("method", METHODS)
def test_empty_tables_say_so_everywhere(rounds, copy_of, method):
    folder = copy_of(rounds(method))
    for path in folder.glob("*.parquet"):
        pd.read_parquet(path).iloc[:0].to_parquet(path, index=False)
    (folder / "summary.csv").write_text("contestant,view\n")
    edit_manifest(folder, contestants=[], users=[], models=[])
    text = render_report(folder).read_text(encoding="utf-8")
    assert "<svg" not in text
    for name, part in sections_of(text).items():
        assert name == "notes" or 'class="missing"' in part, name


@pytest.mark.usefixtures("drafts")
def test_diverged_contestant_is_said_and_left_out(tmp_path: Path):
    size = RoundsSize(method="dfml", users=10, diverged=("def_kt",))
    text = render_report(write_rounds(tmp_path / "study", size)).read_text(encoding="utf-8")
    assert "Def-KT diverged: the loss of seed 1 is not finite after round 3." in text
    assert "The expected order" in text
    parts = sections_of(text)
    assert "Def-KT" not in re.sub(r"<details>.*?</details>", "", parts["comparison"], flags=re.S)


@pytest.mark.usefixtures("drafts")
def test_diverged_reference_leaves_the_others(tmp_path: Path):
    size = RoundsSize(method="family", users=10, diverged=("local",))
    text = render_report(write_rounds(tmp_path / "study", size)).read_text(encoding="utf-8")
    assert "no accuracies of the reference, Local. Local diverged" in Tags(text).text
    assert "<svg" in sections_of(text)["cost"]


@pytest.mark.usefixtures("drafts")
def test_diverged_proposed_method_leaves_the_baselines(tmp_path: Path):
    size = RoundsSize(method="dfml", users=10, diverged=("dfml",))
    text = render_report(write_rounds(tmp_path / "study", size)).read_text(encoding="utf-8")
    assert "no accuracies of the proposed method. DFML diverged" in Tags(text).text
    parts = sections_of(text)
    assert "<svg" in parts["curves"]
    assert "<svg" in parts["cost"]


@pytest.mark.parametrize(
    "size",
    [
        RoundsSize(
            method="on_device_kd",
            seeds=(7,),
            users=2,
            rounds=1,
            every=1,
            contestants=1,
            classes=2,
            title="",
        ),
        RoundsSize(method="dfml", seeds=(0, 3), users=70, rounds=30, every=1, classes=30),
        RoundsSize(method="pfedafm", seeds=(5,), users=1, rounds=2, every=2, features=1),
    ],
    ids=["one of each", "many users", "one user"],
)
@pytest.mark.usefixtures("quick_pictures")
def test_other_sizes_draw_without_warnings(tmp_path: Path, size: RoundsSize):
    folder = write_rounds(tmp_path / "study", size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = render_report(folder).read_text(encoding="utf-8")
    assert 'class="missing"' not in text
    if len(size.seeds) == 1:
        assert "nothing is said about chance" in text
        assert "±" not in Tags(re.sub(r'<section id="notes">.*', "", text, flags=re.S)).text
    if not size.title:
        assert "A study of federated methods in rounds" in text


@pytest.mark.usefixtures("drafts")
def test_hostile_names_are_escaped(rounds, copy_of):
    hostile = '</title><script>alert("x")</script> $\\frac{ 你 & 100%'
    folder = copy_of(rounds("dfml"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["title"] = hostile
    manifest["contestants"][1]["title"] = hostile
    manifest["models"][0]["label"] = hostile
    for user in manifest["users"][::5]:
        user["model"] = hostile
    (folder / "manifest.json").write_text(json.dumps(manifest))
    page = Tags(render_report(folder).read_text(encoding="utf-8"))
    assert page.open == []
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
    assert hostile in page.text


def test_pictures_are_saved_for_readers_elsewhere(rounds, copy_of, tmp_path: Path):
    folder = copy_of(rounds("on_device_kd"))
    (folder / "ledger.parquet").unlink()
    files = save_pictures(folder, tmp_path / "pictures")
    names = [
        name.replace("_", "-")
        for plan in rounds_plans(read(folder))
        for name in plan.pictures
        if name != "ledger"
    ]
    assert [path.name for path in files] == [f"{n}{end}" for n in names for end in (".svg", ".png")]
    for path in files:
        if path.suffix == ".svg":
            ElementTree.fromstring(path.read_text(encoding="utf-8"))
        else:
            assert path.read_bytes().startswith(b"\x89PNG")


def test_comparison_as_text(rounds):
    folder = rounds("pfedafm")
    markdown = policy_table_markdown(folder)
    assert markdown.startswith("| Contestant | Personal, best [%] |")
    assert "| **pFedAFM** | " in markdown
    assert "| LG-FedAvg (own head) | " in markdown
    assert policy_table_latex(folder).count(r"\\") == 1 + len(read(folder).summary)
    table = pd.read_csv(Path(folder) / "summary.csv")
    lines = policy_table_csv(folder).splitlines()
    assert lines[0].startswith(
        "contestant,view,name,accuracy_personal_best,accuracy_personal_best_"
    )
    first = lines[1].split(",")
    assert first[:3] == ["pfedafm", "model", "pFedAFM"]
    assert float(first[3]) == table["accuracy_personal_best"][0]


def test_broken_tables_are_named(rounds, copy_of):
    folder = copy_of(rounds("dfml"))
    path = folder / "metrics.parquet"
    pd.read_parquet(path).drop(columns="scope").to_parquet(path, index=False)
    with pytest.raises(ReportError, match=r"metrics\.parquet: lacks the column 'scope'"):
        render_report(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("contestant,a\nx,1\n", "lacks the column 'view'"),
        (
            "contestant,view,a\nx,model,1\nx,model,2\n",
            "names the contestant and view 'x', 'model' twice",
        ),
    ],
)
def test_summary_is_checked(rounds, copy_of, text, message):
    folder = copy_of(rounds("dfml"))
    (folder / "summary.csv").write_text(text)
    with pytest.raises(ReportError, match=message):
        render_report(folder)
