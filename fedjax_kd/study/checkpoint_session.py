"""One run's dealings with the checkpoints of a study: what it saves, finds and passes over."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_kd.study.checkpoint_contract import MakeTree, Part, Stopped
from fedjax_kd.study.checkpoint_files import (
    CheckpointError,
    CheckpointMisfit,
    DamageError,
    part_folder,
    parts_in,
    read_about,
    read_leaves,
    reason_of,
    remove_checkpoint,
    remove_half_written,
    remove_part,
    set_aside,
    steps_in,
    write_checkpoint,
)
from fedjax_kd.study.checkpoint_schedule import Cadence, dispensable, is_due
from fedjax_kd.study.checkpoint_tree import (
    Leaf,
    Tree,
    TreeError,
    host_leaves,
    leaves_from_first,
    rebuilt,
    require_like,
)
from fedjax_kd.study.checkpoint_writer import Writer
from fedjax_kd.training.processes import ProcessError, from_first, gathered

_NOT_COMPARED = ("cpus", "system")  # of a machine: programs do not depend on them


class Session:
    """The checkpoints of one folder while a run has it open.

    Args:
      root: the folder of all checkpoints.
      cadence: when to save and how much to keep.
      about: what every checkpoint says of this run.
      writes: whether this process reads and writes.
      note: told what the user should know.
      requested: returns the number of the signal that asked for a stop, or None.
      clock: seconds from any moment on.
    """

    def __init__(
        self,
        root: Path,
        cadence: Cadence,
        about: dict[str, Any],
        writes: bool,
        note: Callable[[str], None],
        requested: Callable[[], int | None],
        clock: Callable[[], float],
    ):
        self.cadence, self.about, self.writes = cadence, about, writes
        self.note, self.requested, self.clock = note, requested, clock
        self.writer = Writer()
        self.saved_at_s = clock()
        self._root = root

    def part(self, name: str, total: int) -> Part:
        """Opens a part; removes what was never finished of it."""
        self.writer.wait()
        folder = part_folder(self._root, name)
        if self.writes and remove_half_written(folder):
            self.note(f"{name}: a checkpoint that was never finished is removed")
        course = _Course(self, folder, name, total)
        return Part(self.cadence.every_rounds, course.restore, course.offer)

    def drop(self, name: str) -> None:
        """Removes what was kept of a part."""
        self.writer.wait()
        if self.writes:
            remove_part(part_folder(self._root, name))

    def finish(self) -> None:
        """Removes all but the final state of each finished part."""
        self.writer.wait()
        for name in parts_in(self._root) if self.writes else ():
            folder = part_folder(self._root, name)
            steps = steps_in(folder)
            if steps and _is_final(folder / str(steps[-1])):
                for step in steps[:-1]:
                    remove_checkpoint(folder / str(step))

    def close(self) -> None:
        """Waits for what is being written."""
        self.writer.close()


class _Course:
    """How far one part is, and what of it is on the disk."""

    def __init__(self, session: Session, folder: Path, name: str, total: int):
        self._session, self._folder = session, folder
        self._name, self._total = name, total
        self._known: list[int] = []  # steps on the disk that this run wrote or found in order
        self._step = 0  # that was saved or restored last
        self._spent_s = 0.0  # by earlier runs
        self._since_s = session.clock()
        self._copies: dict[str, Leaf] = {}  # memory of the last save

    def restore(self, like: Any) -> tuple[int, Tree] | None:
        found: dict[str, Leaf] = {}
        structure: list[Tree] = []

        def expected() -> Tree:
            if not structure:
                structure.append(like() if callable(like) else like)
            return structure[0]

        def find() -> dict[str, Any] | None:
            about, leaves = self._newest(expected) or (None, {})
            found.update(leaves)
            return about

        about = from_first(find)
        if about is None:
            return None
        self._spent_s = about["spent_s"]
        # What was finished is finished, into however many steps it was cut.
        self._step = self._total if about["step"] == about["total"] else about["step"]
        self._since_s = self._session.clock()
        leaves = leaves_from_first(found if self._session.writes else None, about["leaves"])
        return self._step, rebuilt(expected(), leaves)

    def offer(self, step: int, make_tree: MakeTree) -> None:
        session = self._session
        final = step == self._total
        since_s = session.clock() - session.saved_at_s
        due = not session.writer.busy and is_due(session.cadence, step, self._step, since_s)
        told = gathered(
            np.asarray([due, session.requested() or 0, session.writer.failed], np.int32)
        )
        signal = int(told[:, 1].max())
        self._raise_failure(bool(told[:, 2].any()))
        waits = final or signal > 0
        if step != self._step and (waits or told[0, 0]):
            self._save(step, make_tree)
        if waits:
            self._together(session.writer.wait)
        if final:
            self._copies = {}
        if signal:
            raise Stopped(signal, self._name, step)

    def _save(self, step: int, make_tree: MakeTree) -> None:
        session = self._session
        self._together(session.writer.wait)  # the copies are its own until then
        try:
            self._copies = host_leaves(make_tree(), self._copies, session.writes)
        except TreeError as error:
            raise CheckpointError(f"{self._name}: cannot be saved: {error}") from error
        session.saved_at_s = session.clock()
        about = {
            **session.about,
            "part": self._name,
            "step": step,
            "total": self._total,
            "spent_s": self._spent_s + session.saved_at_s - self._since_s,
            "saved_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        self._step = step
        if session.writes:
            session.writer.start(partial(self._write, step, dict(self._copies), about))

    def _write(self, step: int, leaves: dict[str, Leaf], about: dict[str, Any]) -> None:
        """Writes a checkpoint and removes those that it replaces; in the thread."""
        path = self._folder / str(step)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if path.exists():  # of a run that was not taken up again
                remove_checkpoint(path)
            write_checkpoint(path, leaves, about)
        except Exception as error:
            remove_half_written(self._folder)
            intact = (
                f"the checkpoint of round {max(self._known)} is intact"
                if self._known
                else "there is no earlier one of this part"
            )
            raise CheckpointError(f"cannot write {path}: {reason_of(error)}; {intact}") from error
        self._known = sorted({*self._known, step})
        replaced = set(dispensable(self._known, self._session.cadence.keep))
        self._known = [each for each in self._known if each not in replaced]
        for each in set(steps_in(self._folder)) - set(self._known):
            with suppress(CheckpointError):  # the next write tries again
                remove_checkpoint(self._folder / str(each))

    def _newest(self, like: Callable[[], Tree]) -> tuple[dict[str, Any], dict[str, Leaf]] | None:
        """The last sound checkpoint; what is damaged is said and set aside. In process 0."""
        steps = steps_in(self._folder)
        for step in reversed(steps):
            path = self._folder / str(step)
            try:
                about = read_about(path)
                if (about["part"], about["step"]) != (self._name, step):
                    raise DamageError(f"it is round {about['step']} of {about['part']}")
                self._require_ours(path, about, like())
                leaves = read_leaves(path, about)
            except DamageError as error:
                aside = set_aside(path)
                self._session.note(
                    f"{self._name}: the checkpoint of round {step} is damaged: {error}; it is now "
                    f"{aside.name}"
                )
                continue
            self._compare(about)
            if about["total"] != self._total and step != about["total"]:
                self._session.note(
                    f"{self._name}: was cut into {about['total']} steps and is now into "
                    f"{self._total}; it starts again from the beginning"
                )
                return None
            self._known = [each for each in steps if each <= step]
            return about, leaves
        if steps:
            self._session.note(
                f"{self._name}: no checkpoint is sound; it starts again from the beginning"
            )
        return None

    def _require_ours(self, path: Path, about: dict[str, Any], like: Tree) -> None:
        ours = self._session.about
        for field, word in {"settings_hash": "settings", "points": "points"}.items():
            if about[field] != ours[field]:
                raise CheckpointMisfit(
                    f"{path}: {word}: found {about[field]}; allowed: {ours[field]}, as this study "
                    "has it"
                )
        try:
            require_like(like, about["leaves"])
        except TreeError as error:
            raise CheckpointMisfit(f"{path}: {error}") from error

    def _compare(self, about: dict[str, Any]) -> None:
        ours = self._session.about
        pairs = [("form of execution", about["form"], ours["form"])]
        for kind in ("versions", "machine"):
            names = dict.fromkeys([*about[kind], *ours[kind]])
            pairs += [
                (name, about[kind].get(name), ours[kind].get(name))
                for name in names
                if name not in _NOT_COMPARED
            ]
        changed = [f"{name} {old} then, {new} now" for name, old, new in pairs if old != new]
        if changed:
            self._session.note(
                f"going on with checkpoints of {'; '.join(changed)}: results may differ in the "
                "last bits from those of an uninterrupted run"
            )

    def _together(self, act: Callable[[], None]) -> None:
        """Does something in process 0 and lets no process go on if it fails there."""
        from_first(act)

    def _raise_failure(self, failed: bool) -> None:
        if failed:
            self._session.writer.wait()
            raise ProcessError("process 0 has stopped: it could not write a checkpoint")


def once(note: Callable[[str], None]) -> Callable[[str], None]:
    """Says nothing twice."""
    said: set[str] = set()

    def say(text: str) -> None:
        if text not in said:
            said.add(text)
            note(text)

    return say


def _is_final(path: Path) -> bool:
    try:
        about = read_about(path)
    except (DamageError, CheckpointError):
        return False
    return about["step"] == about["total"]
