"""A store on disk that can go back to what it held at an earlier moment.

Rows are overwritten in place, so a run that is killed leaves rows that are newer than the state
that was saved of everything else. Here every row is written down as it was before it changes for
the first time after a mark, in `journal/<mark>.undo`. To go back, what was written down since a
mark is put back, the latest first. That costs one more write of each row that changed between two
marks, whatever the number of clients is.

    journal = journalled(folder, template, n_clients)
    journal.roll_back(done)      what the saved state says; 0 for a new start
    run_streamed_rounds(..., store=journal.store, first=done, rounds=chunk)
    journal.mark(done + chunk)   before the state of that moment is saved
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_kd.clients.store import ClientStore, StoreError, on_disk

JOURNAL, UNDO = "journal", ".undo"
_HEADER = struct.Struct("<qBI")  # member, whether its row was made, CRC-32 of both and the row


class Journal(NamedTuple):
    """A store and its past.

    Attributes:
        store: the store; it must not be written to before `roll_back` unless the folder is new.
        mark: `(moment) -> None`: makes it possible to go back to now; moments are increasing
            numbers, e.g. rounds done. The last `keep` marks stay.
        roll_back: `(moment) -> None`: puts back what the store held then; what came later is gone.
            Raises `StoreError` if there is no such mark.
    """

    store: ClientStore
    mark: Callable[[int], None]
    roll_back: Callable[[int], None]


class _Record(NamedTuple):
    member: int
    row: bytes | None  # None: it was not made


def journalled(folder: Path | str, template: Any, n_clients: int, keep: int = 3) -> Journal:
    """Opens a store on disk with a journal.

    Args:
        folder: as for `on_disk`; a new one is marked with moment 0.
        template: as for `on_disk`.
        n_clients: K.
        keep: how many marks stay: one more than the states that are kept, since a mark is made
            before its state is saved.

    Returns:
        The journal. A row that was being written when its process ended is no obstacle.

    Raises:
        StoreError: as `on_disk` does; or the folder has a store without a journal.
    """
    if keep < 1:
        raise StoreError(f"keep must be at least 1; got {keep}")
    past = Path(folder) / JOURNAL
    old = (Path(folder) / "layout.json").exists()
    if old and not _marks(past) and not _is_blank(Path(folder)):
        raise StoreError(f"{folder}: holds a store without a journal; give a new folder")

    def mend(torn: np.ndarray) -> None:
        known = {record.member for mark in _marks(past) for record in _records(past, mark, size)}
        if lost := sorted(set(torn.tolist()) - known):
            raise StoreError(f"{folder}: half written and not in the journal: clients {lost}")

    size = _row_bytes(template)
    store = on_disk(folder, template, n_clients, mend)
    seen = np.zeros(n_clients, bool)  # changed since the last mark
    ready = not _marks(past)

    def write(members, rows):
        if not ready:
            raise StoreError(f"{folder}: rolled back to no mark so far; do that before writing")
        members = np.asarray(members)
        fresh = members[~seen[members]]
        before, made = store.read(fresh)
        leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(before)]
        records = bytearray()
        for place, member in enumerate(fresh.tolist()):
            row = b"".join(leaf[place].tobytes() for leaf in leaves) if made[place] else None
            records += _packed(_Record(member, row))
        _append(past / f"{_marks(past)[-1]}{UNDO}", records)
        seen[fresh] = True
        store.write(members, rows)

    def mark(moment: int) -> None:
        nonlocal ready
        marks = _marks(past)
        if marks and moment <= marks[-1]:
            raise StoreError(f"{folder}: mark {moment} must come after mark {marks[-1]}")
        store.flush()
        past.mkdir(exist_ok=True)
        _append(past / f"{moment}{UNDO}", b"")
        _sync(past)
        seen[:] = False
        ready = True
        for each in [*marks, moment][:-keep]:
            (past / f"{each}{UNDO}").unlink()

    def roll_back(moment: int) -> None:
        nonlocal ready
        marks = _marks(past)
        if moment not in marks:
            raise StoreError(f"{folder}: no mark {moment}; there are {marks}")
        later = [each for each in reversed(marks) if each >= moment]
        for each in later:
            for record in _records(past, each, store.row_bytes):
                _put_back(store, record)
        store.flush()
        for each in later:  # the latest first: killed here, the rest can be put back again
            if each > moment:
                (past / f"{each}{UNDO}").unlink()
        _empty(past / f"{moment}{UNDO}")
        seen[:] = False
        ready = True

    if ready:
        mark(0)
    return Journal(store._replace(write=write), mark, roll_back)


def _marks(past: Path) -> list[int]:
    if not past.is_dir():
        return []
    return sorted(int(path.stem) for path in past.iterdir() if path.suffix == UNDO)


def _is_blank(folder: Path) -> bool:
    """Whether a store has no row yet."""
    return not any((folder / "made.bin").read_bytes())


def _row_bytes(template: Any) -> int:
    leaves = jax.tree.leaves(template)
    return sum(
        np.dtype(leaf.dtype).itemsize * int(np.prod(leaf.shape[1:], dtype=np.int64))
        for leaf in leaves
    )


def _packed(record: _Record) -> bytes:
    made, row = record.row is not None, record.row or b""
    return _HEADER.pack(record.member, made, _sum(record.member, made, row)) + row


def _sum(member: int, made: bool, row: bytes) -> int:
    return zlib.crc32(row, zlib.crc32(b"%d %d" % (member, made)))


def _records(past: Path, mark: int, row_bytes: int) -> Iterator[_Record]:
    """What was written down after a mark. A last record that is cut has changed no row yet."""
    path = past / f"{mark}{UNDO}"
    with path.open("rb") as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            member, made, crc32 = _HEADER.unpack(header)
            row = file.read(row_bytes if made else 0)
            if made and len(row) < row_bytes:
                return
            if crc32 != _sum(member, bool(made), row):
                raise StoreError(f"{path}: is damaged at byte {file.tell()}")
            yield _Record(member, row if made else None)


def _put_back(store: ClientStore, record: _Record) -> None:
    members = np.asarray([record.member])
    if record.row is None:
        store.forget(members)
        return
    blank, _ = store.read(members[:0])
    leaves, structure = jax.tree.flatten(blank)
    rows, start = [], 0
    for leaf in leaves:
        length = leaf.dtype.itemsize * int(np.prod(leaf.shape[1:], dtype=np.int64))
        data = np.frombuffer(record.row[start : start + length], np.uint8)
        rows.append(data.view(leaf.dtype).reshape(1, *leaf.shape[1:]))
        start += length
    store.write(members, jax.tree.unflatten(structure, rows))


def _append(path: Path, data: bytes | bytearray) -> None:
    """Adds to a file and waits until it is on the disk itself."""
    with _named_errors(path), path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _empty(path: Path) -> None:
    blank = path.with_suffix(".new")
    _append(blank, b"")
    blank.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Says which file could not be written, as the store does."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
