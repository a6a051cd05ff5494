"""Find raw files in a folder, or in an archive in it, and check what they are.

A wanted file may lie in the folder, up to two folders below it, be compressed with gzip, or be a
member of a tar or zip archive (a Python wheel is a zip archive) in the folder. The path given may
also be such an archive itself.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from fedjax_kd.data.errors import RawFilesError

_TAR = (".tar", ".tar.gz", ".tgz")
_ZIP = (".zip", ".whl")


class RawSplit(NamedTuple):
    """The examples of one split as the raw files give them."""

    inputs: np.ndarray  # [E, *shape], uint8 pictures or float32 windows
    labels: np.ndarray  # [E] integers
    other: Mapping[str, Sequence | np.ndarray]  # further features, each with E entries


class RawDataSet(NamedTuple):
    """All splits, and the names of each label feature's classes ({} keeps the stock names)."""

    splits: dict[str, RawSplit]
    label_names: dict[str, list[str]]


def read_raw_files(source: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Contents, decompressed, of the files called `names`.

    Args:
      source: a folder, or one archive.
      names: file names without a folder and without `.gz`.

    Raises:
      RawFilesError: `source` does not exist, or files are absent, each of which is named.
    """
    found = find_raw_files(source, names)
    absent = [name for name in names if name not in found]
    if absent:
        raise RawFilesError(
            f"{source}: {len(absent)} of {len(names)} raw files not found (looked for each with and"
            " without .gz, in the folder, two folders below it and in its tar and zip archives): "
            + ", ".join(absent)
        )
    return found


def find_raw_files(source: Path, names: Sequence[str]) -> dict[str, bytes]:
    """As `read_raw_files`, but files that are absent are simply not in the answer."""
    if not source.exists():
        raise RawFilesError(
            f"{source}: no such file or folder; --from names where the raw files lie"
        )
    found: dict[str, bytes] = {}
    if source.is_dir():
        for name in names:
            path = _below(source, name)
            if path is not None:
                found[name] = _plain(path.read_bytes(), path.name, str(path))
        archives = sorted(p for p in source.iterdir() if p.name.endswith(_TAR + _ZIP))
    else:
        archives = [source]
    for archive in archives:
        rest = [name for name in names if name not in found]
        if rest:
            found |= _from_archive(archive, rest)
    return found


def check_digest(
    content: bytes, expected: str, *, what: str, kind: str = "md5", hint: str = ""
) -> None:
    """Raise `RawFilesError` unless the content has the digest that is known for it."""
    digest = hashlib.new(kind, content, usedforsecurity=False).hexdigest()
    if digest != expected:
        raise RawFilesError(
            f"{what}: the {kind} checksum is {digest}, but {expected} is known for it; the file is"
            f" damaged or of another data set. {hint}".rstrip()
        )


def _below(folder: Path, name: str) -> Path | None:
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        for candidate in (pattern, f"{pattern}.gz"):
            matches = sorted(path for path in folder.glob(candidate) if path.is_file())
            if matches:
                return matches[0]
    return None


def _plain(content: bytes, name: str, where: str) -> bytes:
    if not name.endswith(".gz"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise RawFilesError(f"{where}: not a whole gzip file ({error})") from error


def _from_archive(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        for member, content in _members(archive, {*names, *(f"{name}.gz" for name in names)}):
            found.setdefault(
                member.removesuffix(".gz"), _plain(content, member, f"{archive}: {member}")
            )
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise RawFilesError(f"{archive}: not a whole tar or zip archive ({error})") from error
    return found


def _members(archive: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    if archive.name.endswith(_ZIP):
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.namelist():
                if PurePosixPath(member).name in wanted:
                    yield PurePosixPath(member).name, zipped.read(member)
    else:
        with tarfile.open(archive) as tar:
            for info in tar:
                if info.isfile() and PurePosixPath(info.name).name in wanted:
                    stream = tar.extractfile(info)
                    if stream is not None:
                        yield PurePosixPath(info.name).name, stream.read()
