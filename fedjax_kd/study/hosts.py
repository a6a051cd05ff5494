"""Several processes, on one host or many, that run one study together.

Each process runs the whole program on the same settings and data. JAX's distributed runtime makes
one set of devices out of theirs, over which clients are divided as over the devices of one process;
process 0 is the one that writes and speaks.

How a study with several processes starts and ends, in this order:

    options = host_options(arguments)      refuses wrong options before anything heavy is imported
    prepare_backend(...)                   fedjax_kd.study.environment
    hosts = join(options)                  connects the processes and starts the backend
    agree("settings", settings_hash(...))  and whatever else must be the same everywhere
    ...                                    the study
    return leave(hosts, exit_code)         the last thing a process does, whatever has happened

The processes trust each other and their network: JAX's connections are neither encrypted nor
authenticated.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys
import threading
import time
from typing import Any, NamedTuple, NoReturn

from fedjax_kd.study.host_options import HostOptions as HostOptions
from fedjax_kd.study.host_options import HostsError as HostsError
from fedjax_kd.study.host_options import add_host_options as add_host_options
from fedjax_kd.study.host_options import address_of, check_host_options
from fedjax_kd.study.host_options import host_options as host_options

REFUSED = 2
_GRACE_S = 2.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_TO_BE_HAD = (errno.EADDRINUSE, errno.EACCES)


class Hosts(NamedTuple):
    """Which of the study's processes this is.

    Attributes:
      index: 0..count - 1.
      count: number of processes.
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.index == 0

    def signed(self, text: str) -> str:
        """The text with the name of this process in front, if there are others."""
        return f"process {self.index} of {self.count}: {text}" if self.count > 1 else text


ALONE = Hosts()


def join(options: HostOptions) -> Hosts:
    """Connects this process with the others, and starts the backend.

    Call it after `prepare_backend` and before anything else that uses a device. If the others do
    not come in time the process ends here, with a message and exit code 2: JAX's runtime cannot be
    interrupted in any other way.

    Returns:
      Which process this is; `ALONE` if the options say nothing of others.

    Raises:
      HostsError: the options are wrong, the host has no address, the port is taken, the scheduler
        is not known, or a backend has been started already.
    """
    check_host_options(options)
    if not options.several:
        return ALONE
    named: dict[str, Any] = {}
    if options.coordinator is not None:
        named = {
            "coordinator_address": options.coordinator,
            "num_processes": options.processes,
            "process_id": options.process,
            "cluster_detection_method": "deactivate",
        }
        host, port = address_of(options.coordinator)
        _require_address(host, port)
        if options.process == 0:
            _require_free(port)
        if host in _LOOPBACK:  # nobody from outside
            named["coordinator_bind_address"] = options.coordinator
    import jax

    # A process that is told to end shall end, and not wait for a checkpoint that nobody makes.
    jax.config.update("jax_enable_preemption_service", False)
    waiting = threading.Timer(options.join_timeout_s, _nobody_came, (options,))
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(initialization_timeout=options.join_timeout_s + 60, **named)
    except (RuntimeError, ValueError, KeyError) as error:
        raise HostsError(_why_not_joined(options, error)) from error
    finally:
        waiting.cancel()
    from fedjax_kd.training.processes import announcements_dropped, gathered

    with announcements_dropped():
        gathered(jax.process_index())  # connects the processes while they are in step
    return here()


def here() -> Hosts:
    """Which process this is, once the backend has started."""
    import jax

    return Hosts(jax.process_index(), jax.process_count())


def agree(what: str, text: str) -> None:
    """Makes sure that all processes have the same text; every process must call it.

    Args:
      what: what the text is, for the message.
      text: of any length; a hash of it is compared.

    Raises:
      HostsError: in every process, if one of them has another text than process 0.
    """
    import numpy as np

    from fedjax_kd.training.processes import gathered

    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    digests = gathered(digest)
    others = [i for i, row in enumerate(digests) if (row != digests[0]).any()]
    if others:
        named = ", ".join(f"{digests[i].tobytes().hex()[:8]} in process {i}" for i in others[:3])
        raise HostsError(
            f"{what}: found {digests[0].tobytes().hex()[:8]} in process 0 but {named}; allowed: "
            "the same in every process"
        )


def agree_on_content(what: str, tree: Any) -> None:
    """Makes sure that all processes hold the same arrays; every process must call it.

    Args:
      what: what the arrays are, for the message.
      tree: arrays that this process can read whole. A process alone does not read them.

    Raises:
      HostsError: as `agree` does.
    """
    if here().count > 1:
        agree(what, content_hash(tree))


def content_hash(tree: Any) -> str:
    """A hash of the shapes, dtypes and values of arrays that this process can read whole."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def lost_process(error: BaseException) -> str | None:
    """What to say of an error that only means that another process has gone; None for others."""
    text = " ".join(str(error).split())
    signs = ("Gloo", "coordination service", "CoordinationService", "NCCL", "nccl")
    if not any(sign in text for sign in signs):
        return None
    return f"another process has stopped, and its own output says why ({text[:200]})"


def leave(hosts: Hosts, code: int) -> int:
    """Ends this process's part in the study; call it last, after all output.

    A process that is done waits for the others. One that has failed must not: they may be waiting
    for its numbers. It ends at once, which the others notice within seconds.

    Args:
      hosts: which process this is; `ALONE` if it failed to join.
      code: the exit code.

    Returns:
      The code, if there is nobody to leave or all went well; otherwise the process ends here.
    """
    jax = sys.modules.get("jax")
    if jax is None or not jax.distributed.is_initialized():
        return code
    if code == 0:
        jax.distributed.shutdown()
        return code
    if hosts.count > 1 and hosts.first:
        time.sleep(_GRACE_S)  # the others end with process 0: let them say what they have to
    _end(code)


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _nobody_came(options: HostOptions) -> None:
    """Ends the process: runs beside a connection attempt that cannot be interrupted."""
    waited = f"within {options.join_timeout_s} s (--join-timeout)"
    if options.coordinator is None:
        text = f"--distributed auto: the processes of this job did not all come {waited}"
    else:
        host, port = address_of(options.coordinator)
        text = (
            f"--coordinator: process {options.process} reached {options.coordinator}, but the "
            f"{options.processes} processes were not all there {waited}"
            if _answers(host, port)
            else f"--coordinator: nobody answered at {options.coordinator} {waited}; is process 0 "
            "running there, and is the port open?"
        )
    print(f"error: {text}", file=sys.stderr)
    _end(REFUSED)


def _why_not_joined(options: HostOptions, error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    if options.distributed == "auto":
        return (
            f"--distributed auto: {text}; allowed: within a job of Slurm (srun), Open MPI, "
            "Kubernetes or a Cloud TPU; elsewhere give --coordinator, --processes and --process"
        )
    return f"--coordinator: found {options.coordinator}, which cannot be used: {text}"


def _require_address(host: str, port: int) -> None:
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        raise HostsError(f"--coordinator: the host {host} has no address: {error}") from error


def _require_free(port: int) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(("", port))
        except OSError as error:
            if error.errno in _NOT_TO_BE_HAD:
                raise HostsError(
                    f"--coordinator: port {port} is not free on this host: {error.strerror}"
                ) from error


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True
