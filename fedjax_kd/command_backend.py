"""What a command sets up before it computes: the backend, its caches, and trackers that exist."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def prepare_backend_of(arguments: argparse.Namespace) -> None:
    """Sets the backend up as the options say; processes that joined others have done so before."""
    if arguments.hosts.count > 1:
        return
    from fedjax_kd.study.environment import prepare_backend

    prepare_backend(arguments.devices, None if arguments.no_cache else cache_dir())


def cache_dir() -> Path:
    """Where compiled programs and outcomes of trials are kept between commands."""
    from platformdirs import user_cache_path

    return user_cache_path("fedjax_kd", appauthor=False) / "xla"


def trials_of(arguments: argparse.Namespace) -> Path | None:
    """The file that keeps outcomes of trials; None keeps none."""
    return None if arguments.no_cache else cache_dir() / "trials.json"


def require_trackers(names: Sequence[str]) -> None:
    """Checks that the packages are there that tracking takes."""
    if names:
        from fedjax_kd.study.tracking import require_tracker

        for name in names:
            require_tracker(name)
