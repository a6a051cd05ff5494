"""What the processes of one study tell each other; a process alone says nothing to anybody.

Several processes run the same program on the same numbers, so nearly everything they need to know
of each other is already in the compiled programs. What is left are decisions that depend on more
than the numbers, such as times and files: one process decides, or all take the largest, for
processes that went different ways would wait for each other for ever.

Every function here is part of the program: all processes must call it, in the same order.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import ArrayLike

from fedjax_kd.training.execution import CLIENTS, STUDY, Execution, mesh_of

Answer = TypeVar("Answer")
_BLOCK_BYTES = 4 * 2**20  # that every process tells every other at a time


class ProcessError(ValueError):
    """What went wrong in, or between, the processes of one study."""


def gathered(values: ArrayLike) -> np.ndarray:
    """Every process's values, [P, ...] in the order of the processes.

    Args:
        values: array of numbers, of the same shape and dtype in every process.

    Returns:
        All of them; `values[None]` for a process alone.
    """
    values = np.asarray(values)
    if jax.process_count() == 1:
        return values[None]
    first_devices: dict[int, Any] = {}
    for device in jax.devices():
        first_devices.setdefault(device.process_index, device)
    mesh = Mesh(np.asarray([first_devices[i] for i in range(jax.process_count())]), ("process",))
    shape = (jax.process_count(), *values.shape)
    rows = NamedSharding(mesh, PartitionSpec("process"))
    stacked = jax.make_array_from_callback(shape, rows, lambda index: values[None])
    return np.asarray(_whole(stacked, NamedSharding(mesh, PartitionSpec())))


def from_first(decide: Callable[[], Answer]) -> Answer:
    """What `decide` returns in process 0, in all of them; the others do not call it.

    Args:
        decide: returns something that JSON keeps: dictionaries, lists, text, numbers, None.

    Raises:
        ProcessError: in the others, if `decide` fails in process 0, where its own error is raised.
    """
    if jax.process_count() == 1:
        return decide()
    text, failure = "{}", None
    if jax.process_index() == 0:
        try:
            text = json.dumps({"answer": decide()})
        except Exception as error:
            text, failure = json.dumps({"error": f"{error}"}), error
    data = np.frombuffer(text.encode(), np.uint8)
    length = int(gathered(np.int32(len(data)))[0])
    padded = np.zeros(length, np.uint8)
    padded[: len(data)] = data[:length]
    message: dict[str, Any] = json.loads(gathered(padded)[0].tobytes())
    if failure is not None:
        raise failure
    if "error" in message:
        raise ProcessError(f"process 0 has stopped: {message['error']}")
    return message["answer"]


def bytes_from_first(data: np.ndarray | None, length: int) -> np.ndarray:
    """The bytes of process 0, in all of them.

    Args:
        data: uint8 [length] in process 0; the others' are not looked at.
        length: the same in every process.

    Returns:
        uint8 [length].
    """
    if data is not None and jax.process_count() == 1:
        return data
    whole = np.empty(length, np.uint8)
    for start in range(0, length, _BLOCK_BYTES):
        block = np.zeros(_BLOCK_BYTES, np.uint8)
        stop = min(start + _BLOCK_BYTES, length)
        if data is not None and jax.process_index() == 0:
            block[: stop - start] = data[start:stop]
        whole[start:stop] = gathered(block)[0, : stop - start]
    return whole


def slowest(seconds: float) -> float:
    """The largest of what the processes measured: for decisions that follow from times."""
    return float(gathered(np.float32(seconds)).max()) if jax.process_count() > 1 else seconds


def meet(execution: Execution) -> None:
    """Connects the devices of an execution while their processes are in step.

    Devices of several processes connect when they first exchange something, and on a CPU give up if
    one of them is half a minute late, as it may be when processes compile at different speeds. Once
    connected they wait for each other patiently.

    Args:
        execution: devices and rows of the mesh that are going to be used.
    """
    if jax.process_count() == 1:
        return
    mesh = mesh_of(execution)

    def exchange(x):
        return jax.lax.psum(x, STUDY) + jax.lax.psum(x, CLIENTS) + jax.lax.psum(x, (STUDY, CLIENTS))

    whole = PartitionSpec()
    exchanged = jax.shard_map(exchange, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
    place = NamedSharding(mesh, whole)
    zero = jax.make_array_from_callback((), place, lambda index: np.float32(0))
    program = jax.jit(exchanged).lower(zero).compile()
    with announcements_dropped():
        gathered(np.int32(0))  # nobody goes on before everybody is here
        jax.block_until_ready(program(zero))


@contextmanager
def announcements_dropped() -> Iterator[None]:
    """Drops what libraries below Python write to standard output, which is for our own lines.

    The one that connects processes on a CPU announces itself there.
    """
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


@partial(jax.jit, static_argnames="sharding")
def _whole(stacked: jax.Array, sharding: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(stacked, sharding)
