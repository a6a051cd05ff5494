"""The command `fedjax-kd`: run a study, draw its report, list what there is, prepare data.

Nothing heavy is imported before it is needed, so that help and refused settings come at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_kd.command_line import KINDS, command_line
from fedjax_kd.study.hosts import ALONE, Hosts, leave, lost_process

if TYPE_CHECKING:
    from fedjax_kd.study.folder import ResultFolder
    from fedjax_kd.study.progress import Stage
    from fedjax_kd.study.studies import Study

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the words after `fedjax-kd`; by default those of the process.

    Returns:
      0 if all is well, 2 if the command, its settings or its files were refused, 1 for a defect of
      the program, 130 if the user interrupted it.
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
    except BrokenPipeError:  # the reader of our output has gone, e.g. `fedjax-kd list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if arguments.debug and arguments.hosts == ALONE:
            raise
        if arguments.debug:
            traceback.print_exc()
        lost = lost_process(error) if arguments.hosts.count > 1 else None
        if lost or _is_message(error):
            print(f"error: {arguments.hosts.signed(lost or str(error))}", file=sys.stderr)
            return REFUSED
        summary = " ".join(str(error).split())[:500]
        print(f"unexpected error: {type(error).__name__}: {summary}", file=sys.stderr)
        print("This is a defect of fedjax-kd; --debug shows where it happened.", file=sys.stderr)
        return FAILED


def _is_message(error: Exception) -> bool:
    """Says whether an error was raised to tell the user something; any other one is a defect.

    That is so for the error classes of this package, and for a ValueError or FloatingPointError
    that this package's own code (not a library below it) raised.
    """
    if type(error).__module__.startswith("fedjax_kd."):
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    module = last.tb_frame.f_globals.get("__name__", "") if last is not None else ""
    return isinstance(error, ValueError | FloatingPointError) and module.startswith("fedjax_kd.")


def _run(arguments: argparse.Namespace) -> int:
    _check_usage(arguments)
    from fedjax_kd.study.load import load_settings, settings_hash

    arguments.hosts = _join(arguments)
    settings = load_settings(arguments.file, arguments.set)
    if arguments.hosts.count > 1:
        from fedjax_kd.study.environment import versions
        from fedjax_kd.study.hosts import agree
        from fedjax_kd.study.plan import kernels_in_use

        agree("settings", settings_hash(settings))
        agree("versions", json.dumps(versions(), sort_keys=True))
        agree(
            "--execution, --check and --force",
            f"{arguments.execution} {arguments.check} {arguments.force}",
        )
        agree("kernels (see fedjax-kd doctor)", kernels_in_use())

    from fedjax_kd.study.catalog import require_source
    from fedjax_kd.study.check import check_study

    check_study(settings, where=arguments.file)
    require_source(settings.data.source, arguments.data_dir)
    public = getattr(settings.data, "public", None)
    if public is not None and public.kind == "source":
        require_source(public.source, arguments.data_dir)
    if arguments.check or arguments.force:  # nothing is moved aside for a study that cannot run
        from fedjax_kd.training import default_execution

        _prepare_backend(arguments)
        _checker(settings)(settings, default_execution(), arguments.data_dir)
    if arguments.check:
        digest = settings_hash(settings)
        answer = {"kind": "check", "settings_hash": digest}
        _say(arguments, answer, f"{arguments.file}: the study can run (settings {digest})")
        return OK

    from fedjax_kd.study.folder import open_folder_together

    folder = open_folder_together(arguments.hosts, arguments.out, settings, arguments.force)
    try:
        return _run_in(folder, settings, arguments)
    finally:
        folder.close()


def _join(arguments: argparse.Namespace) -> Hosts:
    from fedjax_kd.study.hosts import ALONE, host_options, join

    options = host_options(arguments)
    if not options.several:
        return ALONE
    _prepare_backend(arguments)
    hosts = join(options)
    if not hosts.first:
        arguments.quiet, arguments.json = True, False
    return hosts


def _prepare_backend(arguments: argparse.Namespace) -> None:
    if arguments.hosts.count > 1:
        return  # done before joining
    from fedjax_kd.study.environment import prepare_backend

    prepare_backend(arguments.devices, None if arguments.no_cache else _cache_dir())


def _check_usage(arguments: argparse.Namespace) -> None:
    if arguments.out is None and not arguments.check:
        arguments.parser.error("--out DIR is required; only --check does without")


def _run_in(folder: ResultFolder, settings: Study, arguments: argparse.Namespace) -> int:
    if folder.state == "complete":
        text = f"{folder.path} already holds this study, complete; --force runs it again."
        _finish(folder, arguments, text)
        return OK
    if folder.moved is not None:
        _hint(arguments, f"The results that were in {folder.path} are now in {folder.moved}.")
    if folder.state == "interrupted":
        _hint(arguments, f"{folder.path} holds this study, unfinished; it is run from the start.")

    from fedjax_kd.study.progress import shown_progress

    run_study = _runner(settings)
    if not arguments.force:
        _prepare_backend(arguments)

    mode = "json" if arguments.json else "quiet" if arguments.quiet else "auto"
    with shown_progress(mode, sys.stderr) as progress:
        run_study(
            settings,
            folder,
            data_dir=arguments.data_dir,
            progress=progress,
            form=arguments.execution,
            trials=None if arguments.no_cache else _cache_dir() / "trials.json",
        )
    _finish(folder, arguments, f"{folder.path} holds the results.")
    return OK


def _checker(settings: Study) -> Any:
    """What sets a study up without training: `(settings, execution, data_dir)`."""
    if settings.method == "dt_kd":
        from fedjax_kd.study.dt_kd_setup import prepare

        return prepare
    from fedjax_kd.study.run_rounds_study import check_rounds_study

    return check_rounds_study


def _runner(settings: Study) -> Any:
    """What runs a study into a folder."""
    if settings.method == "dt_kd":
        from fedjax_kd.study.run_dt_kd import run_study

        return run_study
    from fedjax_kd.study.run_rounds_study import run_rounds_study

    return run_rounds_study


def _finish(folder: ResultFolder, arguments: argparse.Namespace, text: str) -> None:
    """Draws the report unless it is there from an earlier run, and says where it is."""
    if not folder.writes:
        return
    if folder.state != "complete" or not folder.report_path.exists():
        from fedjax_kd.report import render_report

        render_report(folder.path)
    report = str(folder.report_path.absolute())
    answer = {"kind": "result", "out": str(folder.path), "report": report}
    _say(arguments, answer, f"{text}\nReport: {report}")


def _report(arguments: argparse.Namespace) -> int:
    from fedjax_kd.report import render_report

    print(f"Report: {render_report(arguments.dir, arguments.output)}")
    return OK


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


def _say(arguments: argparse.Namespace, answer: dict[str, Any], text: str) -> None:
    if not arguments.hosts.first:
        return
    print(json.dumps(answer) if arguments.json else text, flush=True)


def _hint(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet and not arguments.json:
        print(text, file=sys.stderr)


def _cache_dir() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("fedjax_kd", appauthor=False) / "xla"


def _doctor(_: argparse.Namespace) -> int:
    from fedjax_kd.doctor import report_lines
    from fedjax_kd.study.environment import prepare_backend

    prepare_backend(None, _cache_dir())
    print("\n".join(report_lines()))
    return OK


COMMANDS = {
    "run": _run,
    "report": _report,
    "list": _list,
    "prepare-data": _prepare_data,
    "doctor": _doctor,
}


if __name__ == "__main__":
    sys.exit(main())
