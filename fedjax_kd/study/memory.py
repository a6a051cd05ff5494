"""What a study needs on a device, estimated before the start, and how many points may be stacked.

The arrays that a program holds are known from their shapes. What it needs on the way (activations,
gradients, copies) is the compiler's business and depends on the form of execution, so the compiler
is asked: one round is compiled, not run, for one study point and for two. The difference is what a
point costs, the rest what the program costs whatever its width. A bound from shapes alone would
have to guess what the compiler fuses and keeps, and `vmap` and `sequential` differ in it by orders
of magnitude. The price is two compilations of a round, some seconds.

All numbers are bytes on ONE device. On a CPU, the devices share the machine's memory, and each gets
its part as a limit.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_kd.clients import Population
from fedjax_kd.data import ExampleTable
from fedjax_kd.methods.contract import Federation, Method
from fedjax_kd.methods.rounds import Participation, one_round
from fedjax_kd.training import Execution, for_points
from fedjax_kd.training.execution import mesh_of, spec_of

SHARE_OF_MEMORY = 0.8
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Memory(NamedTuple):
    """Bytes on one device, of a study of one point and of every further point.

    Attributes:
        examples_bytes: the example table; every device holds all of it.
        index_tables_bytes: per point, who holds which examples; every device holds all of it.
        clients_bytes: per point, `State.clients`, this device's part.
        server_bytes: per point, `State.server`, all of it.
        temporaries_bytes: what a round needs on the way, whatever the number of points.
        temporaries_per_point_bytes: and with every point.
    """

    examples_bytes: int
    index_tables_bytes: int
    clients_bytes: int
    server_bytes: int
    temporaries_bytes: int
    temporaries_per_point_bytes: int

    @property
    def fixed_bytes(self) -> int:
        """What does not grow with the points."""
        return self.examples_bytes + self.temporaries_bytes

    @property
    def per_point_bytes(self) -> int:
        """What a point adds."""
        return (
            self.index_tables_bytes
            + self.clients_bytes
            + self.server_bytes
            + self.temporaries_per_point_bytes
        )

    def total_bytes(self, n_points: int) -> int:
        """What a program of this many points needs."""
        return self.fixed_bytes + n_points * self.per_point_bytes


class StudyTooLarge(ValueError):
    """Not even one study point fits."""


def estimate(
    build: Callable[[Execution], Method],
    table: ExampleTable,
    people: Population,
    hparams: Any,
    *,
    execution: Execution,
    participation: Participation = Participation(),  # noqa: B008
) -> Memory:
    """What rounds of a method need; nothing is run and nothing is put on a device.

    Args:
        build: makes the method for an execution (the mesh depends on the number of points).
        table: the examples; arrays or their shapes.
        people: the clients of one or more points; shapes count, and all points have the same.
        hparams: hyper-parameters of one point, scalars, or [S], of which any one is taken.
        execution: how clients are run.
        participation: who takes part.
    """
    found = [_of_points(build, table, people, hparams, execution, participation, n) for n in (1, 2)]
    slope = max(0, found[1].temporaries_bytes - found[0].temporaries_bytes)
    return found[0]._replace(
        temporaries_bytes=max(0, found[0].temporaries_bytes - slope),
        temporaries_per_point_bytes=slope,
    )


def points_that_fit(memory: Memory, limit_bytes: int) -> int:
    """How many study points may be stacked into one program.

    Args:
        memory: what `estimate` found.
        limit_bytes: what a device may use, see `device_limit_bytes`.

    Raises:
        StudyTooLarge: if not even one fits; the text names every part.
    """
    points = (limit_bytes - memory.fixed_bytes) // max(memory.per_point_bytes, 1)
    if points < 1:
        raise StudyTooLarge(
            f"one study point needs {_size(memory.total_bytes(1))} on a device, "
            f"{_size(limit_bytes)} are allowed: example table {_size(memory.examples_bytes)}, "
            f"index tables {_size(memory.index_tables_bytes)}, clients' state "
            f"{_size(memory.clients_bytes)}, server's state {_size(memory.server_bytes)}, "
            "temporaries of a round "
            f"{_size(memory.temporaries_bytes + memory.temporaries_per_point_bytes)}"
        )
    return int(points)


def device_limit_bytes(execution: Execution, share: float = SHARE_OF_MEMORY) -> int:
    """What one device may use.

    Args:
        execution: the devices.
        share: of the memory that the device says it has, or, on a CPU, of the machine's (or the
            container's) divided by the devices; in (0, 1].

    Raises:
        ValueError: if the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1]; got {share}")
    local = [device for device in execution.devices if device.process_index == jax.process_index()]
    known = [(device.memory_stats() or {}).get("bytes_limit") for device in local]
    if known and all(known):
        return int(share * min(filter(None, known)))
    return int(share * machine_bytes() / max(len(local), 1))


def machine_bytes() -> int:
    """Main memory of the machine, or of the container if that has less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            found = min(found, int(text))
    return found


def _of_points(build, table, people, hparams, execution, participation, n_points) -> Memory:
    """As `estimate` for exactly this many points, with all temporaries in one number."""
    execution = for_points(execution, n_points)
    method = build(execution)
    federation = Federation(table=table, people=_stacked(people, n_points))
    state = jax.eval_shape(method.init, federation)
    step = jax.jit(one_round(method, execution, participation), donate_argnums=0)
    arguments = (
        replace(
            state,
            server=_placed(state.server, execution, "study"),
            clients=_placed(state.clients, execution, "clients"),
        ),
        _placed(federation, execution),
        _placed(_for_points(hparams, n_points), execution),
        _placed(jax.ShapeDtypeStruct((), np.int32), execution),
    )
    spent = step.lower(*arguments).compile().memory_analysis()
    points = federation.people
    tables = (points.train, points.validation, points.test)
    tables += (points.common_validation, points.common_test, points.public)
    tables += (points.point, points.user)
    n_clients = -(-points.n_clients // execution.n_devices)
    return Memory(
        examples_bytes=_bytes(federation.table),
        index_tables_bytes=_bytes(tables) // n_points,
        clients_bytes=_bytes(state.clients) * n_clients // points.n_clients // n_points,
        server_bytes=_bytes(state.server) // n_points,
        temporaries_bytes=_temporaries(spent),
        temporaries_per_point_bytes=0,
    )


def _temporaries(spent) -> int:
    """What the program takes beside its arguments: scratch, and results that reuse no argument."""
    if spent is None:
        return 0
    own = spent.output_size_in_bytes - spent.alias_size_in_bytes
    return int(spent.temp_size_in_bytes + max(0, own))


def _stacked(people: Population, n_points: int) -> Population:
    """Shapes of a population of this many points, each like one of the given ones."""

    def rows(leaf, length):
        return jax.ShapeDtypeStruct((length, *leaf.shape[1:]), leaf.dtype)

    n_clients = people.n_users * n_points
    by_client = ("point", "user", "train", "validation", "test")
    by_point = ("roots", "common_validation", "common_test", "public")
    resized = {
        name: jax.tree.map(lambda leaf: rows(leaf, length), getattr(people, name))  # noqa: B023
        for names, length in ((by_client, n_clients), (by_point, n_points))
        for name in names
    }
    return replace(people, **resized)


def _for_points(hparams, n_points: int):
    def resized(leaf):
        shape = (n_points, *leaf.shape[1:]) if leaf.ndim else ()
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    return jax.tree.map(resized, hparams)


def _placed(tree, execution: Execution, axis=None):
    """Shapes of arrays where the engine keeps them: whole, or cut along their leading axis."""

    def placed(leaf):
        spec = spec_of(axis, execution, leaf.shape[0]) if axis else PartitionSpec()
        sharding = NamedSharding(mesh_of(execution), spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(placed, tree)


def _bytes(tree) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(leaf.dtype.itemsize * int(np.prod(leaf.shape, dtype=np.int64)) for leaf in leaves)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.1f} MiB"
