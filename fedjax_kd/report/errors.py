"""What the report says when it cannot be made, or when one part of it has nothing to show."""

from __future__ import annotations


class ReportError(ValueError):
    """No report can be made from a results folder; the message names the path and the cause."""


class NothingToShow(Exception):
    """A table that one section needs is absent or empty; the message is the sentence to print."""
