"""Curves for Weights & Biases: one run for each row, its settings as config.

`WANDB_MODE=offline` keeps the runs on this machine, for `wandb sync` later. The other variables of
the package (`WANDB_PROJECT`, `WANDB_ENTITY`, ...) hold as well.
"""

from __future__ import annotations

import hashlib
import math
import os
from typing import cast

import pandas as pd
import wandb

from fedjax_kd.study.tracking import Tracked, Writer

PROJECT = "fedjax-kd"  # unless WANDB_PROJECT says another
WAIT_S = 30.0  # at most, for the server at the beginning, and for uploads at the end


def run_id(identity: str, point: int, seed: int) -> str:
    """The name of a row's run: the same whenever the study is taken up again."""
    return hashlib.sha256(f"{identity} {point} {seed}".encode()).hexdigest()[:16]


def wandb_writer(tracked: Tracked) -> Writer:
    """Opens a run for each row of the study.

    A study that is taken up again goes on with the same runs. Charts are drawn over `round`.

    Args:
        tracked: the study.
    """
    runs = {row: _open(tracked, *row) for row in tracked.settings}
    steps = dict.fromkeys(runs, -1)

    def rows(frame: pd.DataFrame) -> None:
        for key, group in frame.groupby(["point", "seed", "step", "round"], sort=True):
            point, seed, step, number = (int(each) for each in cast("tuple[int, ...]", key))
            row = point, seed
            steps[row] = max(step, steps[row] + 1)  # the package drops what goes back
            values = {
                f"{scope}/{metric}": value
                for scope, metric, value in zip(
                    group["scope"], group["metric"], group["value"].tolist(), strict=True
                )
                if math.isfinite(value)
            }
            runs[row].log({"round": number, **values}, step=steps[row])

    def close() -> None:
        for row in list(runs):
            runs.pop(row).finish()

    return Writer(rows, lambda: None, close)


def _open(tracked: Tracked, point: int, seed: int) -> wandb.Run:
    title = tracked.title or tracked.method
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        group=f"{title} {tracked.identity}",
        name=f"{title}, point {point}, seed {seed}",
        id=run_id(tracked.identity, point, seed),
        resume="allow",
        reinit="create_new",  # the rows of a batch run side by side
        dir=str(tracked.folder),
        config={"point": point, "seed": seed, "settings": dict(tracked.settings[point, seed])},
        settings=wandb.Settings(
            console="off",
            silent=True,
            init_timeout=WAIT_S,
            finish_timeout=WAIT_S,
            save_code=False,
            x_disable_stats=True,
        ),
    )
    run.define_metric("*", step_metric="round")
    return run
