"""Batches of a grid, claimed by processes that share its folder.

A batch is a folder of results with the rows that it holds in its manifest. Who holds the lock of
that folder works on it, until the process ends in whatever way: a batch that is unfinished and free
is taken up by whoever comes. Looking for work happens under the lock of the grid's folder, so that
two processes never see the same row free.

A batch is settled when its failed rows have their failure files. It then keeps under `rows` only
those that it has results of, and `failed_rows` names the others.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_kd.study.folder import (
    FORMAT,
    MANIFEST,
    SETTINGS,
    FolderBusy,
    FolderError,
    Lock,
    ResultFolder,
    clear_errors,
    locked,
    read_manifest,
)
from fedjax_kd.study.grid.folder import BATCHES, Failure, GridFolder
from fedjax_kd.study.grid.rows import Row
from fedjax_kd.study.load import settings_hash, settings_to_dict
from fedjax_kd.study.points import Labels, Points, together

_TRIES, _PAUSE_S = 5, 0.02  # whoever looks at a folder's state holds its lock for a moment


class Work(NamedTuple):
    """A batch that this process holds.

    Attributes:
        folder: where its results go.
        rows: numbers of its rows, in the order in which they are stacked.
        resumed: whether an earlier process had begun it.
    """

    folder: ResultFolder
    rows: tuple[int, ...]
    resumed: bool

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.path.name


class Covered(NamedTuple):
    """Where the rows of a grid are, from what the folders say.

    Attributes:
        done: rows that a settled batch has.
        taken: rows of batches that are unfinished or unsettled.
        failed: rows with a failure file.
    """

    done: frozenset[int]
    taken: frozenset[int]
    failed: frozenset[int]

    def free(self, row: int) -> bool:
        """Whether nobody has the row."""
        return row not in self.done and row not in self.taken and row not in self.failed


@dataclass(eq=False)
class Claims:
    """Takes batches out of a grid's folder.

    Attributes:
        grid: the folder.
        rows: all rows of the grid.
        note: told what a reader should know, such as a damaged manifest.
        widest: most rows of an unfinished batch that is taken up; the rows of a wider one are free
            again. None takes up any.
    """

    grid: GridFolder
    rows: list[Row]
    note: Callable[[str], None] = lambda text: None
    widest: int | None = None
    _settled: dict[str, dict[str, Any]] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)

    def prepare(self, wanted: Iterable[int], retry_failed: bool = False) -> None:
        """Records free rows whose settings are refused as failed; those that others have stay.

        Args:
            wanted: the rows that this process is asked for.
            retry_failed: lets those of them that have failed be tried again first.

        Raises:
            FolderError: something cannot be written.
        """
        wanted = tuple(wanted)
        with self.grid.alone():
            if retry_failed:
                self.grid.forget_failures(wanted)
            covered = self._covered(self._manifests())
            self.grid.refuse(self.rows[row] for row in wanted if covered.free(row))

    def next(
        self,
        wanted: Iterable[int],
        choose: Callable[[Covered], tuple[int, ...]],
    ) -> Work | None:
        """Claims the next batch.

        Args:
            wanted: the rows that this process is asked for. An unfinished batch that holds any of
                them is taken up first, with all its rows, if it may be that wide and all of them
                can run here.
            choose: is told where the rows are and returns those of a new batch, none if there is
                nothing left to do.

        Returns:
            The batch, held until its folder is closed; None if all is done, failed or taken.

        Raises:
            FolderError: something cannot be written.
        """
        wanted = frozenset(wanted)
        with self.grid.alone():
            batches = self._manifests()
            for name, manifest in batches.items():
                if _settled(manifest) or not wanted & frozenset(manifest["rows"]):
                    continue
                work = self._taken_up(name) if self._runs_here(name, manifest["rows"]) else None
                if work is None:
                    continue
                if self.widest is None or len(work.rows) <= self.widest:
                    return work
                self._free(work, {}, f"re-formed in smaller batches, of at most {self.widest} rows")
                batches = self._manifests()
            covered = self._covered(batches)
            chosen = choose(covered)
            return self._begun(chosen) if chosen else None

    def covered(self) -> Covered:
        """Where the rows are now."""
        with self.grid.alone():
            return self._covered(self._manifests())

    def settle(self, work: Work, failures: Mapping[int, Failure]) -> None:
        """Ends a batch whose study is complete.

        Args:
            work: the batch; it is closed.
            failures: of rows that did not come through it.
        """
        with self.grid.alone():
            self.grid.fail(failures)
            kept = [row for row in work.rows if row not in failures]
            work.folder.update_manifest(
                status="complete", settled=True, rows=kept, failed_rows=sorted(failures)
            )
        work.folder.close()

    def give_up(self, work: Work, failures: Mapping[int, Failure], reason: str) -> None:
        """Ends a batch of which nothing came; rows without a failure are free again.

        Args:
            work: the batch; it is closed.
            failures: of rows that are not to be run again.
            reason: for its manifest.
        """
        with self.grid.alone():
            self._free(work, failures, reason)

    def _free(self, work: Work, failures: Mapping[int, Failure], reason: str) -> None:
        self.grid.fail(failures)
        work.folder.update_manifest(
            status="failed",
            settled=True,
            rows=[],
            failed_rows=sorted(failures),
            stopped={"reason": reason},
        )
        work.folder.close()

    def _runs_here(self, name: str, rows: Iterable[int]) -> bool:
        """Whether no row of a batch is refused on this machine; says so once if one is."""
        for number in rows:
            problem = self.rows[number].problem
            if problem is not None:
                self._note_once(name, f"{name} is left to others: row {number}: {problem}")
                return False
        return True

    def _note_once(self, name: str, text: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            self.note(text)

    def _manifests(self) -> dict[str, dict[str, Any]]:
        """Manifests of all batches, by name; those that will not change are read once."""
        folder = self.grid.path / BATCHES
        found = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            manifest = self._settled.get(path.name) or self._read(path)
            if manifest is not None:
                found[path.name] = manifest
                if _settled(manifest):
                    self._settled[path.name] = manifest
        return found

    def _read(self, path: Path) -> dict[str, Any] | None:
        if not (path / MANIFEST).is_file():
            return None  # begun by a process that was killed at once
        try:
            manifest = read_manifest(path)
            manifest["rows"] = [int(row) for row in manifest["rows"]]
        except (FolderError, KeyError, TypeError, ValueError) as error:
            self._note_once(path.name, f"{path} is left out, and its rows are run again: {error}")
            return None
        return manifest

    def _covered(self, batches: Mapping[str, Mapping[str, Any]]) -> Covered:
        done: set[int] = set()
        taken: set[int] = set()
        for manifest in batches.values():
            (done if _settled(manifest) else taken).update(manifest["rows"])
        return Covered(frozenset(done), frozenset(taken), frozenset(self.grid.failed_rows()))

    def _taken_up(self, name: str) -> Work | None:
        """The batch, if it is free and still unfinished."""
        path = self.grid.path / BATCHES / name
        lock, free = _tried(path)
        if not free:
            return None
        manifest = read_manifest(path)
        if _settled(manifest):  # between reading it and locking it
            if lock is not None:
                lock.release()
            return None
        folder = ResultFolder(path, "interrupted", None, lock)
        return Work(folder, tuple(int(row) for row in manifest["rows"]), True)

    def _begun(self, numbers: tuple[int, ...]) -> Work:
        rows = [self.rows[number] for number in numbers]
        points = points_of_rows(rows)
        hashes = [settings_hash(settings) for settings in points.settings]
        attempt = 0
        while True:
            digest = _digest([numbers, hashes, attempt])
            path = self.grid.path / BATCHES / f"{numbers[0]:06d}-{digest[:8]}"
            with clear_errors(path):
                path.mkdir(parents=True, exist_ok=True)
            lock, free = _tried(path)
            if free and not (path / MANIFEST).exists():
                break
            if lock is not None:
                lock.release()
            attempt += 1  # the rows ran before, and failed
        folder = ResultFolder(path, "new", None, lock)
        shared = settings_to_dict(together(points))
        manifest = {
            "format": FORMAT,
            "kind": "batch",
            "rows": list(numbers),
            "points": list(points.labels.point),
            "seeds": list(points.labels.seed),
            "method": points.settings[0].method,
            "title": points.settings[0].title,
            "settings": shared,
            "settings_hash": _digest(hashes),
            "status": "running",
        }
        folder.write_yaml(SETTINGS, shared)
        folder.write_json(MANIFEST, manifest)
        return Work(folder, numbers, False)


def points_of_rows(rows: Iterable[Row]) -> Points:
    """Settings and labels of rows that run side by side."""
    rows = list(rows)
    settings = tuple(row.settings for row in rows)
    labels = Labels(tuple(row.point for row in rows), tuple(row.seed for row in rows))
    return Points(settings, labels)


def _settled(manifest: Mapping[str, Any]) -> bool:
    return manifest.get("settled") is True


def _tried(path: Path) -> tuple[Lock | None, bool]:
    """A folder's lock, and whether it was free; who only looks at it does not count."""
    for attempt in range(_TRIES):
        try:
            return locked(path), True
        except FolderBusy:
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE_S)
    return None, False


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
