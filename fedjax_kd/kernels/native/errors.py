"""The one error of this package."""

from __future__ import annotations


class NativeUnavailable(Exception):
    """The native kernels cannot be had here; the message says why, in one line."""
