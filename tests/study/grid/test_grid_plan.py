from typing import Any

import pytest

from fedjax_kd.study.grid.plan import balanced, plan
from fedjax_kd.study.grid.rows import rows_of
from fedjax_kd.study.grid.selection import parse_rows
from fedjax_kd.study.grid.settings import grid_from_dict
from fedjax_kd.study.problems import SettingsError


@pytest.fixture(scope="module")
def rows():
    said = {
        "study": {"method": "family"},
        "grid": {
            "contestants": [["local"], ["fedavg"], ["fd"]],
            "training.learning_rate": [0.01, 0.03, 0.1, -1.0],
        },
        "seeds": 4,
    }
    return rows_of(grid_from_dict(said))


def test_rows_that_differ_in_static_settings_are_groups(rows):
    made: Any = plan(rows)
    assert [group.fixed for group in made.groups] == [
        {"contestants": ["local"]},
        {"contestants": ["fedavg"]},
        {"contestants": ["fd"]},
    ]
    assert [batch.numbers for batch in made.batches] == [
        tuple(range(12)),
        tuple(range(16, 28)),
        tuple(range(32, 44)),
    ]  # the refused rate is in none
    assert made.groups[1].first.contestants == ("fedavg",)


def test_batches_are_at_most_so_wide_and_balanced(rows):
    made = plan(rows, width=5, skip=lambda index: index in (0, 1, 30))
    lengths = [len(batch.rows) for batch in made.batches]
    assert lengths == [5, 5, 4, 4, 4, 4, 4, 4]
    assert made.batches[0].numbers[0] == 2
    by_group = plan(rows, width=lambda group: 12 if group.key == made.groups[0].key else 6)
    assert [len(batch.rows) for batch in by_group.batches] == [12, 6, 6, 6, 6]


def test_the_plan_is_the_same_again(rows):
    assert plan(rows, 5) == plan(rows, 5)


def test_balanced():
    assert balanced((), 3) == []
    assert [len(part) for part in balanced(tuple(range(10)), 4)] == [3, 3, 4]  # pyright: ignore
    with pytest.raises(ValueError, match="width: found 0"):
        balanced((), 0)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (None, range(20)),
        ("0:16", range(16)),
        ("5", [5]),
        ("0:20:7", [0, 7, 14]),
        ("3,7,9:12", [3, 7, 9, 10, 11]),
        (" 9:12, 3 ,10", [3, 9, 10, 11]),
        (":3", [0, 1, 2]),
        ("18:", [18, 19]),
    ],
)
def test_selections(text, rows):
    assert list(parse_rows(text, 20)) == list(rows)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("-1", "numbers and ranges, such as 5, 0:16"),
        ("", "numbers and ranges"),
        ("1,,2", "numbers and ranges"),
        ("0:4:2:1", "numbers and ranges"),
        ("a", "numbers and ranges"),
        ("0:4:0", "a step of at least 1"),
        ("4:4", "ranges whose end is above their first row"),
        ("7:3", "ranges whose end is above their first row"),
        ("20", "rows 0 to 19, ends of ranges up to 20"),
        ("3,10:21", "rows 0 to 19, ends of ranges up to 20"),
    ],
)
def test_bad_selections_are_refused(text, allowed):
    with pytest.raises(SettingsError) as error:
        parse_rows(text, 20)
    assert f"--rows: found {text!r}; allowed: {allowed}" in str(error.value)
    assert "(the grid has 20 rows)" in str(error.value)
