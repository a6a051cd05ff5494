"""How the driver and a contestant's process talk: one line of JSON per question and per answer.

Questions: `about`, `prepare` (path of a job, options), `round` (index), `evaluate`, `quit`. The
process measures a round itself, with everything finished before the clock is read, and the driver
measures how long it waits for the answer. Whatever a library prints goes to the error stream.
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

from .job import Job, load_job


class Contestant(NamedTuple):
    """One contestant, ready for its first round.

    Attributes:
        n_parameters: trainable values of one model, as the contestant counts them.
        round: `(index) -> None`, one whole round, finished when it returns.
        evaluate: `() -> accuracy in [0, 1]` on the test examples; the mean over the clients' models
            where each has its own.
        close: frees what the contestant holds.
        note: what there is to say about the way the job is run; one or two words, or nothing.
    """

    n_parameters: int
    round: Callable[[int], None]
    evaluate: Callable[[], float]
    close: Callable[[], None] = lambda: None
    note: str = ""


Prepare = Callable[[Job, dict[str, Any]], Contestant]


def serve(
    prepare: Prepare,
    packages: tuple[str, ...],
    facts: Callable[[], dict[str, str]] = dict,
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
            answer = _answer(question, state, prepare, packages, facts)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if question["do"] == "quit":
            return


def _answer(
    question: dict[str, Any],
    state: dict[str, Contestant],
    prepare: Prepare,
    packages: tuple[str, ...],
    facts: Callable[[], dict[str, str]],
) -> dict[str, Any]:
    match question["do"]:
        case "about":
            return {"versions": {name: _version(name) for name in packages} | facts()}
        case "prepare":
            _close(state)
            job = load_job(Path(question["job"]))
            state["now"] = prepare(job, question["options"] | {"job": question["job"]})
            return {"parameters": state["now"].n_parameters, "note": state["now"].note}
        case "round":
            begin_s = time.perf_counter()
            state["now"].round(question["index"])
            return {"seconds": time.perf_counter() - begin_s}
        case "evaluate":
            return {"accuracy": float(state["now"].evaluate())}
        case "quit":
            _close(state)
            return {}
        case other:
            raise ValueError(f"unknown question {other!r}")


def _close(state: dict[str, Contestant]) -> None:
    if "now" in state:
        state.pop("now").close()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
