"""Which errors of a command are messages to its user, in which words; any other is a defect."""

from __future__ import annotations

import errno
import json

_UNREADABLE = ("pyarrow.", "yaml.")


def message_of(error: BaseException) -> str | None:
    """What an error tells the user, None if it is a defect of the program.

    Messages are the errors of this package, a ValueError or FloatingPointError that its own code
    (not a library below it) raised, what the operating system refused, files in another format than
    their names say, and memory that is not enough.
    """
    if type(error).__module__.startswith("fedjax_kd."):
        return str(error)
    if isinstance(error, OSError):
        return _refused_by_system(error)
    if isinstance(error, json.JSONDecodeError):
        return f"a file of results is not JSON: {_one_line(error)}"
    if type(error).__module__.startswith(_UNREADABLE):
        return f"a file cannot be read: {_one_line(error)}"
    if isinstance(error, UnicodeDecodeError):
        return f"a file is not UTF-8 text: {error.reason} at byte {error.start}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            "the memory is not enough for this study; fewer seeds or users at a time, a smaller "
            f"batch, or --execution sequential need less ({_one_line(error)[:200]})"
        )
    own = isinstance(error, ValueError | FloatingPointError) and _raised_by_package(error)
    return str(error) if own else None


def _raised_by_package(error: BaseException) -> bool:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    module = last.tb_frame.f_globals.get("__name__", "") if last is not None else ""
    return module.startswith("fedjax_kd.")


def _refused_by_system(error: OSError) -> str:
    reason = error.strerror or _one_line(error) or type(error).__name__
    if error.errno == errno.ENOSPC:
        reason += " (files written earlier are intact)"
    return f"{error.filename}: {reason}" if error.filename is not None else reason


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
