"""What the README shows works as it stands there."""

import re
from pathlib import Path

import pytest

from fedjax_kd.study.check import check_study
from fedjax_kd.study.grid.rows import rows_of
from fedjax_kd.study.grid.settings import grid_from_dict, load_grid
from fedjax_kd.study.load import load_settings, settings_from_text
from fedjax_kd.study.yaml_text import read_yaml

TOP = Path(__file__).parent.parent
TEXT = (TOP / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_settings_are_valid(block):
    if "method:" in block:
        check_study(settings_from_text(block))
    else:
        grid = grid_from_dict(read_yaml(block), beside=TOP / "experiments/grids")
        assert {row.problem for row in rows_of(grid)} == {None}


@pytest.mark.parametrize("block", blocks("python"))
def test_library_examples_run(block, capsys):
    exec(compile(block, "README.md", "exec"), {})
    assert "nan" not in capsys.readouterr().out


def test_links_and_files_that_are_named_exist():
    named = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    named += re.findall(r"(?:experiments|scripts|fedjax_kd)/[\w/]+\.(?:yaml|sh|py)", TEXT)
    assert named
    for name in named:
        assert (TOP / name).exists(), name


CONDITIONS = sorted((TOP / "experiments").rglob("conditions.yaml"))
GRIDS = sorted((TOP / "experiments/grids").glob("*.yaml"))
SETTINGS = sorted(set((TOP / "experiments").rglob("*.yaml")) - set(CONDITIONS) - set(GRIDS))


@pytest.mark.parametrize("path", SETTINGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_committed_settings_files_are_valid_and_say_how_to_run_them(path):
    check_study(load_settings(path))
    assert f"fedjax-kd run {path.relative_to(TOP)}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.stem)
def test_committed_grids_are_valid_and_say_how_to_run_them(path):
    refused = {row.index for row in rows_of(load_grid(path)) if row.problem}
    assert refused <= ({6, 7} if path.stem == "poisoned" else set())
    assert f"fedjax-kd sweep {path.relative_to(TOP)}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CONDITIONS, ids=lambda p: str(p.parent.relative_to(TOP)))
def test_every_condition_of_the_committed_results_is_valid(path):
    plan = read_yaml(path.read_text(encoding="utf-8"))
    for condition in plan["conditions"]:
        check_study(load_settings(path.parent / plan["settings"], condition.get("set", [])))
