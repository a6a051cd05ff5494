"""What a batch came to, and which errors are a row's, a batch's, or the end of the sweep."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedjax_kd.study.checkpoint_files import CheckpointMisfit
from fedjax_kd.study.diverged import Diverged
from fedjax_kd.study.folder import FolderError
from fedjax_kd.study.grid.folder import Failure, FailureKind
from fedjax_kd.study.points import PointRefused

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_LOST = ("INTERNAL", "UNAVAILABLE", "ABORTED", "DATA_LOSS", "UNKNOWN")


class DeviceLost(ValueError):
    """The device has failed under the sweep, whatever its rows are."""


@dataclass(frozen=True)
class Outcome:
    """What a batch came to.

    Attributes:
        failures: of its rows that failed; the others are done, or free again if it was given up.
        gave_up: why the batch was given up; None if it is complete.
        too_wide: whether its rows are to run in smaller batches.
        notes: for whoever watches.
    """

    failures: Mapping[int, Failure]
    gave_up: str | None = None
    too_wide: bool = False
    notes: Sequence[str] = field(default_factory=tuple)


def failed_with(
    kind: FailureKind, reasons: Mapping[int, str], rows: Sequence[int], where: str
) -> dict[int, Failure]:
    """Failures of the rows at some places of a batch: place -> reason."""
    return {rows[place]: Failure(kind, reason, where) for place, reason in reasons.items()}


def outcome_of(error: Exception, rows: Sequence[int], where: str, resumed: bool = False) -> Outcome:
    """What an error means for the rows of a batch.

    Args:
        error: raised while the batch ran.
        rows: of the batch.
        where: the batch's name.
        resumed: whether an earlier process had begun the batch.

    Raises:
        DeviceLost: the device has failed, which ends the sweep.
        Exception: the error itself, if it ends the sweep: the folder cannot be written.
    """
    import jax

    from fedjax_kd.data import DataSetMissing
    from fedjax_kd.study.memory import StudyTooLarge

    if isinstance(error, CheckpointMisfit) and resumed:
        note = f"its rows run anew, as its checkpoints cannot be taken up: {error}"
        return Outcome({}, note, False, (note,))
    if isinstance(error, FolderError):
        raise error
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        raise error
    if isinstance(error, PointRefused):
        return _some(failed_with("settings", {error.place: str(error)}, rows, where))
    if isinstance(error, Diverged):
        return _some(failed_with("diverged", error.reasons, rows, where))
    if isinstance(error, StudyTooLarge | MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return _too_large(error, rows, where)
    if isinstance(error, jax.errors.JaxRuntimeError) and str(error).startswith(_LOST):
        raise DeviceLost(
            f"{where}: the device has failed: {' '.join(str(error).split())[:500]}. The batch is "
            "free again, and the same command goes on with it"
        ) from error
    if isinstance(error, DataSetMissing):
        return _all("data", error, rows, where)
    if isinstance(error, FloatingPointError):
        return _all("diverged", error, rows, where)
    if isinstance(error, ValueError) and _raised_by_package(error):
        return _all("settings", error, rows, where)
    return _all("defect", error, rows, where)


def _some(failures: Mapping[int, Failure]) -> Outcome:
    """Some rows are out; the others run again without them."""
    told = "; ".join(f"row {row}: {each.reason}" for row, each in failures.items())
    return Outcome(failures, f"re-formed without rows that cannot run: {told}", False, (told,))


def _too_large(error: Exception, rows: Sequence[int], where: str) -> Outcome:
    reason = " ".join(str(error).split())[:1000]
    if len(rows) == 1:
        return Outcome({rows[0]: Failure("memory", reason, where)}, reason, False, (reason,))
    note = f"{len(rows)} rows at once are too many for the memory; smaller batches follow"
    return Outcome({}, f"{note}: {reason}", True, (note,))


def _all(kind: FailureKind, error: Exception, rows: Sequence[int], where: str) -> Outcome:
    """All rows are out: what is wrong is static, or nobody knows whose it is."""
    reason, traced = str(error) or type(error).__name__, ""
    if kind == "defect":
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        traced = "".join(traceback.format_exception(error))
    failure = Failure(kind, reason, where, traced)
    return Outcome(dict.fromkeys(rows, failure), reason, False, (reason,))


def _raised_by_package(error: BaseException) -> bool:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    module = last.tb_frame.f_globals.get("__name__", "") if last is not None else ""
    return module.startswith("fedjax_kd.")
