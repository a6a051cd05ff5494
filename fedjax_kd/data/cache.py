"""Keep a source as one .npz file, so that pictures are decoded once.

The file carries a SHA-256 digest of its arrays. A file that is cut short or altered is not used.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fedjax_kd.data.source import Source

_FORMAT = 1
_ARRAYS = ("train_inputs", "train_labels", "test_inputs", "test_labels")
_OPTIONAL = ("train_users", "train_groups")


class CacheDamaged(Exception):
    """A cache file is not what was written."""


def save_source(path: Path, source: Source) -> None:
    """Write a source; a reader sees the whole new file or what was there before."""
    arrays = {name: getattr(source, name) for name in _ARRAYS}
    arrays |= {name: value for name in _OPTIONAL if (value := getattr(source, name)) is not None}
    arrays["name"] = np.asarray(source.name)
    arrays["class_names"] = np.asarray(source.class_names)
    arrays["scalars"] = np.asarray([_FORMAT, source.n_classes, source.group_overlap], np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **arrays, digest=np.asarray(_digest(arrays)))  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def restore_source(path: Path) -> Source:
    """Read what `save_source` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      CacheDamaged: it is not a whole, unaltered cache file of this format.
    """
    with path.open("rb") as stream:
        try:
            return _parse(stream)
        except CacheDamaged:
            raise
        # A damaged archive makes its readers raise almost anything.
        except Exception as error:
            raise CacheDamaged(f"it cannot be read ({type(error).__name__}: {error})") from error


def _parse(stream: BinaryIO) -> Source:
    with np.load(stream, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    digest = str(arrays.pop("digest"))
    if digest != _digest(arrays):
        raise CacheDamaged("its checksum does not match")
    version, n_classes, group_overlap = (int(value) for value in arrays.pop("scalars"))
    if version != _FORMAT:
        raise CacheDamaged(f"it is of format {version}, not {_FORMAT}")
    return Source(
        name=str(arrays.pop("name")),
        class_names=tuple(str(name) for name in arrays.pop("class_names")),
        n_classes=n_classes,
        group_overlap=group_overlap,
        **arrays,
    )


def _digest(arrays: dict[str, np.ndarray]) -> str:
    summed = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        summed.update(f"{name} {array.dtype.str} {array.shape}".encode())
        summed.update(array.view(np.uint8).data if array.size else b"")
    return summed.hexdigest()
