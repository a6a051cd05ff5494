"""One of the processes of `test_hosts.py`: what processes tell each other, and how one fails.

Words: coordinator, number of processes, index. Writes lines of JSON, `[what, answer]`.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.study.host_options import HostOptions, HostsError
from fedjax_kd.study.hosts import agree, content_hash, here, join, leave, lost_process
from fedjax_kd.training import default_execution, everywhere, settled
from fedjax_kd.training.execution import on_host
from fedjax_kd.training.processes import ProcessError, from_first, gathered, meet, slowest


def say(what: str, answer) -> None:
    print(json.dumps([what, answer]), flush=True)


def refused() -> dict:
    raise ValueError("the folder is taken")


def main(coordinator: str, processes: str, process: str) -> int:
    hosts = join(HostOptions(coordinator, int(processes), int(process)))
    say("hosts", hosts)
    say("here", here() == hosts)
    say("gathered", gathered(np.asarray([hosts.index, 7])).tolist())
    say("slowest", slowest(1.0 + hosts.index))
    say("from_first", from_first(lambda: {"mine": hosts.index, "text": "ä"}))
    try:
        from_first(refused)
    except ProcessError as error:
        say("refused", f"told: {error}")
    except ValueError as error:
        say("refused", f"own: {error}")
    agree("settings", "the same")
    try:
        agree("settings", f"those of {hosts.index}")
    except HostsError as error:
        say("disagree", str(error))

    execution = default_execution()
    meet(execution)
    tree = {"key": jax.random.key(3), "rows": jnp.arange(4.0), "host": np.int32(5)}
    placed = everywhere(tree, execution)
    say("same", content_hash(placed) == content_hash(tree))
    say("again", content_hash(everywhere(placed, execution)) == content_hash(tree))
    cut = jax.jit(lambda x: settled(x * 2, execution, axis="clients"))(placed["rows"])
    say("cut", not cut.is_fully_replicated)
    say("on_host", on_host(cut, execution).tolist())
    try:
        default_execution(1)
    except ValueError as error:
        say("one device", str(error))
    return fail(hosts)


def fail(hosts) -> int:
    """Process 1 stops, and process 0 waits for it."""
    try:
        if hosts.index == 1:
            raise ValueError("out of luck")
        gathered(0)
    except ValueError as error:
        print(f"error: {hosts.signed(lost_process(error) or str(error))}", file=sys.stderr)
        return leave(hosts, 2)
    return leave(hosts, 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
