"""What can be wrong with a data set on this machine."""

from __future__ import annotations


class DataSetMissing(ValueError):
    """A data set, or what reads it, is not on this machine; the text says how to get it."""


class RawFilesError(ValueError):
    """Raw files are absent, damaged or not what their name says."""
