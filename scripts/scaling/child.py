"""The process of one case: it answers the driver's questions, one line of JSON each.

`prepare` builds the case and runs one turn, which compiles; `turn` runs the next rounds; `study`
builds the case and runs all of its rounds, compilation and all; `padding` counts; `memory` says how
much memory the process took at most. The process measures itself, with everything finished before
the clock is read.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from fedjax_kd.study.environment import prepare_backend

from .case import Case


def main() -> None:
    """Answers questions until the driver says `quit` or closes the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    case = Case(**json.loads(sys.argv[1]))
    prepare_backend(case.devices)
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=sys.argv[2]) as folder:
        held: dict[str, Any] = {"done": 0}
        for line in sys.stdin:
            question = json.loads(line)
            try:
                answer = _answer(question["do"], case, Path(folder), held)
            except Exception as error:
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
            if question["do"] == "quit":
                return


def _answer(do: str, case: Case, folder: Path, held: dict[str, Any]) -> dict[str, Any]:
    if do == "quit":
        if "ready" in held:
            held["ready"].close()
        return {}
    if do == "memory":
        return {"peak_bytes": 1024 * _status_kib("VmHWM")}
    if "source" not in held:
        _load(held)
    from scaling.work import executed_by_form, prepare

    source, execution = held["source"], held["execution"]
    begin_s = time.perf_counter()
    match do:
        case "load":
            return {"resident_bytes": 1024 * _status_kib("VmRSS")}
        case "prepare":
            held["ready"] = prepare(case, source, execution, folder)
            begin_s = time.perf_counter()
            _turn(case, held)
            return {
                "seconds": time.perf_counter() - begin_s,
                "row_bytes": held["ready"].row_bytes,
                "execution": f"{execution.label} on {execution.n_devices}",
            }
        case "turn":
            _turn(case, held)
        case "study":
            held["ready"] = prepare(case, source, execution, folder)
            _turn(case, held)
        case "padding":
            return {"ratios": executed_by_form(case, source, execution)}
        case other:
            raise ValueError(f"unknown question {other!r}")
    return {"seconds": time.perf_counter() - begin_s}


def _load(held: dict[str, Any]) -> None:
    """The data set, and the backend started."""
    from fedjax_kd.data import load_source
    from fedjax_kd.training import default_execution

    held["source"] = load_source("fashion_mnist")
    held["execution"] = default_execution()


def _turn(case: Case, held: dict[str, Any]) -> None:
    held["ready"].rounds(held["done"], case.rounds)
    held["done"] += case.rounds


def _status_kib(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}: memory can be measured on Linux only")


if __name__ == "__main__":
    main()
