"""What reading a folder of results says when it cannot, and when it had to leave something out."""

from __future__ import annotations


class ResultsError(ValueError):
    """What was asked for is not there or cannot be read; the message says what is there instead."""


class ResultsWarning(UserWarning):
    """A damaged file was left out of what was read."""
