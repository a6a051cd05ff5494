"""The commands `fedjax-kd run` and `fedjax-kd resume`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_kd.command_backend import prepare_backend_of, require_trackers, trials_of
from fedjax_kd.command_output import CommandStopped, hint, progress_mode, say, told
from fedjax_kd.study.hosts import ALONE, Hosts

if TYPE_CHECKING:
    from fedjax_kd.study.carry_out import Conduct
    from fedjax_kd.study.folder import ResultFolder
    from fedjax_kd.study.progress import Progress
    from fedjax_kd.study.studies import Study

OK = 0
_MOST_PARTS = 6  # that a line names


def run(arguments: argparse.Namespace) -> int:
    """Runs the study of a settings file."""
    if arguments.out is None and not arguments.check:
        arguments.parser.error("--out DIR is required; only --check does without")
    from fedjax_kd.command_options import complete_options
    from fedjax_kd.study.load import load_settings

    complete_options(arguments)
    arguments.hosts = _join(arguments)
    settings = load_settings(arguments.file, arguments.set)
    return _run_study(settings, arguments, where=arguments.file)


def resume(arguments: argparse.Namespace) -> int:
    """Goes on with what a folder holds."""
    from fedjax_kd.command_options import complete_options
    from fedjax_kd.results.folders import kind_of

    complete_options(arguments, arguments.dir)
    if kind_of(arguments.dir) == "grid":
        from fedjax_kd.command_grid import resume_grid

        return resume_grid(arguments)
    from fedjax_kd.command_resume import settings_of
    from fedjax_kd.study.folder import REPORT

    arguments.hosts = _join(arguments)
    settings, complete = settings_of(arguments.dir)
    if complete:
        answer = {"kind": "complete", "out": str(arguments.dir)}
        text = f"{arguments.dir} is complete; there is nothing to resume."
        if arguments.hosts.first and not (arguments.dir / REPORT).exists():
            from fedjax_kd.report import render_report

            text += f"\nReport: {render_report(arguments.dir).absolute()}"
        say(arguments, answer, text)
        return OK
    arguments.out, arguments.check, arguments.force = arguments.dir, False, False
    return _run_study(settings, arguments, where=str(arguments.dir))


def _join(arguments: argparse.Namespace) -> Hosts:
    from fedjax_kd.study.hosts import host_options, join

    options = host_options(arguments)
    if not options.several:
        return ALONE
    prepare_backend_of(arguments)
    hosts = join(options)
    if not hosts.first:
        arguments.quiet, arguments.json = True, False
    return hosts


def _agree(settings: Study, arguments: argparse.Namespace) -> None:
    """Makes sure that all processes were started alike."""
    from fedjax_kd.study.environment import versions
    from fedjax_kd.study.hosts import agree
    from fedjax_kd.study.load import settings_hash
    from fedjax_kd.study.plan import kernels_in_use

    agree("settings", settings_hash(settings))
    agree("versions", json.dumps(versions(), sort_keys=True))
    agree(
        "--execution, --check and --force",
        f"{arguments.execution} {arguments.check} {arguments.force}",
    )
    cadence = f"{arguments.checkpoint_rounds} {arguments.checkpoint_minutes} {arguments.keep}"
    agree("options of checkpoints", f"{cadence} {arguments.no_checkpoints}")
    agree("kernels (see fedjax-kd doctor)", kernels_in_use())


def _run_study(settings: Study, arguments: argparse.Namespace, where: str) -> int:
    from fedjax_kd.study.catalog import require_source
    from fedjax_kd.study.check import check_study
    from fedjax_kd.study.load import settings_hash

    if arguments.hosts.count > 1:
        _agree(settings, arguments)
    check_study(settings, where=where)
    require_source(settings.data.source, arguments.data_dir)
    public = getattr(settings.data, "public", None)
    if public is not None and public.kind == "source":
        require_source(public.source, arguments.data_dir)
    require_trackers(arguments.track)
    if arguments.check or arguments.force:  # nothing is moved aside for a study that cannot run
        from fedjax_kd.training import default_execution

        prepare_backend_of(arguments)
        _checker(settings)(settings, default_execution(), arguments.data_dir)
    if arguments.check:
        digest = settings_hash(settings)
        answer = {"kind": "check", "settings_hash": digest}
        say(arguments, answer, f"{where}: the study can run (settings {digest})")
        return OK

    from fedjax_kd.study.folder import open_folder_together

    folder = open_folder_together(arguments.hosts, arguments.out, settings, arguments.force)
    try:
        return _run_in(folder, settings, arguments)
    finally:
        folder.close()


def _run_in(folder: ResultFolder, settings: Study, arguments: argparse.Namespace) -> int:
    if folder.state == "complete":
        text = f"{folder.path} already holds this study, complete; --force runs it again."
        _finish(folder, arguments, text)
        return OK
    from fedjax_kd.command_options import keep_options
    from fedjax_kd.study.progress import shown_progress

    if folder.moved is not None:
        hint(arguments, f"The results that were in {folder.path} are now in {folder.moved}.")
    if folder.state == "interrupted" and arguments.no_checkpoints:
        _require_none_kept(folder.path)
    if folder.writes:
        keep_options(arguments, folder.path)
    if not arguments.force:
        prepare_backend_of(arguments)
    if folder.state == "interrupted" and folder.writes:
        hint(arguments, _where_from(folder.path, arguments))
    with shown_progress(progress_mode(arguments), sys.stderr) as progress:
        _carry_out(folder, settings, arguments, progress)
    _finish(folder, arguments, f"{folder.path} holds the results.")
    return OK


def _carry_out(
    folder: ResultFolder, settings: Study, arguments: argparse.Namespace, progress: Progress
) -> None:
    """Runs the study; a stop that was asked for becomes a message that says how to go on."""
    from fedjax_kd.study.carry_out import carry_out
    from fedjax_kd.study.checkpoint import Stopped
    from fedjax_kd.study.stop import stop_on_signals

    try:
        with stop_on_signals() as stop:
            carry_out(
                settings,
                folder,
                conduct_of(arguments),
                progress=progress,
                requested=lambda: stop.requested,
            )
    except Stopped as stopped:
        reason = (folder.read_manifest().get("stopped") or {}).get("reason", str(stopped))
        raise CommandStopped(told(reason, folder.path, arguments), stopped.exit_code) from None


def _where_from(folder: Path, arguments: argparse.Namespace) -> str:
    kept = "" if arguments.no_checkpoints else _kept_so_far(folder)
    how = f"it goes on from its checkpoints: {kept}" if kept else "it is run from the start"
    return f"{folder} holds this study, unfinished; {how}."


def _checker(settings: Study) -> Any:
    """What sets a study up without training: `(settings, execution, data_dir)`."""
    if settings.method == "dt_kd":
        from fedjax_kd.study.dt_kd_setup import prepare

        return prepare
    from fedjax_kd.study.run_rounds_study import check_rounds_study

    return check_rounds_study


def conduct_of(arguments: argparse.Namespace) -> Conduct:
    """How a study is run, by the command's options."""
    from fedjax_kd.study.carry_out import Conduct
    from fedjax_kd.study.checkpoint import Cadence

    cadence = Cadence(arguments.checkpoint_rounds, arguments.checkpoint_minutes, arguments.keep)
    return Conduct(
        cadence=None if arguments.no_checkpoints else cadence,
        trackers=tuple(arguments.track),
        data_dir=arguments.data_dir,
        form=arguments.execution,
        trials=trials_of(arguments),
    )


def _require_none_kept(folder: Path) -> None:
    """Refuses to throw away by an option what an earlier run has kept."""
    from fedjax_kd.study.folder import FolderError

    if kept := _kept_so_far(folder):
        raise FolderError(
            f"--no-checkpoints: {folder} holds checkpoints ({kept}), from which this study goes "
            "on; leave the option out, or start anew with --force"
        )


def _kept_so_far(folder: Path) -> str:
    """Which checkpoints a folder holds, e.g. `local 12, fedavg 5`; empty if there are none."""
    from fedjax_kd.study.checkpoint_files import CHECKPOINTS, part_folder, parts_in, steps_in

    root = folder / CHECKPOINTS
    found = [(name, steps_in(part_folder(root, name))) for name in parts_in(root)]
    shown = [f"{name} {steps[-1]}" for name, steps in found if steps]
    more = f" and {len(shown) - _MOST_PARTS} more" if len(shown) > _MOST_PARTS else ""
    return ", ".join(shown[:_MOST_PARTS]) + more


def _finish(folder: ResultFolder, arguments: argparse.Namespace, text: str) -> None:
    """Draws the report unless it is there from an earlier run, and says where it is."""
    if not folder.writes:
        return
    if folder.state != "complete" or not folder.report_path.exists():
        from fedjax_kd.report import render_report

        render_report(folder.path)
    report = str(folder.report_path.absolute())
    answer = {"kind": "result", "out": str(folder.path), "report": report}
    say(arguments, answer, f"{text}\nReport: {report}")
