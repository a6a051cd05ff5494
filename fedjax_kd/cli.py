"""The command `fedjax-kd`: run a study, draw its report, list what there is, prepare data.

Nothing heavy is imported before it is needed, so that help and refused settings come at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_kd import __version__

if TYPE_CHECKING:
    from fedjax_kd.study.folder import ResultFolder
    from fedjax_kd.study.progress import Stage
    from fedjax_kd.study.settings import DtKdStudy

KINDS = ("methods", "models", "sources", "partitions", "profiles", "policies")
OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the words after `fedjax-kd`; by default those of the process.

    Returns:
      0 if all is well, 2 if the command, its settings or its files were refused, 1 for a defect of
      the program, 130 if the user interrupted it.
    """
    arguments = _parser().parse_args(argv)
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
        if arguments.debug:
            raise
        if _is_message(error):
            print(f"error: {error}", file=sys.stderr)
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

    settings = load_settings(arguments.file, arguments.set)

    from fedjax_kd.study.catalog import require_source
    from fedjax_kd.study.check import check_study

    check_study(settings, where=arguments.file)
    require_source(settings.data.source, arguments.data_dir)
    if arguments.check or arguments.force:  # nothing is moved aside for a study that cannot run
        from fedjax_kd.study.dt_kd_setup import prepare
        from fedjax_kd.training import default_execution

        _prepare_backend(arguments)
        prepare(settings, default_execution(), arguments.data_dir)
    if arguments.check:
        digest = settings_hash(settings)
        answer = {"kind": "check", "settings_hash": digest}
        _say(arguments, answer, f"{arguments.file}: the study can run (settings {digest})")
        return OK

    from fedjax_kd.study.folder import open_folder

    folder = open_folder(arguments.out, settings, force=arguments.force)
    try:
        return _run_in(folder, settings, arguments)
    finally:
        folder.close()


def _prepare_backend(arguments: argparse.Namespace) -> None:
    from fedjax_kd.study.environment import prepare_backend

    prepare_backend(arguments.devices, None if arguments.no_cache else _cache_dir())


def _check_usage(arguments: argparse.Namespace) -> None:
    if arguments.out is None and not arguments.check:
        arguments.parser.error("--out DIR is required; only --check does without")


def _run_in(folder: ResultFolder, settings: DtKdStudy, arguments: argparse.Namespace) -> int:
    if folder.state == "complete":
        text = f"{folder.path} already holds this study, complete; --force runs it again."
        _finish(folder, arguments, text)
        return OK
    if folder.moved is not None:
        _hint(arguments, f"The results that were in {folder.path} are now in {folder.moved}.")
    if folder.state == "interrupted":
        _hint(arguments, f"{folder.path} holds this study, unfinished; it is run from the start.")

    from fedjax_kd.study.progress import shown_progress
    from fedjax_kd.study.run_dt_kd import run_study

    if not arguments.force:
        _prepare_backend(arguments)

    mode = "json" if arguments.json else "quiet" if arguments.quiet else "auto"
    with shown_progress(mode, sys.stderr) as progress:
        run_study(settings, folder, data_dir=arguments.data_dir, progress=progress)
    _finish(folder, arguments, f"{folder.path} holds the results.")
    return OK


def _finish(folder: ResultFolder, arguments: argparse.Namespace, text: str) -> None:
    """Draws the report unless it is there from an earlier run, and says where it is."""
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
    print(json.dumps(answer) if arguments.json else text, flush=True)


def _hint(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet and not arguments.json:
        print(text, file=sys.stderr)


def _cache_dir() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("fedjax_kd", appauthor=False) / "xla"


def _devices(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: auto or a number from 1 on")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedjax-kd",
        description="Simulate knowledge distillation in heterogeneous federated learning.",
        epilog="""\
the usual order:
  fedjax-kd list                                        see what a settings file can name
  fedjax-kd run experiments/dt_kd/digits.yaml --check   check a settings file in a second
  fedjax-kd run experiments/dt_kd/digits.yaml --out results/digits
                                                        run the study and draw its report

`fedjax-kd COMMAND --help` explains a command with examples.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fedjax-kd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_run, _add_report, _add_list, _add_prepare_data):
        command = add(commands)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_argument("--debug", action="store_true", help="show the traceback of any error")
    return parser


def _add_run(commands: Any) -> argparse.ArgumentParser:
    run = commands.add_parser(
        "run",
        help="run the study of a settings file",
        description="""\
Run the study that a settings file describes and draw its report.

The settings are checked before anything is computed. The folder DIR then gets settings.yaml (with
every default filled in), manifest.json, tables and report.html. A folder that holds the same study
complete is left as it is; one that holds another study is refused.""",
        epilog="""\
examples:
  fedjax-kd run experiments/dt_kd/digits.yaml --out results/digits
  fedjax-kd run study.yaml --set data.users=10 --set data.partition.alpha=0.1 --out results/ten
  fedjax-kd run study.yaml --set 'data.partition={kind: iid}' --set students.0.width=0.5 --check

A key of --set is the path of a setting, with numbers from 0 on for the items of lists; a value is
YAML, and replaces what the file says.""",
    )
    run.add_argument("file", metavar="FILE", help="settings in YAML")
    run.add_argument("--out", metavar="DIR", type=Path, help="folder for the results")
    run.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="change a setting"
    )
    run.add_argument("--check", action="store_true", help="check the settings and stop")
    run.add_argument(
        "--force",
        action="store_true",
        help="if DIR holds results, rename it to DIR.old-1 (or -2, ...) and start anew",
    )
    run.add_argument(
        "--devices",
        metavar="N",
        type=_devices,
        help="CPU devices that share the clients; auto (the default) is one per core, 8 at most",
    )
    run.add_argument("--data-dir", metavar="DIR", type=Path, help="where prepared data sets lie")
    run.add_argument("--quiet", action="store_true", help="show no progress")
    run.add_argument("--json", action="store_true", help="write progress as lines of JSON")
    run.add_argument(
        "--no-cache", action="store_true", help="neither use nor keep compiled programs"
    )
    run.set_defaults(command=_run, parser=run)
    return run


def _add_report(commands: Any) -> argparse.ArgumentParser:
    report = commands.add_parser(
        "report",
        help="draw the report of finished results again",
        description="Draw report.html from the tables in a folder of results; nothing is trained.",
        epilog="""\
examples:
  fedjax-kd report results/digits
  fedjax-kd report results/digits --output digits.html""",
    )
    report.add_argument("dir", metavar="DIR", type=Path, help="a folder that `run` has filled")
    report.add_argument(
        "--output", metavar="FILE", type=Path, help="where to; DIR/report.html by default"
    )
    report.set_defaults(command=_report)
    return report


def _add_list(commands: Any) -> argparse.ArgumentParser:
    listing = commands.add_parser(
        "list",
        help="list what a settings file can name",
        description="List the methods, models, data sources, partitions, profiles and policies.",
        epilog="""\
examples:
  fedjax-kd list
  fedjax-kd list models""",
    )
    listing.add_argument("kind", nargs="?", choices=KINDS, help="list one kind only")
    listing.set_defaults(command=_list)
    return listing


def _add_prepare_data(commands: Any) -> argparse.ArgumentParser:
    prepare = commands.add_parser(
        "prepare-data",
        help="make a data set of raw files readable, without internet",
        description="""\
Write the raw files of a data set (IDX files, CIFAR's archives, ...) in the format of
tensorflow-datasets, under the stock name and version; TensorFlow is not needed.""",
        epilog="""\
examples:
  fedjax-kd prepare-data fashion_mnist --from /usr/share/datasets/fashion-mnist
  fedjax-kd prepare-data cifar10 --from downloads/cifar-10-python.tar.gz --data-dir data""",
    )
    prepare.add_argument("name", metavar="NAME", help="a source, as `fedjax-kd list sources` says")
    prepare.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder or archive of raw files",
    )
    prepare.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        help="where to write; $TFDS_DATA_DIR or ~/tensorflow_datasets by default",
    )
    prepare.add_argument(
        "--no-verify", action="store_true", help="take files whose checksums are not the known ones"
    )
    prepare.set_defaults(command=_prepare_data)
    return prepare


if __name__ == "__main__":
    sys.exit(main())
