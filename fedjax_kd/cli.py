"""The command `fedjax-kd`: run studies and grids of them, resume and inspect them, draw reports.

Nothing heavy is imported before it is needed, so that help and refused settings come at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fedjax_kd import command_grid, command_results, command_run
from fedjax_kd.command_backend import cache_dir
from fedjax_kd.command_errors import message_of
from fedjax_kd.command_line import KINDS, command_line
from fedjax_kd.command_output import CommandStopped
from fedjax_kd.study.hosts import ALONE, leave, lost_process

if TYPE_CHECKING:
    from fedjax_kd.study.progress import Stage

OK, FAILED, REFUSED, ROWS_FAILED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the words after `fedjax-kd`; by default those of the process.

    Returns:
      0 if all is well, 2 if the command, its settings or its files were refused, 1 for a defect of
      the program, 3 if a grid has finished but some of its rows failed, 130 after Ctrl-C and 143
      after SIGTERM.
    """
    arguments = command_line(COMMANDS).parse_args(argv)
    arguments.hosts = ALONE
    code = _outcome(arguments)
    return leave(arguments.hosts, code)


def _outcome(arguments: argparse.Namespace) -> int:
    """Runs the command and says what went wrong, if anything did; returns the exit code."""
    try:
        code = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\ninterrupted; every file that was written is whole and stays", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as ended:
        if ended.code != TERMINATED:  # words that the command refuses
            raise
        return TERMINATED  # a second SIGTERM
    except CommandStopped as stopped:
        print(arguments.hosts.signed(str(stopped)), file=sys.stderr)
        return stopped.code
    except BrokenPipeError:  # the reader of our output has gone, e.g. `fedjax-kd list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if arguments.debug and arguments.hosts == ALONE:
            raise
        if arguments.debug:
            traceback.print_exc()
        lost = lost_process(error) if arguments.hosts.count > 1 else None
        message = lost or message_of(error)
        if message is not None:
            print(f"error: {arguments.hosts.signed(message)}", file=sys.stderr)
            return REFUSED
        summary = " ".join(str(error).split())[:500]
        print(f"unexpected error: {type(error).__name__}: {summary}", file=sys.stderr)
        print("This is a defect of fedjax-kd; --debug shows where it happened.", file=sys.stderr)
        return FAILED


def _list(arguments: argparse.Namespace) -> int:
    from fedjax_kd.listing import rows

    names = [arguments.kind] if arguments.kind else list(KINDS)
    for number, kind in enumerate(names):
        if len(names) > 1:
            print(("\n" if number else "") + kind)
        entries = rows(kind)
        width = max((len(name) for name, _ in entries), default=0)
        for name, description in entries:
            print(f"  {name:<{width}}  {description}".rstrip())
    return OK


def _prepare_data(arguments: argparse.Namespace) -> int:
    from fedjax_kd.data.prepare import prepare
    from fedjax_kd.study.progress import shown_progress

    name = arguments.name
    with shown_progress("auto", sys.stderr) as progress, ExitStack() as stages:
        stage: Stage | None = None

        def written(examples: int, total: int) -> None:
            nonlocal stage
            stage = stage or stages.enter_context(progress.stage(f"writing {name}", total))
            stage.advance(examples - stage.done)

        folder = prepare(
            name,
            arguments.source,
            arguments.data_dir,
            verify=not arguments.no_verify,
            progress=written,
        )
    print(f"{name} is ready in {folder}")
    return OK


def _doctor(_: argparse.Namespace) -> int:
    from fedjax_kd.doctor import report_lines
    from fedjax_kd.study.environment import prepare_backend

    prepare_backend(None, cache_dir())
    print("\n".join(report_lines()))
    return OK


COMMANDS = {
    "run": command_run.run,
    "resume": command_run.resume,
    "sweep": command_grid.sweep,
    "inspect": command_results.inspect,
    "report": command_results.report,
    "list": _list,
    "prepare-data": _prepare_data,
    "doctor": _doctor,
}


if __name__ == "__main__":
    sys.exit(main())
