"""How the driver and a contestant's process talk: one line of JSON per question and per answer.

Questions: `about`, `prepare` (path of a job, options), `round` (number), `weights` (path to write
to), `evaluate`, `quit`. The process measures a round itself, with everything finished and the
losses read before the clock is. Whatever a library prints goes to the error stream.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .job import Job, Weights, load_job


class Done(NamedTuple):
    """What a round was.

    Attributes:
        steps: optimiser steps, over all models.
        examples: that those steps were taken on.
        losses: [K], training loss of each client; 0 where it did not train. On-device KD: mean over
            the labelled steps, of the target at strong clients, else of the auxiliary. DFML: last
            epoch. pFedAFM: [2 K], last epoch of the first stage, then of the second.
    """

    steps: int
    examples: int
    losses: list[float]


class Contestant(NamedTuple):
    """One contestant, ready for its first round.

    Attributes:
        round: `(number) -> Done`, one whole round of the job, finished when it returns.
        weights: `() -> Weights`, as a job has them.
        evaluate: `() -> (loss, accuracy)` on the test examples: the target of on-device KD, or the
            mean over the clients' own models.
        note: what there is to say about the way the job is run.
    """

    round: Callable[[int], Done]
    weights: Callable[[], Weights]
    evaluate: Callable[[], tuple[float, float]]
    note: str = ""


Prepare = Callable[[Job, dict[str, Any]], Contestant]


def serve(
    prepare: Prepare, packages: tuple[str, ...], facts: Callable[[], dict[str, str]] = dict
) -> None:
    """Answers the driver's questions until it says `quit` or closes the pipe.

    Args:
        prepare: makes the contestant for a job, with the options that the driver sends along.
        packages: distributions whose versions `about` reports.
        facts: what `about` reports beside them.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    state: dict[str, Contestant] = {}
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if question["do"] == "about":
                answer = {"versions": {name: _version(name) for name in packages} | facts()}
            else:
                answer = _answer(question, state, prepare)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if question["do"] == "quit":
            return


def _answer(question: dict[str, Any], state: dict[str, Contestant], prepare: Prepare) -> Any:
    match question["do"]:
        case "prepare":
            state.clear()
            state["now"] = prepare(load_job(Path(question["job"])), question["options"])
            return {"note": state["now"].note}
        case "round":
            begin_s = time.perf_counter()
            done = state["now"].round(question["number"])
            return {"seconds": time.perf_counter() - begin_s} | done._asdict()
        case "weights":
            np.savez(question["path"], **state["now"].weights())  # pyright: ignore[reportArgumentType]
            return {}
        case "evaluate":
            loss, accuracy = state["now"].evaluate()
            return {"loss": float(loss), "accuracy": float(accuracy)}
        case "quit":
            state.clear()
            return {}
        case other:
            raise ValueError(f"unknown question {other!r}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
