"""A folder from which it is safe to load code: only the user can write to it.

A library that is loaded runs with all the user's rights. So nothing is loaded from where somebody
else could have put it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from fedjax_kd.kernels.native.errors import NativeUnavailable

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def library_folder(environment: Mapping[str, str]) -> Path:
    """Where built libraries are kept: `native` in `FEDJAX_KD_CACHE_DIR` or in the user's cache."""
    given = environment.get("FEDJAX_KD_CACHE_DIR")
    if given:
        return Path(given).expanduser() / "native"
    return platformdirs.user_cache_path("fedjax_kd", appauthor=False) / "native"


def make_private(folder: Path) -> Path:
    """Makes the folder if it is not there, for the user alone, and checks that it is the user's.

    Args:
        folder: its parents are made as well.

    Returns:
        The folder.

    Raises:
        NativeUnavailable: if it cannot be made, or is a link, or belongs to or can be written by
            somebody else.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise NativeUnavailable(f"the folder {folder} cannot be made ({error.strerror})") from error
    check_private(folder)
    return folder


def check_private(path: Path) -> None:
    """Checks that a folder or file is the user's own and that nobody else can write to it.

    Raises:
        NativeUnavailable: if that is not so.
    """
    if not hasattr(os, "getuid"):
        raise NativeUnavailable("this system does not say who owns a file")
    try:
        found = path.lstat()
    except OSError as error:
        raise NativeUnavailable(f"{path} cannot be examined ({error.strerror})") from error
    if stat.S_ISLNK(found.st_mode):
        raise NativeUnavailable(f"{path} is a link; nothing is loaded through links")
    if found.st_uid != os.getuid():
        raise NativeUnavailable(f"{path} belongs to user {found.st_uid}, not to this one")
    if found.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(found.st_mode)
        raise NativeUnavailable(f"others can write to {path} (mode {mode:04o}); `chmod go-w` it")
