"""Client state on the host, in memory or on disk, for populations larger than the device.

Rows are made on demand: a client that never took part has no row yet, because its initial state can
be drawn by name whenever it is needed. So a store of a million clients opens at once and takes the
room of those that took part.

On disk, a folder holds `rows.bin`, one record per client with its leaves one after the other (one
system call moves a whole client, straight between the file and the arrays), `made.bin`, one byte
per client that says whether its record holds nothing yet, is whole, or is being written, and
`layout.json`, which is written last and says what a record is. Files are read and written by
position rather than mapped into memory: pages of a map would count as the process's own.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any
LAYOUT, ROWS, MADE = "layout.json", "rows.bin", "made.bin"
NOTHING, WHOLE, BEING_WRITTEN = b"\0", b"\1", b"\2"
MOST_BUFFERS = 1024  # of one vectored read or write, IOV_MAX of Linux


class StoreError(RuntimeError):
    """A store that cannot be made, opened, read or written; the text says which and why."""


class ClientStore(NamedTuple):
    """State of K clients on the host.

    Attributes:
        n_clients: K.
        row_bytes: bytes of one client's row.
        read: `(members [M]) -> (rows, made)`: a pytree of NumPy arrays [M, ...] that are the
            caller's own, and bool [M]; rows that are not made are zeros.
        write: `(members [M], rows) -> None`: rows [M, ...] of members of whom no two are alike;
            they are made from then on.
        forget: `(members) -> None`: their rows are not made from then on.
        flush: waits until everything written is on the disk itself.
        close: flushes and gives the files free; the store must not be used after it.
    """

    n_clients: int
    row_bytes: int
    read: Callable[[np.ndarray], tuple[Tree, np.ndarray]]
    write: Callable[[np.ndarray, Tree], None]
    forget: Callable[[np.ndarray], None]
    flush: Callable[[], None]
    close: Callable[[], None]


class _Leaf(NamedTuple):
    """One array of a client's row."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def n_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"


def in_memory(template: Tree, n_clients: int) -> ClientStore:
    """A store in main memory, of which only rows that were written take room.

    Args:
        template: pytree of arrays or `jax.ShapeDtypeStruct`s [M, ...] for any M: the leading axis
            counts clients, the rest is one client's row.
        n_clients: K.

    Returns:
        An empty store.

    Raises:
        StoreError: if a leaf of the template has no leading axis or no plain dtype.
    """
    leaves, structure = _leaves(template, n_clients)
    stacks = [np.zeros((n_clients, *leaf.shape), leaf.dtype) for leaf in leaves]
    made = np.zeros(n_clients, bool)

    def read(members):
        members = _checked_members(members, n_clients)
        rows = [stack[members] for stack in stacks]
        return jax.tree.unflatten(structure, rows), made[members]

    def write(members, rows):
        members = _checked_members(members, n_clients)
        for stack, new in zip(stacks, _checked_rows(rows, leaves, structure, members), strict=True):
            stack[members] = new
        made[members] = True

    def forget(members):
        members = _checked_members(members, n_clients)
        for stack in stacks:
            stack[members] = 0
        made[members] = False

    def nothing():
        return None

    return ClientStore(n_clients, _row_bytes(leaves), read, write, forget, nothing, nothing)


def on_disk(
    folder: Path | str,
    template: Tree,
    n_clients: int,
    mend: Callable[[np.ndarray], None] | None = None,
) -> ClientStore:
    """A store in a folder: a new one, or the one that the folder holds, if it is of this layout.

    Args:
        folder: made if it does not exist.
        template: as for `in_memory`.
        n_clients: K.
        mend: is told whose rows were being written when their process ended, if there are any; they
            count as not made until they are written again. None refuses such a folder.

    Returns:
        The store; only one process at a time may have it open.

    Raises:
        StoreError: if the folder holds something else, or a store of other clients, leaves, shapes
            or dtypes; if a row was being written when its process ended; if there is no room for
            all K rows; or if the store is already open.
    """
    folder = Path(folder)
    leaves, structure = _leaves(template, n_clients)
    row_bytes = _row_bytes(leaves)
    if sum(leaf.n_bytes > 0 for leaf in leaves) > MOST_BUFFERS:
        raise StoreError(f"template: more than {MOST_BUFFERS} arrays, which one call cannot move")
    sizes = {ROWS: n_clients * row_bytes, MADE: n_clients}
    layout = {
        "clients": n_clients,
        "leaves": {leaf.path: str(leaf) for leaf in leaves},
        "byte_order": np.dtype(np.int32).newbyteorder("=").str[0],
    }
    if (folder / LAYOUT).exists():
        _check_layout(folder, layout, sizes)
    else:
        _make_folder(folder, layout, sizes)
    files = contextlib.ExitStack()
    rows_file = _opened(folder / ROWS, files)
    try:
        fcntl.flock(rows_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        files.close()
        raise StoreError(f"{folder}: another process has this store open") from error
    made_file = _opened(folder / MADE, files)
    marks = np.frombuffer(os.pread(made_file, n_clients, 0), np.uint8)
    made = marks == WHOLE[0]
    if (torn := np.flatnonzero(marks == BEING_WRITTEN[0])).size:
        try:
            (mend or _refuse_torn(folder))(torn)
        except BaseException:
            files.close()
            raise

    def mark(member: int, value: bytes) -> None:
        _move(os.pwritev, made_file, [memoryview(value)], member, folder / MADE)

    def read(members):
        members = _checked_members(members, n_clients)
        blocks = [np.zeros((len(members), leaf.n_bytes), np.uint8) for leaf in leaves]
        for place, member in enumerate(members):
            if made[member]:
                buffers = [memoryview(block[place]) for block in blocks if block.shape[1]]
                _move(os.preadv, rows_file, buffers, int(member) * row_bytes, folder / ROWS)
        arrays = [
            block.view(leaf.dtype).reshape(len(members), *leaf.shape)
            for block, leaf in zip(blocks, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, arrays), made[members]

    def write(members, rows):
        members = _checked_members(members, n_clients)
        blocks = [
            np.ascontiguousarray(new).view(np.uint8).reshape(len(members), leaf.n_bytes)
            for new, leaf in zip(
                _checked_rows(rows, leaves, structure, members), leaves, strict=True
            )
            if leaf.n_bytes
        ]
        for place, member in enumerate(members.tolist()):
            buffers = [memoryview(block[place]) for block in blocks]
            if made[member]:
                mark(member, BEING_WRITTEN)
            _move(os.pwritev, rows_file, buffers, member * row_bytes, folder / ROWS)
            mark(member, WHOLE)
            made[member] = True

    def forget(members):
        for member in _checked_members(members, n_clients).tolist():
            mark(member, NOTHING)
            made[member] = False

    def flush():
        os.fsync(rows_file)
        os.fsync(made_file)

    def close():
        flush()
        files.close()

    return ClientStore(n_clients, row_bytes, read, write, forget, flush, close)


def _refuse_torn(folder: Path) -> Callable[[np.ndarray], None]:
    def refuse(torn: np.ndarray) -> None:
        raise StoreError(f"{folder}: half written: the rows of clients {torn.tolist()}")

    return refuse


def _leaves(template: Tree, n_clients: int) -> tuple[list[_Leaf], Any]:
    if isinstance(n_clients, bool) or not isinstance(n_clients, int) or n_clients < 1:
        raise StoreError(f"n_clients must be an integer of at least 1; got {n_clients!r}")
    leaves = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(template):
        name = jax.tree_util.keystr(path)
        if not leaf.shape:
            raise StoreError(f"template{name}: needs a leading axis that counts clients")
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise StoreError(f"template{name}: cannot store {leaf.dtype}, only plain numbers")
        leaves.append(_Leaf(name, tuple(leaf.shape[1:]), np.dtype(leaf.dtype)))
    return leaves, jax.tree.structure(template)


def _row_bytes(leaves: list[_Leaf]) -> int:
    return sum(leaf.n_bytes for leaf in leaves)


def _checked_members(members, n_clients: int) -> np.ndarray:
    members = np.asarray(members)
    if members.ndim != 1 or not np.issubdtype(members.dtype, np.integer):
        raise StoreError(f"members must be a row of integers; got {members.dtype}{members.shape}")
    if members.size and not (members.min() >= 0 and members.max() < n_clients):
        raise StoreError(f"members must be in 0..{n_clients - 1}; got {members.tolist()}")
    return members


def _checked_rows(rows: Tree, leaves: list[_Leaf], structure, members) -> list[np.ndarray]:
    if jax.tree.structure(rows) != structure:
        raise StoreError(f"rows: found {jax.tree.structure(rows)}; the store keeps {structure}")
    arrays = [np.asarray(row) for row in jax.tree.leaves(rows)]
    for array, leaf in zip(arrays, leaves, strict=True):
        if array.shape != (len(members), *leaf.shape) or array.dtype != leaf.dtype:
            raise StoreError(
                f"rows{leaf.path}: found {array.dtype}{list(array.shape)}; the store keeps {leaf} "
                f"for each of {len(members)} members"
            )
    return arrays


def _make_folder(folder: Path, layout: dict, sizes: dict[str, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(path.name for path in folder.iterdir() if path.name not in (ROWS, MADE))
    if others:
        raise StoreError(f"{folder}: holds {', '.join(others[:5])} and no store; give a new folder")
    free_bytes = shutil.disk_usage(folder).free
    if sizes[ROWS] > free_bytes:
        raise StoreError(
            f"{folder}: the rows of {layout['clients']} clients may take {sizes[ROWS]} bytes, but "
            f"{free_bytes} are free"
        )
    for name, size in sizes.items():
        with (folder / name).open("wb") as file:
            file.truncate(size)  # holes: rows take room once they are written
    unfinished = folder / f"{LAYOUT}.new"
    unfinished.write_text(json.dumps(layout, indent=1) + "\n")
    unfinished.rename(folder / LAYOUT)


def _check_layout(folder: Path, wanted: dict, sizes: dict[str, int]) -> None:
    try:
        found = json.loads((folder / LAYOUT).read_text())
        paths = list(dict.fromkeys([*found["leaves"], *wanted["leaves"]]))
        pairs = [(path, found["leaves"].get(path), wanted["leaves"].get(path)) for path in paths]
        pairs += [(name, found[name], wanted[name]) for name in ("clients", "byte_order")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder / LAYOUT}: not the layout of a store: {error}") from error
    for name, old, new in pairs:
        if old != new:
            raise StoreError(f"{folder}: {name}: the folder holds {old}; expected {new}")
    for name, size in sizes.items():
        path = folder / name
        if not path.exists() or path.stat().st_size != size:
            raise StoreError(f"{path}: is missing or has not the {size} bytes that it should")


def _opened(path: Path, files: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    files.callback(os.close, descriptor)
    return descriptor


def _move(call, file: int, buffers: list[memoryview], offset: int, path: Path) -> None:
    """One vectored read or write, continued until it is whole."""
    while buffers:
        try:
            count = call(file, buffers, offset)
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise StoreError(f"{path}: at byte {offset}: {reason}") from error
        if count == 0:
            raise StoreError(f"{path}: ends at byte {offset}, where a row is expected")
        offset += count
        while buffers and count >= len(buffers[0]):
            count -= len(buffers.pop(0))
        if count:
            buffers[0] = buffers[0][count:]
