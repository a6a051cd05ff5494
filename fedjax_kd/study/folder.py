"""The folder that holds one study's results: whose it is, and writing into it without half files.

A folder belongs to the study whose settings hash stands in its `manifest.json`. Nothing here ever
deletes results: `force` moves a folder aside. Every file is written beside its place and then
renamed, so that an interruption or a full disk leaves the earlier version of the file.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from fedjax_kd.study.hosts import Hosts
from fedjax_kd.study.load import settings_hash, settings_to_dict
from fedjax_kd.study.studies import Study
from fedjax_kd.study.yaml_text import write_yaml

try:
    import fcntl
except ImportError:  # Windows: two runs into one folder are not noticed there
    fcntl = None

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1  # of the folder's files; another number means other names or columns
MANIFEST = "manifest.json"
SETTINGS = "settings.yaml"
OPTIONS = "options.json"  # how the study was started, for those who resume it
REPORT = "report.html"
_LOCK_FILE = ".lock"
# At a lock: whoever only looks whether a folder is in use has it for a moment.
_ATTEMPTS, _PAUSE_S = 3, 0.01


class FolderError(ValueError):
    """A folder cannot take or does not hold the results that it should."""


class FolderBusy(FolderError):
    """Another run is writing into the folder."""


class Lock:
    """Holds a folder until it is released, forgotten or the process ends."""

    def __init__(self, descriptor: int):
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Lets others have the folder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    __del__ = release


@dataclass(frozen=True, eq=False)
class ResultFolder:
    """A folder of results, open for writing.

    Attributes:
      path: the folder.
      state: `new`; `interrupted`: it holds the same study, unfinished; `complete`: it holds the
        same study, finished, and is not to be written again.
      moved: where `force` put what was there before.
      writes: False in processes that leave the writing to another: whatever they are told to write
        they forget, and for them the manifest is empty.
    """

    path: Path
    state: Literal["new", "interrupted", "complete"]
    moved: Path | None = None
    _lock: Lock | None = None
    writes: bool = True

    @property
    def report_path(self) -> Path:
        """Where the report is or will be."""
        return self.path / REPORT

    def write_json(self, name: str, value: Any) -> Path:
        """Writes JSON; numbers that are not finite become null, NumPy values plain ones."""
        text = json.dumps(_plain(value), indent=2, allow_nan=False)
        return self.write_text(name, text + "\n")

    def write_yaml(self, name: str, value: Any) -> Path:
        """Writes dictionaries, lists and scalars as YAML."""
        return self.write_text(name, write_yaml(value))

    def write_text(self, name: str, text: str) -> Path:
        """Writes text as UTF-8."""
        return self._write(name, lambda file: file.write(text.encode()))

    def write_table(self, name: str, frame: pd.DataFrame) -> Path:
        """Writes a table without its index; the name ends in `.parquet` or `.csv`."""
        if name.endswith(".parquet"):
            return self._write(name, lambda file: frame.to_parquet(file, index=False))
        if name.endswith(".csv"):
            text = io.StringIO(newline="")
            frame.to_csv(text, index=False, lineterminator="\n")
            return self.write_text(name, text.getvalue())
        raise ValueError(f"name: found {name!r}; allowed: a name that ends in .parquet or .csv")

    def read_manifest(self) -> dict[str, Any]:
        """Returns what `manifest.json` says."""
        return read_manifest(self.path) if self.writes else {}

    def update_manifest(self, **fields: Any) -> None:
        """Replaces fields of `manifest.json`; `status="complete"` finishes the study."""
        self.write_json(MANIFEST, {**self.read_manifest(), **fields})

    def close(self) -> None:
        """Lets another run open the folder."""
        if self._lock is not None:
            self._lock.release()

    def _write(self, name: str, write: Callable[[BinaryIO], Any]) -> Path:
        path = self.path / name
        return write_atomic(path, write) if self.writes else path


def open_folder(out: str | Path, settings: Study, force: bool = False) -> ResultFolder:
    """Makes or claims the folder of a study's results.

    A new folder gets `settings.yaml` (with every default filled in) and a `manifest.json` that says
    `running`. A folder with the same study in it is returned with what became of it.

    Args:
      out: the folder, which need not exist.
      settings: the study's.
      force: if the folder holds a study already, moves it to `<out>.old-1` (or -2, ...) and starts
        a new one. A folder that holds anything else is left alone even then.

    Raises:
      FolderError: the folder belongs to another study or to something else, another run is writing
        into it, or it cannot be written.
    """
    path = Path(out)
    digest = settings_hash(settings)
    if path.exists() and not path.is_dir():
        raise FolderError(f"{out} is a file; name a folder with --out")
    with clear_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        entries = sorted(entry.name for entry in path.iterdir())
        results = [name for name in entries if name != _LOCK_FILE and not name.endswith(".partial")]
    if not results:
        return _started(path, settings, digest, None)
    if MANIFEST not in results:
        raise FolderError(
            f"{out} holds files that are not results of a study ({', '.join(results[:3])}"
            f"{', ...' if len(results) > 3 else ''}); name an empty or a new folder with --out"
        )
    found = read_manifest(path)
    if force:
        return _started(path, settings, digest, moved_aside(path.resolve()))
    if found.get("status") != "complete" and set(results) <= {MANIFEST, SETTINGS, OPTIONS}:
        return _started(path, settings, digest, None)  # another study that never got anywhere
    if found["settings_hash"] == digest:
        complete = found.get("status") == "complete"
        lock = None if complete else locked(path)
        if lock is not None and read_manifest(path).get("status") == "complete":
            lock.release()  # another run has finished it in between
            lock, complete = None, True
        return ResultFolder(path, "complete" if complete else "interrupted", None, lock)
    raise FolderError(
        f"{out} holds another study: {_described(found)}. This one is "
        f"{_described({'title': settings.title, 'settings_hash': digest})}"
        f"{differences(found.get('settings', {}), settings_to_dict(settings))}. Name another "
        "folder with --out, or add --force to move the old results aside"
    )


def open_folder_together(
    hosts: Hosts, out: str | Path, settings: Study, force: bool = False
) -> ResultFolder:
    """Opens the folder in process 0; the others get one of the same state that writes nothing.

    Every process must call it. The other processes need not see the folder at all.

    Args:
      hosts: which process this is.
      out: as for `open_folder`.
      settings: as for `open_folder`.
      force: as for `open_folder`.

    Raises:
      FolderError: as `open_folder` does; the other processes raise `ProcessError` then.
    """
    if hosts.count == 1:
        return open_folder(out, settings, force)
    from fedjax_kd.training.processes import from_first

    opened: list[ResultFolder] = []

    def open_here() -> dict[str, Any]:
        folder = open_folder(out, settings, force)
        opened.append(folder)
        return {"state": folder.state, "moved": str(folder.moved) if folder.moved else None}

    told = from_first(open_here)
    if opened:
        return opened[0]
    moved = Path(told["moved"]) if told["moved"] else None
    return ResultFolder(Path(out), told["state"], moved, writes=False)


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Returns what the `manifest.json` of a folder of results says.

    Raises:
      FolderError: there is none, or it is not one that this version reads.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FolderError(f"{folder} holds no results: there is no {MANIFEST} in it") from None
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or "settings_hash" not in manifest:
        raise FolderError(f"{path} is not the manifest of a study")
    if manifest.get("format") != FORMAT:
        raise FolderError(
            f"{path}: found format {manifest.get('format')}; this version reads format {FORMAT}"
        )
    return manifest


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> Path:
    """Writes a file so that its name always leads to the whole old or the whole new version.

    Args:
      path: the file.
      write: is given an open file and writes the content.

    Raises:
      FolderError: the file cannot be written; an earlier version is still there.
    """
    partial = path.with_name(f".{path.name}.partial")
    with clear_errors(path):
        try:
            with partial.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    return path


def sync_folder(path: Path) -> None:
    """Brings the names in a folder to the disk, so that a power cut takes no renamed file away."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # a file system that cannot
        pass
    finally:
        os.close(descriptor)


def _started(path: Path, settings: Study, digest: str, moved: Path | None) -> ResultFolder:
    with clear_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    folder = ResultFolder(path, "new", moved, locked(path))
    resolved = settings_to_dict(settings)
    manifest = {"format": FORMAT, "method": settings.method, "title": settings.title}
    manifest |= {"settings": resolved, "settings_hash": digest, "status": "running"}
    folder.write_json(MANIFEST, manifest)
    folder.write_yaml(SETTINGS, resolved)
    return folder


def moved_aside(path: Path) -> Path:
    """Renames a folder that nobody writes into to `<name>.old-1` (or -2, ...); returns where to."""
    if Path.cwd().is_relative_to(path):
        raise FolderError(f"{path} holds the current directory and cannot be moved aside")
    lock = locked(path)
    if lock is not None:
        lock.release()
    number = 1
    while (target := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    with clear_errors(path):
        path.rename(target)
    return target


def locked(path: Path) -> Lock | None:
    """Holds a folder against other runs; None, or a lock that holds nothing, without locks.

    Raises:
      FolderBusy: another run holds it.
    """
    if fcntl is None:
        return None
    with clear_errors(path):
        descriptor = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        for left in reversed(range(_ATTEMPTS)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    break  # a file system without locks
                if not left:
                    os.close(descriptor)
                    raise FolderBusy(f"another run is writing into {path}") from None
            time.sleep(_PAUSE_S)
    return Lock(descriptor)


def _described(manifest: Mapping[str, Any]) -> str:
    return f"{manifest.get('title') or 'no title'!r} (settings {manifest['settings_hash']})"


def differences(old: Any, new: Any) -> str:
    """Returns up to three settings in which two studies differ."""
    first, second = dict(_leaves(old)), dict(_leaves(new))
    keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    shown = [f"{key} {first.get(key)} there, {second.get(key)} here" for key in keys[:3]]
    more = f", and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"; they differ in {', '.join(shown)}{more}" if shown else ""


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list) and item:
            yield from _leaves(item, f"{path}{key}.")
        else:
            yield f"{path}{key}", item


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Says what was to be written where the system has only an error number."""
    try:
        yield
    except OSError as error:
        full = " (files written earlier are intact)" if error.errno == errno.ENOSPC else ""
        reason = error.strerror or str(error)
        raise FolderError(f"cannot write {path}: {reason}{full}") from error
