"""Checkpoints in folders: written whole or not at all, checked when read, damage set aside.

`checkpoints/<part>/<step>/` is an orbax composite: `state`, the arrays by name, and `about`, one
JSON with what they belong to, the CRC-32 of each array and one of its own. Beside them `files.json`
has the CRC-32 of every file, so that damage is found before orbax reads what might confuse it. The
folder has another name until it is whole and on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import jax.numpy as jnp
import numpy as np

from fedjax_kd.study.checkpoint_orbax import ABOUT_FILE, OrbaxError, load, save
from fedjax_kd.study.checkpoint_tree import Leaf, checksum, described
from fedjax_kd.study.folder import FolderError

FORMAT = 1  # of a checkpoint; another number means another layout
CHECKPOINTS = "checkpoints"  # inside a folder of results
_FILES = "files.json"
_HALF_WRITTEN = ".half-written"
_SPARE_BYTES = 2**18  # that a checkpoint takes besides its arrays, more or less
_WITH_ERRNO = re.compile(r"os_error_code='(\d+)'")
_FIELDS = {"part", "step", "total", "settings_hash", "points", "form", "versions", "machine"}


class CheckpointError(FolderError):
    """A checkpoint that cannot be written or must not be used; the text says which and why."""


class CheckpointMisfit(CheckpointError):
    """A sound checkpoint that this study cannot go on from: of another format, settings or tree."""


class DamageError(ValueError):
    """A checkpoint that is not as it was written; the text says what is wrong."""


def part_folder(root: Path, part: str) -> Path:
    """The folder of a part's checkpoints; any text names a part.

    Raises:
      ValueError: the name is empty or only dots.
    """
    if not part.strip("."):
        raise ValueError(f"part: found {part!r}; allowed: a name that is more than dots")
    return root / quote(part, safe=" ()=+,")


def parts_in(root: Path) -> list[str]:
    """Names of the parts that have a folder of checkpoints, in alphabetical order."""
    if not root.is_dir():
        return []
    return sorted(unquote(path.name) for path in root.iterdir() if path.is_dir())


def steps_in(folder: Path) -> list[int]:
    """Steps of a part that have a checkpoint, smallest first; whether they are sound is open."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def write_checkpoint(path: Path, leaves: Mapping[str, Leaf], about: Mapping[str, Any]) -> None:
    """Writes a checkpoint into a new folder; returns when it is on the disk.

    Args:
      path: the folder.
      leaves: the arrays by name.
      about: what else the JSON says.

    Raises:
      Exception: whatever orbax raises; `reason_of` says it in one line.
    """
    descriptions = {name: described(leaf) for name, leaf in leaves.items()}
    sealed = _sealed({"format": FORMAT, **about, "leaves": descriptions})
    # Orbax takes no arrays without elements; shape and dtype in the JSON are all there is to them.
    arrays = {name: leaf.numbers for name, leaf in leaves.items() if leaf.numbers.size}
    _require_room(path.parent, sum(array.nbytes for array in arrays.values()))
    unfinished = path.with_name(f"{path.name}{_HALF_WRITTEN}").resolve()
    save(unfinished, arrays, sealed)
    sums = {name: zlib.crc32(data) for name, data in _contents(unfinished)}
    with (unfinished / _FILES).open("w", encoding="utf-8") as file:
        json.dump(_sealed({"files": sums}), file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    _sync(path.parent)


def read_about(path: Path) -> dict[str, Any]:
    """Returns what a checkpoint's JSON says.

    Raises:
      DamageError: it cannot be read or is not as it was written.
      CheckpointMisfit: it is sound, but of a format that this version does not read.
    """
    about = _unsealed(path / ABOUT_FILE, "its description")
    if about.get("format") != FORMAT or not set(about) >= _FIELDS:
        raise CheckpointMisfit(
            f"{path}: found a checkpoint of format {about.get('format')}; this version reads "
            f"format {FORMAT}"
        )
    return about


def read_leaves(path: Path, about: Mapping[str, Any]) -> dict[str, Leaf]:
    """Reads all arrays of a checkpoint and compares them with what its JSON says of them.

    Raises:
      DamageError: an array cannot be read, or is not as it was written.
    """
    sums = _unsealed(path / _FILES, "its list of files")["files"]
    try:
        found = {name: zlib.crc32(data) for name, data in _contents(path)}
    except OSError as error:
        raise DamageError(f"a file cannot be read ({error.strerror})") from error
    for name in {**sums, **found}:
        if found.get(name) != sums.get(name):
            raise DamageError(f"its file {name} is not as it was written")
    descriptions = about["leaves"]
    stored = {name for name, entry in descriptions.items() if np.prod(entry["shape"]) > 0}
    try:
        arrays = load(path, stored)
    except OrbaxError as error:
        raise DamageError(f"its arrays cannot be read ({error})") from error
    if set(arrays) != stored:
        raise DamageError("it holds other arrays than its description says")
    leaves = {}
    for name, entry in descriptions.items():
        numbers = arrays.get(name)
        if numbers is None:
            numbers = np.zeros(entry["shape"], jnp.dtype(entry["dtype"]))
        found = (list(numbers.shape), numbers.dtype.name)
        if found != (entry["shape"], entry["dtype"]) or checksum(numbers) != entry["crc32"]:
            raise DamageError(f"leaf {name} is not as it was written")
        leaves[name] = Leaf(numbers, entry.get("key_impl"))
    return leaves


def set_aside(path: Path) -> Path:
    """Renames a damaged checkpoint to `<step>.damaged` (or `.damaged-2`, ...).

    Raises:
      CheckpointError: it cannot be renamed.
    """
    target, number = path.with_name(f"{path.name}.damaged"), 2
    while target.exists():
        target, number = path.with_name(f"{path.name}.damaged-{number}"), number + 1
    try:
        path.rename(target)
    except OSError as error:
        raise CheckpointError(f"cannot rename the damaged {path}: {error.strerror}") from error
    return target


def remove_half_written(folder: Path) -> list[str]:
    """Removes what writers left that never finished; returns the names."""
    if not folder.is_dir():
        return []
    left = sorted(path for path in folder.iterdir() if _HALF_WRITTEN in path.name)
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in left]


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint so that no half of one is ever seen under its name.

    Raises:
      CheckpointError: it cannot be removed; it is whole then.
    """
    doomed = path.with_name(f"{path.name}{_HALF_WRITTEN}-removed")
    try:
        path.rename(doomed)
    except OSError as error:
        raise CheckpointError(f"cannot remove {path}: {error.strerror}") from error
    shutil.rmtree(doomed, ignore_errors=True)


def remove_part(folder: Path) -> None:
    """Removes all checkpoints of a part; those that were set aside stay."""
    for step in steps_in(folder):
        remove_checkpoint(folder / str(step))
    remove_half_written(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def reason_of(error: BaseException) -> str:
    """Says in a few words why something could not be written."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        code = _WITH_ERRNO.search(str(seen))  # tensorstore's errors carry it in their text
        if code:
            return os.strerror(int(code[1]))
        seen = seen.__cause__ or seen.__context__
    if "RESOURCE_EXHAUSTED" in str(error):
        return os.strerror(errno.ENOSPC)
    return " ".join(str(error).split())[:200] or type(error).__name__


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of all files but the list of them."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != _FILES:
            yield name, path.read_bytes()


def _require_room(folder: Path, n_bytes: int) -> None:
    """Finds out that a disk is full before it is."""
    if shutil.disk_usage(folder).free < n_bytes + _SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync(folder: Path) -> None:
    """Brings what a folder says of its files to the disk, where a folder can be opened at all."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unsealed(path: Path, what: str) -> dict[str, Any]:
    """Returns what JSON says that carries its own checksum."""
    try:
        sealed = json.loads(path.read_text(encoding="utf-8"))
        told = {key: value for key, value in sealed.items() if key != "checksum"}
        sound = sealed["checksum"] == _sealed(told)["checksum"]
    except OSError as error:
        raise DamageError(f"{what} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamageError(f"{what} is not JSON of a checkpoint") from error
    if not sound:
        raise DamageError(f"{what} has another checksum than it says")
    return told


def _sealed(about: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(about, sort_keys=True)
    return {**json.loads(text), "checksum": zlib.crc32(text.encode())}
