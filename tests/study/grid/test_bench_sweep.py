"""What the benchmark of sweeps says of what it measured; nothing is measured here."""

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))
import bench_sweep

NAN, INF = float("nan"), float("inf")


def results(*values):
    keys = {"row": range(len(values)), "round": 1, "scope": "all", "metric": "loss"}
    return pd.DataFrame({**keys, "value": values})


def test_the_largest_difference():
    assert bench_sweep.largest_difference(results(1.0, NAN, 4.0), results(1.0, NAN, 5.0)) == 0.25
    assert bench_sweep.largest_difference(results(1.0, INF), results(1.5, INF)) == 0.5
    assert bench_sweep.largest_difference(results(0.0), results(0.0)) == 0


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ((1.0, NAN), (1.0, 2.0), "not finite on one side only"),
        ((1.0, 2.0), (1.0, NAN), "not finite on one side only"),
        ((1.0, INF), (1.0, -INF), "not finite on one side only"),
        ((1.0,), (1.0, 2.0), "different rows"),
        ((NAN,), (NAN,), "no finite value"),
    ],
)
def test_sides_that_cannot_be_compared(one, other, message):
    with pytest.raises(SystemExit, match=message):
        bench_sweep.largest_difference(results(*one), results(*other))


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--rows 4 --out there",
        "--grid other.yaml --at-once 2 4 --machine 'one board, 8 GiB'",
    ],
)
def test_the_page_names_the_command_with_what_is_not_the_default(words):
    given = bench_sweep.shlex.split(words)
    arguments = bench_sweep.parser_of("2 cores").parse_args(given)
    shown = bench_sweep.command_of(arguments, "2 cores")
    assert shown == f"python scripts/bench_sweep.py {words}".strip()


def test_the_sweep_has_as_many_rows_as_the_loop(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(bench_sweep, "sweep", lambda *words: asked.append(words[-1]))
    monkeypatch.setattr(bench_sweep.fedjax_kd, "load_results", lambda path: results(1.0))
    bench_sweep.stacked(tmp_path / "grid.yaml", 3, tmp_path)
    bench_sweep.stacked(tmp_path / "grid.yaml", None, tmp_path)
    assert asked == [("--rows", "0:3"), ()]
