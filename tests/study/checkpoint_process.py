"""Runs of `test_checkpoint_damage.py` and `test_stop.py` that end in the middle.

Words: `save FOLDER` saves one big state after the other for ever and says each step; `stop` says
`ready`, waits until a stop is asked for, says which, and then waits for ever.
"""

import sys
import time
from pathlib import Path

BIG = 500_000


def save(folder: str) -> None:
    import numpy as np
    from checkpoint_cases import opened

    from fedjax_kd.study.checkpoint import Cadence

    keeper = opened(Path(folder), Cadence(every_rounds=1, every_minutes=None))
    part = keeper.part("p", 10**9)
    step = 0
    while True:
        step += 1
        state = {"a": np.full(BIG, step, np.float32), "b": np.full(BIG, -step, np.float32)}
        part.offer(step, lambda: state)  # noqa: B023
        keeper.part("waits for the one before", 1)
        print(step, flush=True)


def stop() -> None:
    from fedjax_kd.study.stop import stop_on_signals

    with stop_on_signals() as asked:
        print("ready", flush=True)
        while asked.requested is None:
            time.sleep(0.01)
        print(asked.requested, flush=True)
        time.sleep(60)


if __name__ == "__main__":
    {"save": save, "stop": stop}[sys.argv[1]](*sys.argv[2:])
