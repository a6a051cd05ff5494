"""The folder of a grid: whose it is, what its rows are, and which of them have failed.

    DIR/grid.json      what the grid is, and its hash
    DIR/grid.yaml      the grid in one file, which `fedjax-kd sweep` takes like any other
    DIR/rows.csv       row, point, seed, and the settings that differ
    DIR/failures/      one file for each row that failed: row, kind, reason, where
    DIR/batches/       folders of results, see `fedjax_kd.study.grid.claims`

Nothing here ever deletes results: `force` moves a folder aside, and what is known of a row that is
to be tried again goes to failures/retried/.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fedjax_kd.results.folders import lock_held
from fedjax_kd.study.folder import FolderError, clear_errors, differences, moved_aside, write_atomic
from fedjax_kd.study.grid.rows import Row
from fedjax_kd.study.grid.settings import Grid, grid_hash, grid_to_dict
from fedjax_kd.study.yaml_text import write_yaml

try:
    import fcntl
except ImportError:  # Windows: several processes on one grid are not noticed there
    fcntl = None

FORMAT = 1
GRID, RESOLVED, ROWS = "grid.json", "grid.yaml", "rows.csv"
FAILURES, BATCHES, LOCK = "failures", "batches", ".lock"
NO_LOCKS = (
    "this file system has no locks, so that processes do not notice each other: let only one work "
    "on this folder, or give each --rows of its own"
)

FailureKind = Literal["settings", "data", "diverged", "memory", "defect"]


class Failure(NamedTuple):
    """Why a row failed.

    Attributes:
        kind: `settings` that cannot be met, `data` that is missing, training that `diverged`, too
            little `memory`, or a `defect` of the program.
        reason: one or a few lines for a reader.
        where: the batch, or `settings` for a row that was refused before.
        traceback: of a defect.
    """

    kind: FailureKind
    reason: str
    where: str
    traceback: str = ""


@dataclass(frozen=True, eq=False)
class GridFolder:
    """The folder of a grid, open for work.

    Attributes:
        path: the folder.
        moved: where `force` put what was there before.
        has_locks: whether processes notice each other.
    """

    path: Path
    moved: Path | None = None
    has_locks: bool = True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no other process looks for work here, and keeps them waiting meanwhile."""
        with _held(self.path):
            yield

    def failed_rows(self) -> set[int]:
        """The rows that have a failure file."""
        try:
            names = os.listdir(self.path / FAILURES)
        except FileNotFoundError:
            return set()
        parts = (name.partition(".") for name in names)
        return {int(row) for row, _, rest in parts if row.isdecimal() and rest == "json"}

    def reason_of(self, row: int) -> str:
        """One line about the failure of a row."""
        try:
            told = json.loads((self.path / FAILURES / f"{row}.json").read_text(encoding="utf-8"))
            return f"row {row}: {told['kind']}: {str(told['reason']).splitlines()[0]}"
        except (OSError, ValueError, KeyError, IndexError):
            return f"row {row}: its failure file cannot be read"

    def fail(self, failures: Mapping[int, Failure]) -> None:
        """Records that rows have failed: row -> why."""
        folder = self.path / FAILURES
        with clear_errors(folder):
            folder.mkdir(exist_ok=True)
        for row, failure in failures.items():
            told = {"row": row, **failure._asdict()}
            if not failure.traceback:
                del told["traceback"]
            _write(folder / f"{row}.json", json.dumps(told, indent=2) + "\n")

    def forget_failures(self, rows: Iterable[int]) -> list[int]:
        """Lets failed rows be tried again; returns which of the given ones had failed."""
        again = sorted(self.failed_rows() & set(rows))
        old = self.path / FAILURES / "retried"
        with clear_errors(old):
            if again:
                old.mkdir(exist_ok=True)
            for row in again:
                number = 1
                while (target := old / f"{row}-{number}.json").exists():
                    number += 1
                (self.path / FAILURES / f"{row}.json").rename(target)
        return again

    def refuse(self, rows: Iterable[Row]) -> None:
        """Records the rows whose settings are refused as failed."""
        known = self.failed_rows()
        self.fail(
            {
                row.index: Failure(row.of.kind, str(row.problem), "settings")
                for row in rows
                if row.problem is not None and row.index not in known
            }
        )


def open_grid_folder(
    out: str | Path, grid: Grid, rows: Iterable[Row], force: bool = False
) -> GridFolder:
    """Makes the folder of a grid, or opens it where it holds the same grid already.

    Args:
        out: the folder, which need not exist.
        grid: its title does not count.
        rows: all rows of the grid.
        force: if the folder holds a grid and nobody works on it, moves it to `<out>.old-1` (or -2,
            ...) and starts anew. A folder that holds anything else is left alone even then.

    Raises:
        FolderError: the folder belongs to another grid or to something else, `force` meets a
            process that works on it, or it cannot be written.
    """
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise FolderError(f"{out} is a file; name a folder with --out")
    moved = None
    if force and (path / GRID).is_file():
        moved = _moved_aside(path)
    with clear_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    with _held(path) as has_locks:
        found = sorted(entry.name for entry in path.iterdir() if not _passing(entry.name))
        if GRID in found:
            require_same(path, grid)
        elif set(found) <= {ROWS, RESOLVED}:  # nothing, or what a killed process had begun
            _describe(path, grid, rows)
        else:
            raise FolderError(
                f"{out} holds files that are not a grid's ({', '.join(found[:3])}"
                f"{', ...' if len(found) > 3 else ''}); name an empty or a new folder with --out"
            )
    return GridFolder(path, moved, has_locks)


def read_grid(path: Path) -> dict[str, Any]:
    """Returns what `grid.json` says.

    Raises:
        FolderError: there is none, or it is not one that this version reads.
    """
    file = path / GRID
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FolderError(f"{path} holds no grid: there is no {GRID} in it") from None
    except (OSError, ValueError) as error:
        raise FolderError(f"{file} cannot be read: {error}") from error
    if not isinstance(told, dict) or "hash" not in told:
        raise FolderError(f"{file} is not the description of a grid")
    if told.get("format") != FORMAT:
        raise FolderError(
            f"{file}: found format {told.get('format')}; this version reads format {FORMAT}"
        )
    return told


def _describe(path: Path, grid: Grid, rows: Iterable[Row]) -> None:
    """Writes what the grid is, `grid.json` last: with it the folder is the grid's."""
    resolved = grid_to_dict(grid)
    _write(path / ROWS, _table(grid, rows))
    _write(path / RESOLVED, write_yaml(resolved))
    told = {
        "format": FORMAT,
        "kind": "grid",
        "title": grid.title,
        "hash": grid_hash(grid),
        "axes": [{"paths": list(axis.paths), "steps": list(axis.steps)} for axis in grid.axes],
        "swept": list(grid.swept),
        "n_points": grid.n_points,
        "n_rows": grid.n_rows,
        "seeds": list(grid.seeds),
        "studies": [{"name": base.name, "settings": base.said} for base in grid.bases],
    }
    _write(path / GRID, json.dumps(told, indent=2) + "\n")


def require_same(path: Path, grid: Grid) -> None:
    """Refuses a folder that holds another grid, and names what differs.

    Raises:
        FolderError: it does.
    """
    told = read_grid(path)
    if told["hash"] == grid_hash(grid):
        return
    there = {key: told.get(key) for key in ("studies", "axes", "seeds")}
    here = {
        "studies": [{"name": base.name, "settings": base.said} for base in grid.bases],
        "axes": [{"paths": list(axis.paths), "steps": list(axis.steps)} for axis in grid.axes],
        "seeds": list(grid.seeds),
    }
    raise FolderError(
        f"{path} holds another grid: {told.get('title') or 'no title'!r} ({told['hash']}). This "
        f"one is {grid.title or 'no title'!r} ({grid_hash(grid)})"
        f"{differences(there, json.loads(json.dumps(here)))}. Name another folder with --out, or "
        "add --force to move the old results aside"
    )


def _table(grid: Grid, rows: Iterable[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "point", "seed", *grid.swept])
    cells: list[str] = []
    point = -1
    for row in rows:
        if row.point != point:
            point = row.point
            cells = [_cell(row.changes, path) for path in grid.swept]
        writer.writerow([row.index, row.point, row.seed, *cells])
    return text.getvalue()


def _cell(changes: Mapping[str, Any], path: str) -> str:
    """A value as JSON text, text as it is; nothing where a step leaves the setting alone."""
    if path not in changes:
        return ""
    value = changes[path]
    return value if isinstance(value, str) else json.dumps(value)


def _moved_aside(path: Path) -> Path:
    """Moves a grid's folder aside unless some process works on it."""
    for batch in sorted((path / BATCHES).glob("*")):
        if batch.is_dir() and lock_held(batch):
            raise FolderError(f"another process is working on {batch}; --force would disturb it")
    return moved_aside(path.resolve())


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Waits for the lock of a grid's folder and holds it; tells whether there is such a thing."""
    if fcntl is None:
        yield False
        return
    with clear_errors(path):
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            works = True
        except OSError:
            works = False
        yield works
    finally:
        os.close(descriptor)


def _passing(name: str) -> bool:
    return name == LOCK or name.endswith(".partial")


def _write(path: Path, text: str) -> None:
    write_atomic(path, lambda file: file.write(text.encode()))
