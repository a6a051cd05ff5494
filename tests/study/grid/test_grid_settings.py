import json
import time
from typing import Any

import pytest

from fedjax_kd.study.grid import rows as rows_module
from fedjax_kd.study.grid.settings import grid_from_dict, grid_hash, grid_to_dict, load_grid
from fedjax_kd.study.problems import SettingsError
from fedjax_kd.study.yaml_text import read_yaml, write_yaml

STUDY = {"method": "family", "contestants": ["local", "fd"], "seeds": [3, 5]}


def rows_of(*arguments) -> list[Any]:
    return list(rows_module.rows_of(*arguments))


def grid_of(grid=(), **rest):
    return grid_from_dict({"study": STUDY, "grid": grid, **rest})


def test_rows_are_points_times_seeds_in_the_order_of_the_file():
    grid = grid_of(
        [
            {"product": {"training.learning_rate": [0.1, 0.2]}},
            {"zip": {"data.partition.alpha": [0.3, 1.0], "data.users": [4, 6]}},
            {"list": [{"rounds": 5}, {"rounds": 7, "evaluation.every": 7}]},
        ],
        seeds=2,
        set={"rounds": 9},
    )
    rows = rows_of(grid)
    assert (grid.n_points, grid.n_rows, grid.seeds) == (8, 16, (0, 1))
    swept = "training.learning_rate data.partition.alpha data.users rounds evaluation.every"
    assert grid.swept == tuple(swept.split())
    assert [(row.index, row.point, row.seed) for row in rows[:3]] == [
        (0, 0, 0),
        (1, 0, 1),
        (2, 1, 0),
    ]
    row = rows[7]
    assert row.changes == {
        "training.learning_rate": 0.1,
        "data.partition.alpha": 1.0,
        "data.users": 6,
        "rounds": 7,
        "evaluation.every": 7,
    }
    settings = row.settings
    assert (settings.seeds, settings.rounds, settings.data.users) == ((1,), 7, 6)
    assert settings.data.partition.alpha == 1.0
    assert rows[0].settings.evaluation.every == 1
    assert all(row.problem is None for row in rows)


def test_a_section_is_the_product_of_its_axes_and_seeds_are_the_studys():
    grid = grid_of({"rounds": [1, 2], "proximal": [0.0, 0.5]})
    assert [row.seed for row in rows_of(grid)] == [3, 5] * 4
    assert [r.changes["rounds"] for r in rows_of(grid)[::2]] == [1, 1, 2, 2]


def test_no_axis_is_one_point():
    (row,) = rows_of(grid_of(seeds=[7]))
    assert (row.index, row.seed, row.changes, row.settings.contestants) == (
        0,
        7,
        {},
        ("local", "fd"),
    )


def test_rows_of_a_grid_need_no_reference_of_their_own():
    rows = rows_of(grid_of({"contestants": [["local"], ["fedavg"], ["fd"]]}))
    assert [row.problem for row in rows] == [None] * 6


def test_several_studies_are_the_first_axis(tmp_path):
    (tmp_path / "a.yaml").write_text("method: family\nrounds: 3\nseeds: [0]")
    (tmp_path / "b.yaml").write_text("method: dt_kd\nseeds: [0]")
    text = "study: [a.yaml, b.yaml]\nset: {data.users: 4}\ngrid: {data.partition.alpha: [1, 2]}"
    (tmp_path / "grid.yaml").write_text(text.replace("1, 2", "1.0, 2.0"))
    grid = load_grid(tmp_path / "grid.yaml")
    rows = rows_of(grid)
    assert [row.changes["study"] for row in rows] == ["a.yaml"] * 2 + ["b.yaml"] * 2
    assert [row.settings.method for row in rows] == ["family"] * 2 + ["dt_kd"] * 2
    assert {row.settings.data.users for row in rows} == {4}


def test_a_written_grid_needs_no_other_file(tmp_path):
    (tmp_path / "a.yaml").write_text("method: family\nrounds: 3")
    (tmp_path / "b.yaml").write_text("method: dfml\nrounds: 4")
    text = "title: t\nstudy: [a.yaml, b.yaml]\ngrid: {rounds: [1, 2]}\nseeds: [4, 2]"
    (tmp_path / "grid.yaml").write_text(text)
    grid = load_grid(tmp_path / "grid.yaml", ["data.users=6"])
    again = grid_from_dict(read_yaml(write_yaml(grid_to_dict(grid))))
    assert grid_hash(again) == grid_hash(grid)
    assert [r.settings for r in rows_of(again)] == [r.settings for r in rows_of(grid)]
    assert grid_hash(load_grid(tmp_path / "grid.yaml")) != grid_hash(grid)


def test_overrides_set_settings_and_seeds(tmp_path):
    (tmp_path / "grid.yaml").write_text(f"study: {json.dumps(STUDY)}\nseeds: 3")
    grid = load_grid(tmp_path / "grid.yaml", ["rounds=2", "seeds=[9]"])
    (row,) = rows_of(grid)
    assert (row.seed, row.settings.rounds) == (9, 2)


def test_refused_rows_keep_their_reason_and_do_not_stop_the_others(tmp_path):
    steps = [
        {"rounds": 2},
        {"rounds": 0},
        {"data.source": "cifar100"},
        {"data.source": "digit"},
        {"data.partition.kind": "iid", "data.partition.alpha": 1.0},
        {"participation.cohort": 99},
    ]
    rows = rows_of(grid_of([{"list": steps}], seeds=[0]), tmp_path)
    assert [row.settings is None for row in rows] == [False, True, True, True, True, True]
    assert [row.of.kind for row in rows[1:]] == ["settings", "data", *["settings"] * 3]
    for row, part in zip(
        rows[1:],
        [
            "rounds: found 0; allowed: a whole number, at least 1",
            "data.source: cifar100 is not on this machine",
            "data.source: found 'digit' (did you mean digits?)",
            "data.partition.alpha: unknown key",
            "participation.cohort: found 99; allowed: at most data.users, which is 5",
        ],
        strict=True,
    ):
        assert part in row.problem


def test_a_grid_of_refused_rows_alone_is_refused():
    with pytest.raises(SettingsError) as error:
        rows_of(grid_of({"rounds": [0, -1]}))
    assert "all 2 points are refused, the first (rounds 0)" in str(error.value)
    assert "rounds: found 0; allowed: a whole number, at least 1" in str(error.value)


REFUSED = [
    ({"grid": {}}, "study: missing"),
    ({"study": STUDY, "sede": 3}, "sede: unknown key; did you mean seeds?"),
    ({"study": "nowhere.yaml"}, "nowhere.yaml: there is no such file"),
    ({"study": 3}, "study: found 3; allowed: text or a section or a list"),
    ({"study": {"method": "famly"}}, "method: found 'famly' (text) (did you mean family?)"),
    ({"study": []}, "study: found []; allowed: text or a section or a list"),
    ({"study": [{**STUDY, "title": "a"}] * 2}, 'study: found "a" 2 times'),
    ({"grid": 3}, "grid: found 3; allowed: a section or a list, each item a section"),
    ({"grid": {"rounds": 3}}, "grid.rounds: found 3; allowed: a list of at least one value"),
    ({"grid": {"rounds": []}}, "grid.rounds: found an empty list; allowed: a list of at least one"),
    ({"grid": [{"product": {}}]}, "grid.0.product: found an empty section; allowed: a section of"),
    (
        {"grid": [{"prduct": {"rounds": [1]}}]},
        "grid.0: found prduct; allowed: one of product | zip",
    ),
    ({"grid": [{"zip": {"rounds": [1]}, "list": []}]}, "grid.0: found zip, list; allowed: one of"),
    ({"grid": [{"list": []}]}, "grid.0.list: found []; allowed: a list of at least one section"),
    ({"grid": [{"list": [3]}]}, "grid.0.list.0: found 3; allowed: a section of settings"),
    (
        {"grid": [{"zip": {"rounds": [1, 2], "data.users": [4]}}]},
        "grid.0.zip: found 2 of rounds, 1 of data.users; allowed: lists of equal lengths",
    ),
    ({"grid": {"rounds": [1, 2, 1]}}, "grid.rounds: found 1 2 times; allowed: values that differ"),
    (
        {"grid": [{"product": {"rounds": [1]}}, {"list": [{"rounds": 2}]}]},
        "grid: found rounds in two axes; allowed: one axis a setting",
    ),
    (
        {"grid": {"data.partition": [{"kind": "iid"}], "data.partition.alpha": [1.0]}},
        "grid: found data.partition.alpha beside data.partition, which holds it",
    ),
    ({"grid": {"seeds": [[1], [2]]}}, "seeds: cannot be changed here; use the key `seeds`"),
    ({"set": {"seeds": 3}}, "set.seeds: cannot be changed here; use the key `seeds`"),
    ({"grid": {"method": ["dfml"]}}, "method: cannot be changed here; use a list of files"),
    (
        {"grid": {"training.learnin_rate": [0.1]}},
        "grid.training.learnin_rate: unknown key; did you mean training.learning_rate?",
    ),
    ({"set": {"rouds": 3}}, "set.rouds: unknown key; did you mean rounds?"),
    ({"seeds": 0}, "seeds: found 0; allowed: a whole number, at least 1"),
    ({"seeds": []}, "seeds: found an empty list; allowed: a number, or seeds"),
    ({"seeds": [1, -1]}, "seeds: found [1, -1]; allowed: a whole number, at least 1 or a list"),
    ({"seeds": [1, 1]}, "seeds: found 1 2 times; allowed: values that differ"),
    ({"seeds": True}, "seeds: found true"),
    ({"seeds": 2_000_000}, "1 points with 2,000,000 seeds are 2,000,000 rows; allowed: at most"),
]


@pytest.mark.parametrize(("said", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_bad_grids_are_refused_before_anything(tmp_path, said, message):
    whole = said if said == {"grid": {}} else {"study": STUDY, **said}
    with pytest.raises(SettingsError) as error:
        grid_from_dict(whole, where="grid.yaml", beside=tmp_path)
    assert message in str(error.value)
    assert str(error.value).startswith("grid.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty; it must say at least `study: FILE`"),
        ("- 1", "the file must hold `key: value` lines"),
        ("study: a\nstudy: b", "the key `study` is already on line 1"),
    ],
)
def test_files_that_are_no_grids(tmp_path, text, message):
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_grid(tmp_path / "grid.yaml")


@pytest.mark.parametrize("override", ["rounds", "=3", "rounds=[1", "data..users=3"])
def test_bad_overrides_are_refused(tmp_path, override):
    (tmp_path / "grid.yaml").write_text(f"study: {json.dumps(STUDY)}")
    with pytest.raises(SettingsError):
        load_grid(tmp_path / "grid.yaml", [override])


def test_hundred_thousand_rows_take_seconds():
    grid = grid_of({"training.learning_rate": [0.001 * n for n in range(1, 6251)]}, seeds=16)
    started = time.perf_counter()
    rows = rows_of(grid)
    assert len(rows) == 100_000
    assert len({id(row.of) for row in rows}) == 6250  # settings are read once for each point
    assert time.perf_counter() - started < 30
