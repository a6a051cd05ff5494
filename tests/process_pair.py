"""Starting a Python script as two processes of one program on this host, and as one."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from quick_compiling import compiling

TIMEOUT_S = 600  # a process that hangs fails its test; a busy machine does not


class Ended(NamedTuple):
    """What became of a process."""

    code: int
    out: str
    err: str


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def run_pair(script: Path, *words: str, timeout_s: float = TIMEOUT_S, alone: bool = False):
    """Runs `script ADDRESS COUNT INDEX *words` as two processes of one CPU device each.

    Args:
        script: a file that joins by its first three words.
        words: the others; `{process}` in them becomes the index.
        timeout_s: after this all processes are killed and the test fails.
        alone: runs the script as one process with two devices as well, at the same time.

    Returns:
        What became of process 0 and 1, and of the one alone.
    """
    address = free_address()
    parts = [("2", "0", "1"), ("2", "1", "1")] + ([("1", "0", "2")] if alone else [])
    started = []
    try:
        for place, (count, index, devices) in enumerate(parts):
            named = [word.replace("{process}", str(place)) for word in words]
            started.append(
                subprocess.Popen(
                    [sys.executable, str(script), address, count, index, *named],
                    env=environment(devices),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        said = [process.communicate(timeout=timeout_s) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [Ended(process.returncode, *text) for process, text in zip(started, said, strict=True)]


def environment(devices: str) -> dict[str, str]:
    """Plain CPU devices, and programs compiled as those of the other tests."""
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return (
        inherited
        | compiling()
        | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": devices,
            "JAX_NUMPY_DTYPE_PROMOTION": "strict",
            "JAX_NUMPY_RANK_PROMOTION": "raise",
        }
    )
