"""The driver's end of a contestant's process: that of `peers`, with modules of this folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from peers.process import SCRIPTS, ContestantFailed, Process


class RoundProcess(Process):
    """A process that runs a module of `method_rounds`; arguments as for `Process`."""

    def __init__(self, interpreter: str, module: str, environment: Mapping[str, str], log: Path):
        self.log = log
        self._errors = log.open("w")
        try:
            self._child = subprocess.Popen(
                [interpreter, "-m", f"method_rounds.{module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=log.parent,
                env={**os.environ, "PYTHONPATH": str(SCRIPTS), **environment},
            )
        except OSError as error:
            raise ContestantFailed(f"{interpreter} does not start: {error}") from error
