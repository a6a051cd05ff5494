"""The command `fedjax-kd sweep`, and `fedjax-kd resume` of a grid."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_kd.command_backend import prepare_backend_of, require_trackers, trials_of
from fedjax_kd.command_output import CommandStopped, hint, progress_mode, say, told
from fedjax_kd.command_run import conduct_of

if TYPE_CHECKING:
    from fedjax_kd.study.folder import ResultFolder
    from fedjax_kd.study.grid.folder import GridFolder
    from fedjax_kd.study.grid.run import Swept
    from fedjax_kd.study.points import Points
    from fedjax_kd.study.progress import Progress
    from fedjax_kd.study.stop import Stop
    from fedjax_kd.study.studies import Study

OK, ROWS_FAILED = 0, 3


def sweep(arguments: argparse.Namespace) -> int:
    """Runs the rows of a grid file."""
    if arguments.out is None and not arguments.dry_run:
        arguments.parser.error("--out DIR is required; only --dry-run does without")
    from fedjax_kd.command_options import complete_options

    complete_options(arguments)
    return _sweep(Path(arguments.file), arguments)


def resume_grid(arguments: argparse.Namespace) -> int:
    """Runs the rows of a grid's folder that are neither done nor failed."""
    from fedjax_kd.study.grid.folder import RESOLVED, read_grid

    read_grid(arguments.dir)
    arguments.out, arguments.rows, arguments.set = arguments.dir, None, []
    arguments.dry_run = arguments.retry_failed = arguments.force = False
    return _sweep(arguments.dir / RESOLVED, arguments)


def _sweep(file: Path, arguments: argparse.Namespace) -> int:
    from fedjax_kd.command_options import keep_options
    from fedjax_kd.study.checkpoint import Stopped
    from fedjax_kd.study.grid.run import sweep as sweep_rows
    from fedjax_kd.study.progress import shown_progress
    from fedjax_kd.study.stop import Stop, stop_on_signals

    require_trackers(arguments.track)
    prepare_backend_of(arguments)

    def opened(folder: GridFolder) -> None:
        keep_options(arguments, folder.path)

    with ExitStack() as stack:
        progress = stack.enter_context(shown_progress(progress_mode(arguments), sys.stderr))
        stop = Stop() if arguments.dry_run else stack.enter_context(stop_on_signals())
        try:
            swept = sweep_rows(
                file,
                arguments.out,
                rows=arguments.rows,
                width=arguments.width,
                dry_run=arguments.dry_run,
                retry_failed=arguments.retry_failed,
                force=arguments.force,
                overrides=arguments.set,
                data_dir=arguments.data_dir,
                form=arguments.execution,
                trials=trials_of(arguments),
                progress=progress,
                runner=_runner(arguments, stop),
                opened=opened,
                show=_shown(arguments),
            )
        except Stopped as stopped:
            from fedjax_kd.study.carry_out import stopping_point

            reason = f"stopped {stopping_point(stopped)}"
            text = told(reason, arguments.out, arguments)
            raise CommandStopped(text, stopped.exit_code) from None
    if arguments.dry_run and not arguments.json:
        return OK
    return _conclude(swept, arguments)


def _shown(arguments: argparse.Namespace) -> Callable[[Any], None]:
    """What prints the plan: beside the answer, if a program reads that."""
    from rich.console import Console

    return Console(stderr=arguments.json).print


def _runner(arguments: argparse.Namespace, stop: Stop) -> Any:
    """What runs a batch, as `run` runs a study."""

    def run(
        settings: Study, folder: ResultFolder, points: Points, progress: Progress
    ) -> Mapping[int, str] | None:
        from fedjax_kd.study.carry_out import carry_out
        from fedjax_kd.study.checkpoint import Stopped

        if stop.requested is not None:  # between two batches
            raise Stopped(stop.requested, "", 0)
        return carry_out(
            settings,
            folder,
            conduct_of(arguments),
            progress=progress,
            points=points,
            tolerant=True,
            requested=lambda: stop.requested,
        )

    return run


def _conclude(swept: Swept, arguments: argparse.Namespace) -> int:
    counts = f"{swept.done} rows done, {swept.failed} failed"
    for count, state in ((swept.running, "running elsewhere"), (swept.pending, "pending")):
        counts += f", {count} {state}" if count else ""
    if not arguments.json:
        for reason in swept.reasons:
            hint(arguments, reason)
    if arguments.dry_run:
        say(arguments, {"kind": "plan", **swept._asdict()}, counts)
        return OK
    report = f"fedjax-kd report {arguments.out}"
    whole = arguments.rows is None and swept.running + swept.pending == 0 and swept.done > 0
    if whole:  # the process that comes last draws it
        from fedjax_kd.report import render_report

        report = str(render_report(arguments.out).absolute())
    answer = {"kind": "result", "out": str(arguments.out), "report": report, **swept._asdict()}
    say(arguments, answer, f"{arguments.out}: {counts}.\nReport: {report}")
    return ROWS_FAILED if swept.failed else OK
