"""The pictures of a report, each in a file of its own."""

from fedjax_kd.report.pictures.catalog import PICTURES, Picture
from fedjax_kd.report.pictures.rounds_catalog import ROUNDS_PICTURES

__all__ = ["PICTURES", "ROUNDS_PICTURES", "Picture"]
