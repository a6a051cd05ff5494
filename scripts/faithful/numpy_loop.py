"""The loop in NumPy, float64: `python -m faithful.numpy_loop JOB.npz OUTCOME.npz`; `mlp` alone."""

from __future__ import annotations

import sys
from pathlib import Path

from .job import load_job, save_outcome
from .loop import run
from .numpy_network import NumpyNetwork


def main(job: str, outcome: str, threads: str = "1") -> None:
    """Runs a job; the number of threads is NumPy's own affair."""
    del threads
    loaded = load_job(Path(job))
    save_outcome(Path(outcome), run(loaded, NumpyNetwork(loaded.terms)))


if __name__ == "__main__":
    main(*sys.argv[1:])
