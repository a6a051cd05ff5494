"""Makes one offline HTML report of studies or grids from their tables; knows no numeric code."""

from fedjax_kd.report.errors import ReportError
from fedjax_kd.report.page import render_report, save_pictures, save_tables
from fedjax_kd.report.policy_table import (
    policy_table_csv,
    policy_table_latex,
    policy_table_markdown,
)

__all__ = [
    "ReportError",
    "policy_table_csv",
    "policy_table_latex",
    "policy_table_markdown",
    "render_report",
    "save_pictures",
    "save_tables",
]
