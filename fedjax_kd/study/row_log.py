"""Rows of a running study on the disk as they come, so that a killed run's rows can be read.

Each chunk of a part is one small parquet file, written beside its place, brought to the disk and
then renamed: after `append` returns, neither the end of the process nor a power cut takes the rows
away. `fedjax_kd.load_results` reads them.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pandas as pd

from fedjax_kd.results.row_parts import ROWS, last_round_of, part_file, read_part, read_parts
from fedjax_kd.study.folder import clear_errors, sync_folder, write_atomic

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class RowLog:
    """The rows of a study that is under way.

    Args:
        folder: of the study.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def append(self, part: str, last_round: int, frame: pd.DataFrame) -> None:
        """Writes the rows of a chunk; a chunk that is already there is replaced.

        Args:
            part: of the study; a file name.
            last_round: the last round of the chunk, from 1.
            frame: its rows, with a column `round`.

        Raises:
            ValueError: the part's name or the round is none.
            FolderError: the rows cannot be written; earlier ones are still there.
        """
        if not _PART.fullmatch(part):
            raise ValueError(f"part: found {part!r}; allowed: letters, digits and . _ + -")
        if last_round < 1:
            raise ValueError(f"last_round: found {last_round}; allowed: at least 1")
        path = part_file(self.folder, part, last_round)
        if not path.parent.is_dir():
            with clear_errors(path.parent):
                path.parent.mkdir(parents=True)
            for folder in (path.parent.parent, self.folder):
                sync_folder(folder)
        write_atomic(path, lambda file: frame.to_parquet(file, index=False))
        sync_folder(path.parent)

    def drop_after(self, part: str, last_round: int) -> None:
        """Takes away the rows after a round, e.g. those past a checkpoint; none stay after 0.

        A file that holds earlier rounds too is written again without the later ones.

        Args:
            part: of the study.
            last_round: the last round that stays.
        """
        for path in read_part(self.folder, part).files:
            if last_round_of(path) <= last_round:
                continue
            if last_round > 0:
                self._keep_until(part, last_round, path)
            with clear_errors(path):
                path.unlink(missing_ok=True)

    def last_rounds(self) -> dict[str, int]:
        """The last round of each part that has rows."""
        return {part.name: part.last_round for part in read_parts(self.folder)}

    def clear(self) -> None:
        """Takes all rows away, once the study's tables hold them."""
        rows, going = self.folder / ROWS, self.folder / f".{ROWS}.partial"
        with clear_errors(rows):
            shutil.rmtree(going, ignore_errors=True)  # of a process that was killed while it did so
            if rows.is_dir():
                os.replace(rows, going)  # all at once, or not at all
                shutil.rmtree(going, ignore_errors=True)  # nobody reads them under that name

    def _keep_until(self, part: str, last_round: int, path: Path) -> None:
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError):  # damaged: nothing of it can be kept
            return
        kept = frame[frame["round"] <= last_round]
        if len(kept):
            self.append(part, last_round, pd.DataFrame(kept))
