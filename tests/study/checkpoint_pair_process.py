"""One of the processes of `test_checkpoint_hosts.py`: a state over both saves and comes back.

Words: coordinator, number of processes, index, folder. Writes lines of JSON, `[what, answer]`.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from checkpoint_cases import Clock, bits, shapes
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_kd.study.checkpoint import Cadence, CheckpointError, Keeper, Stopped, open_keeper
from fedjax_kd.study.folder import ResultFolder
from fedjax_kd.study.host_options import HostOptions
from fedjax_kd.study.hosts import Hosts, join, leave
from fedjax_kd.training.processes import ProcessError, gathered

MESH_AXIS = "clients"


def say(what: str, answer) -> None:
    print(json.dumps([what, answer]), flush=True)


def main(coordinator: str, processes: str, process: str, folder: str) -> int:
    hosts = join(HostOptions(coordinator, int(processes), int(process)))
    mesh = Mesh(np.asarray(jax.devices()), (MESH_AXIS,))
    whole = {
        "rows": np.arange(4_000_000, dtype=np.float32).reshape(4, -1),
        "half": np.asarray(jnp.asarray([1.5, jnp.nan], jnp.bfloat16)),
        "empty": np.zeros((0, 2), np.int8),
        "key": jax.random.key(5),
    }
    cut = NamedSharding(mesh, PartitionSpec(MESH_AXIS))
    same = NamedSharding(mesh, PartitionSpec())

    def place(array, sharding):
        return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])

    state = {
        "rows": place(whole["rows"], cut),
        "half": place(whole["half"], same),
        "empty": whole["empty"],
        "key": whole["key"],
    }
    clock, notes = Clock(), []
    asked: list[int | None] = [None]

    def keeper_of(path: Path) -> Keeper:
        return open_keeper(
            # The others need not see the folder at all.
            ResultFolder(path if hosts.first else Path("nowhere"), "new", writes=hosts.first),
            Cadence(every_rounds=None, every_minutes=1),
            settings_hash="abc",
            form="vmap",
            points=1,
            note=notes.append,
            requested=lambda: asked[0],
            clock=clock,
        )

    keeper = keeper_of(Path(folder))
    part = keeper.part("p", 9)
    say("nothing", part.restore(shapes(whole)))
    # The clocks differ: what process 0 says is done by both.
    clock.now_s += 61 if hosts.first else 0
    made = []
    part.offer(1, lambda: made.append(1) or state)
    say("made", made)
    asked[0] = None if hosts.first else 15
    try:
        part.offer(2, lambda: state)
    except Stopped as stopped:
        say("stopped", [stopped.signal, stopped.step])
    asked[0] = None
    keeper.close()
    gathered(np.int32(0))  # nobody looks before the other has closed
    found = keeper_of(Path(folder)).part("p", 9).restore(shapes(whole))
    assert found is not None
    say("step", found[0])
    say("same", bits(found[1]) == bits(whole))
    say("notes", notes)
    refuse(hosts, keeper_of(Path("/dev/null")), state)
    return leave(hosts, 0)


def refuse(hosts: Hosts, keeper: Keeper, state) -> None:
    try:
        keeper.part("p", 1).offer(1, lambda: state)
    except CheckpointError:
        say("refused", "own")
    except ProcessError as error:
        say("refused", str(error)[:45])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
