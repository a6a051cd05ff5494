"""Which rows of a grid a process is asked for: `0:16`, `5`, `0:100:10` or `3,7,9:12`."""

from __future__ import annotations

import re

from fedjax_kd.study.problems import SettingsError

_PART = re.compile(r"(?P<first>\d*)(?P<range>:(?P<end>\d*)(?::(?P<step>\d+))?)?")


def parse_rows(text: str | None, n_rows: int) -> range | tuple[int, ...]:
    """The numbers of the rows that a text asks for.

    Args:
        text: numbers and ranges without their end, divided by commas; None for all rows.
        n_rows: of the grid.

    Returns:
        Rising numbers, each once.

    Raises:
        SettingsError: for text of another form, or a row that the grid does not have.
    """
    if text is None:
        return range(n_rows)
    chosen: set[int] = set()
    for part in text.split(","):
        chosen.update(_numbers(part.strip(), text, n_rows))
    return tuple(sorted(chosen))


def _numbers(part: str, text: str, n_rows: int) -> range:
    match = _PART.fullmatch(part)
    if match is None or part == "":
        raise _refused(text, n_rows, "numbers and ranges, such as 5, 0:16, 0:100:10 or 3,7,9:12")
    first = int(match["first"] or 0)
    if match["range"] is None:
        end, step = first + 1, 1
    else:
        end, step = int(match["end"] or n_rows), int(match["step"] or 1)
    if step == 0:
        raise _refused(text, n_rows, "a step of at least 1")
    if end <= first:
        raise _refused(text, n_rows, "ranges whose end is above their first row")
    if end > n_rows:
        raise _refused(text, n_rows, f"rows 0 to {n_rows - 1}, ends of ranges up to {n_rows}")
    return range(first, end, step)


def _refused(text: str, n_rows: int, allowed: str) -> SettingsError:
    rows = "1 row" if n_rows == 1 else f"{n_rows} rows"
    return SettingsError([f"--rows: found {text!r}; allowed: {allowed} (the grid has {rows})"])
