"""Curves for TensorBoard: `tensorboard --logdir DIR/tensorboard` shows one run for each row.

Events are written by the thread that hands them over. The package's `SummaryWriter` hands them to a
thread of its own, which a full disk ends, and then whoever writes waits for it for ever.
"""

from __future__ import annotations

import os
import time

import pandas as pd
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from fedjax_kd.study.tracking import Tracked, Writer

FOLDER = "tensorboard"


def tensorboard_writer(tracked: Tracked) -> Writer:
    """Writes event files below the study's folder.

    The tag of a value is `scope/metric`, its step the round. A study that is taken up again writes
    files of its own, which TensorBoard joins with the earlier ones.

    Args:
        tracked: the study.
    """
    files: dict[tuple[int, int], EventsWriter] = {}

    def file_of(point: int, seed: int) -> EventsWriter:
        if (point, seed) not in files:
            folder = tracked.folder / FOLDER / f"point-{point}-seed-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            # The file's name holds whole seconds and must not be that of an earlier process.
            suffix = f".{os.getpid()}.{time.time_ns() % 1_000_000_000}"
            files[point, seed] = EventsWriter(str(folder / "events"), suffix)
        return files[point, seed]

    def rows(frame: pd.DataFrame) -> None:
        now_s = time.time()
        columns = ("point", "seed", "round", "scope", "metric", "value")
        for point, seed, number, scope, metric, value in zip(
            *(frame[name].tolist() for name in columns), strict=True
        ):
            event = event_pb2.Event(  # pyright: ignore[reportAttributeAccessIssue]
                wall_time=now_s, step=number, summary=scalar(f"{scope}/{metric}", value)
            )
            file_of(point, seed).write_event(event)

    def flush() -> None:
        for file in files.values():
            file.flush()

    def close() -> None:
        for file in files.values():
            file.close()
        files.clear()

    return Writer(rows, flush, close)
