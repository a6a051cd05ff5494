"""A process that works on a grid with a runner that computes nothing.

python sweep_process.py GRID OUT LOG SECONDS_PER_BATCH
"""

import os
import sys
import time
from pathlib import Path

from fedjax_kd.study.grid.run import sweep


def main(grid, out, log, seconds):
    def run(settings, folder, points, progress):
        rows = folder.read_manifest()["rows"]
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"begin {os.getpid()} {folder.path.name} {rows}\n")
        time.sleep(float(seconds))
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"end {os.getpid()} {folder.path.name} {rows}\n")
        folder.update_manifest(status="complete")
        return {}

    print(sweep(grid, Path(out), width=2, runner=run), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
