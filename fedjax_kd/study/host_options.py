"""Options of a command that say who the processes of one study are; imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import NamedTuple

JOIN_TIMEOUT_S = 120


class HostsError(ValueError):
    """Processes that cannot be brought together, or that do not belong together."""


class HostOptions(NamedTuple):
    """What the command line says about other processes.

    Attributes:
      coordinator: `HOST:PORT` of process 0, None if not given.
      processes: how many there are, None if not given.
      process: which of them this is, from 0 on, None if not given.
      distributed: `off`, or `auto` to ask the scheduler's environment for the three above.
      join_timeout_s: how long to wait for the others at the start.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    distributed: str = "off"
    join_timeout_s: int = JOIN_TIMEOUT_S

    @property
    def several(self) -> bool:
        """Whether this process is to join others."""
        return self.distributed == "auto" or self.coordinator is not None


def add_host_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options for several processes to a command."""
    group = parser.add_argument_group(
        "several processes",
        "Start the same command once per process, on one host or many. Process 0 writes the "
        "results. Either the first three options say who is who, or the scheduler does.",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 can be reached")
    group.add_argument("--processes", metavar="N", type=_count, help="how many processes there are")
    group.add_argument("--process", metavar="I", type=_index, help="which one this is, from 0 on")
    group.add_argument(
        "--distributed",
        choices=("off", "auto"),
        default="off",
        help="auto: take all three from Slurm, Open MPI, Kubernetes or a Cloud TPU",
    )
    group.add_argument(
        "--join-timeout",
        metavar="SECONDS",
        type=_count,
        default=JOIN_TIMEOUT_S,
        help=f"how long to wait for the others at the start ({JOIN_TIMEOUT_S} by default)",
    )


def host_options(arguments: argparse.Namespace) -> HostOptions:
    """Takes the options out of a command's arguments and checks them.

    Raises:
      HostsError: naming the option, what was found and what is allowed.
    """
    options = HostOptions(
        arguments.coordinator,
        arguments.processes,
        arguments.process,
        arguments.distributed,
        arguments.join_timeout,
    )
    check_host_options(options)
    return options


def check_host_options(options: HostOptions) -> None:
    """Checks what can be known of the options before anybody is contacted.

    Raises:
      HostsError: naming the option, what was found and what is allowed.
    """
    three = {
        "--coordinator": options.coordinator,
        "--processes": options.processes,
        "--process": options.process,
    }
    given = [name for name, value in three.items() if value is not None]
    if options.distributed == "auto":
        if given:
            raise HostsError(
                f"--distributed auto: found together with {' and '.join(given)}; allowed: either "
                "auto or the three options"
            )
        return
    missing = [name for name in three if name not in given]
    if given and missing:
        raise HostsError(
            f"{' and '.join(missing)}: missing; --coordinator, --processes and --process "
            "are given together or not at all"
        )
    if not given:
        return
    assert options.coordinator is not None
    assert options.processes is not None
    assert options.process is not None
    address_of(options.coordinator)
    if options.processes < 1:
        raise HostsError(f"--processes: found {options.processes}; allowed: from 1 on")
    if not 0 <= options.process < options.processes:
        raise HostsError(
            f"--process: found {options.process}; allowed: 0 to {options.processes - 1}, for "
            f"--processes is {options.processes}"
        )


def address_of(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, where HOST may stand in brackets.

    Raises:
      HostsError: the text is nothing of the kind.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise HostsError(
            f"--coordinator: found {text!r}; allowed: HOST:PORT with a port of 1 to 65535, such as "
            "node1:12345"
        )
    return host, int(port)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a whole number from 1 on")
    return int(text)


def _index(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a whole number from 0 on")
    return int(text)
