"""A study run in its folder with everything around it: checkpoints, rows as they come, trackers.

The manifest learns how the run ended: complete, interrupted by whom, or failed and why.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_kd.study.checkpoint import Cadence, Keeper, Part, Stopped, no_keeper, open_keeper
from fedjax_kd.study.checkpoint_contract import nobody
from fedjax_kd.study.folder import FolderError, ResultFolder
from fedjax_kd.study.load import settings_hash, settings_to_dict
from fedjax_kd.study.outlet import open_outlet
from fedjax_kd.study.points import Points, points_of
from fedjax_kd.study.progress import Progress
from fedjax_kd.study.settings import DtKdStudy
from fedjax_kd.study.studies import Study
from fedjax_kd.study.timings import elapsed_s
from fedjax_kd.study.tracking import Tracked, Writer, open_trackers
from fedjax_kd.training import Execution

REASON_LENGTH = 500  # of what the manifest keeps of an error's text
_NOT_IN_ROUNDS = ("profile", "decisions", "deployment")  # parts of DT-KD, and those below them
_AT_ONCE = {KeyboardInterrupt: ("Ctrl-C", "SIGINT"), SystemExit: ("SIGTERM", "SIGTERM")}


class Conduct(NamedTuple):
    """How a study is run; of no influence on its results but for their last bits.

    Attributes:
        cadence: when checkpoints are written; None writes none.
        trackers: names of those who are shown the rows as well.
        data_dir: where prepared data sets are; None for the default.
        execution: the devices; None takes all.
        form: how the client axis is run, see `run_rounds_study`.
        trials: file that keeps the outcomes of trials for other studies; None keeps none.
    """

    cadence: Cadence | None = Cadence()
    trackers: tuple[str, ...] = ()
    data_dir: Path | None = None
    execution: Execution | None = None
    form: str = "auto"
    trials: Path | None = None


def carry_out(
    settings: Study,
    folder: ResultFolder,
    conduct: Conduct,
    *,
    progress: Progress,
    points: Points | None = None,
    tolerant: bool = False,
    requested: Callable[[], int | None] = nobody,
) -> dict[int, str]:
    """Runs a study, or what is left of it, into its folder.

    Args:
        settings: the study; of several points, what they share.
        folder: where the results go.
        conduct: how.
        progress: told how far it is.
        points: what runs side by side; one for each seed of the study if not given.
        tolerant: whether points whose training diverges are reported while the others go on. A
            DT-KD study stops at them all the same, and raises `Diverged`.
        requested: returns the number of the signal that asked for a stop, or None.

    Returns:
        Why points were lost, by their place; empty unless tolerant.

    Raises:
        Stopped: if a stop was asked for; everything up to there is kept.
        ValueError, FloatingPointError, FolderError: as the study does.
    """
    points = points_of(settings) if points is None else points
    shared: dict[str, Any] = {
        "progress": progress,
        "points": points,
        "data_dir": conduct.data_dir,
        "execution": conduct.execution,
        "form": conduct.form,
        "trials": conduct.trials,
    }
    if folder.read_manifest().get("status") in ("interrupted", "failed"):
        folder.update_manifest(status="running", stopped=None)
    totals: dict[str, int] = {}
    spent_s = folder.read_manifest().get("elapsed_s") or {}

    def spent() -> dict[str, float]:
        return elapsed_s(spent_s, progress.stage_seconds)

    with _end_noted(folder, totals, spent):
        outlet = open_outlet(folder, _trackers(settings, folder, points, conduct, progress))
        keeper = _keeper(settings, folder, points, conduct, progress, requested)
        shared |= {"keeper": keeper._replace(part=_counted(keeper, totals)), "outlet": outlet}
        try:
            if not isinstance(settings, DtKdStudy):
                shared["tolerant"] = tolerant
            return runner_of(settings)(settings, folder, **shared) or {}
        except BaseException:
            with suppress(Exception):  # the first error is the one to hear of
                outlet.leave()
            raise
        finally:
            keeper.close()


def runner_of(settings: Study) -> Callable[..., dict[int, str] | None]:
    """What runs a study of this kind into a folder."""
    if isinstance(settings, DtKdStudy):
        from fedjax_kd.study.run_dt_kd import run_study

        return run_study
    from fedjax_kd.study.run_rounds_study import run_rounds_study

    return run_rounds_study


def stopping_point(stopped: Stopped, total: int | None = None) -> str:
    """Where a study stopped and by what, e.g. `by SIGTERM after round 40 of 100 of fd`.

    Args:
        stopped: what was raised.
        total: how many rounds its part has, if that is known.
    """
    name = signal.Signals(stopped.signal).name
    if not stopped.part:
        return f"by {name}"
    unit = "step" if stopped.part.startswith(_NOT_IN_ROUNDS) else "round"
    of_total = f" of {total}" if total else ""
    return f"by {name} after {unit} {stopped.step}{of_total} of {stopped.part}"


def _counted(keeper: Keeper, totals: dict[str, int]) -> Callable[[str, int], Part]:
    """Opens parts and notes how long they are."""

    def part(name: str, total: int) -> Part:
        totals[name] = total
        return keeper.part(name, total)

    return part


def _keeper(
    settings: Study,
    folder: ResultFolder,
    points: Points,
    conduct: Conduct,
    progress: Progress,
    requested: Callable[[], int | None],
) -> Keeper:
    if conduct.cadence is None:
        return no_keeper(requested)
    recorded = folder.read_manifest().get("settings_hash")
    return open_keeper(
        folder,
        conduct.cadence,
        settings_hash=recorded or settings_hash(settings),
        form=conduct.form,
        points=points.count,
        note=progress.note,
        requested=requested,
    )


def _trackers(
    settings: Study, folder: ResultFolder, points: Points, conduct: Conduct, progress: Progress
) -> Writer:
    rows = zip(points.labels.point, points.labels.seed, strict=True)
    told = [settings_to_dict(each) for each in points.settings]
    tracked = Tracked(
        folder=folder.path,
        title=settings.title,
        method=settings.method,
        identity=folder.read_manifest().get("settings_hash") or settings_hash(settings),
        settings=dict(zip(rows, told, strict=True)),
    )
    return open_trackers(conduct.trackers if folder.writes else (), tracked, progress.note)


@contextmanager
def _end_noted(
    folder: ResultFolder, totals: Mapping[str, int], spent: Callable[[], dict[str, float]]
) -> Iterator[None]:
    """Writes into the manifest why a run ended, unless it came to its end."""
    try:
        yield
    except Stopped as stopped:
        reason = f"stopped {stopping_point(stopped, totals.get(stopped.part))}"
        _note_end(folder, spent(), "interrupted", reason, signal.Signals(stopped.signal).name)
        raise
    except (KeyboardInterrupt, SystemExit) as error:
        by, number = _AT_ONCE[type(error)]
        _note_end(folder, spent(), "interrupted", f"stopped at once by {by}", number)
        raise
    except Exception as error:
        told = isinstance(error, ValueError | FloatingPointError | OSError)
        text = str(error) if told else f"{type(error).__name__}: {error}"
        _note_end(folder, spent(), "failed", " ".join(text.split())[:REASON_LENGTH], "")
        raise


def _note_end(
    folder: ResultFolder, spent_s: dict[str, float], status: str, reason: str, number: str
) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    stopped = {"reason": reason, "signal": number, "at": at}
    with suppress(FolderError):  # a full disk: what ended the run is worth more than this
        if folder.read_manifest().get("status") != "complete":  # nothing undoes that
            folder.update_manifest(status=status, stopped=stopped, elapsed_s=spent_s)
