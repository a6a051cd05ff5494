"""Reading a results folder: clear errors that name the path, and the first study point only."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from report_synthetic import load_policies

from fedjax_kd.report import ReportError, policy_table_markdown, render_report
from fedjax_kd.report.results import load_results


def edit_manifest(folder: Path, **fields) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_report_error_is_a_value_error():
    assert issubclass(ReportError, ValueError)


def test_folder_without_manifest(tmp_path: Path):
    with pytest.raises(ReportError, match=r"manifest\.json: not found") as caught:
        render_report(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_no_folder(tmp_path: Path):
    with pytest.raises(ReportError, match="there is no such results folder"):
        render_report(tmp_path / "absent")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, r"format is 2, this report knows 1"),
        ({"format": "1"}, r"format is '1'"),
        ({"format": True}, r"format is True"),
        ({"method": "fedavg"}, r"method is 'fedavg', this report knows 'dt_kd'"),
        ({"status": "running"}, r"not finished: status is 'running', must be 'complete'"),
    ],
)
def test_manifest_that_no_report_can_be_made_from(small: Path, copy_of, fields, message):
    folder = copy_of(small)
    edit_manifest(folder, **fields)
    with pytest.raises(ReportError, match=message) as caught:
        render_report(folder)
    assert str(folder / "manifest.json") in str(caught.value)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("text", ["{not json", "[1, 2]"])
def test_broken_manifest(small: Path, copy_of, text):
    folder = copy_of(small)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ReportError, match=r"manifest\.json"):
        policy_table_markdown(folder)


def test_broken_table_is_named(small: Path, copy_of):
    folder = copy_of(small)
    (folder / "ledger.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(ReportError, match=r"ledger\.parquet: cannot be read as parquet"):
        load_results(folder)


def test_missing_column_is_named(small: Path, copy_of):
    folder = copy_of(small)
    path = folder / "decisions.parquet"
    pd.read_parquet(path).drop(columns="place").to_parquet(path, index=False)
    with pytest.raises(ReportError, match=r"decisions\.parquet: lacks the column 'place'"):
        load_results(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,utility\na,1\n", "lacks the column 'policy'"),
        ("policy,utility\na,1\na,2\n", "names the policy 'a' twice"),
    ],
)
def test_summary_is_checked(small: Path, copy_of, text, message):
    folder = copy_of(small)
    (folder / "summary.csv").write_text(text)
    with pytest.raises(ReportError, match=message):
        load_results(folder)


def test_only_the_first_point_of_a_sweep_is_read(small: Path, copy_of):
    folder = copy_of(small)
    path = folder / "decisions.parquet"
    first = pd.read_parquet(path)
    pd.concat([first.assign(point=1), first]).to_parquet(path, index=False)
    assert len(load_policies(folder).decisions) == len(first)
