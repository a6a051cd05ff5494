"""The pictures of a report, each in a file of its own."""

from fedjax_kd.report.pictures.catalog import PICTURES, Picture

__all__ = ["PICTURES", "Picture"]
