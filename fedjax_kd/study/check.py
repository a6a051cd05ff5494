"""Rules between the settings, and the names that settings may use; nothing is compiled here.

What needs the examples themselves (whether a partition can exist, whether an architecture fits the
pictures) is found out when the study is set up, still before anything is trained.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator

from fedjax_kd.study.catalog import refused_options, refused_profile, unknown_names
from fedjax_kd.study.check_rounds import rules_of_rounds
from fedjax_kd.study.problems import SettingsError
from fedjax_kd.study.settings import DtKdStudy
from fedjax_kd.study.studies import Study


def check_study(settings: Study, where: str = "settings", *, in_grid: bool = False) -> None:
    """Checks what the types of single settings cannot say.

    Args:
      settings: a study whose single settings are valid.
      where: opens the message, e.g. the name of the file.
      in_grid: whether the study is a row of a grid, where a contestant that all others are held
        against may be in other rows.

    Raises:
      SettingsError: lists every rule that is broken and every name that does not exist.
    """
    problems = [*_rules(settings, in_grid), *_names(settings)]
    if problems:
        raise SettingsError(problems, where)


def _rules(settings: Study, in_grid: bool) -> Iterator[str]:
    yield from _repeated("seeds", (str(seed) for seed in settings.seeds))
    data = settings.data
    if data.test_fraction + data.validation_fraction >= 1:
        yield (
            f"data.test_fraction and data.validation_fraction: found {data.test_fraction} and "
            f"{data.validation_fraction}; allowed: a sum below 1, for training examples to be left"
        )
    if isinstance(settings, DtKdStudy):
        yield from _repeated("students", (student.label for student in settings.students))
        yield from _rules_of_policy(settings)
    else:
        yield from _repeated("contestants", settings.contestants)
        yield from rules_of_rounds(settings, in_grid)


def _rules_of_policy(settings: DtKdStudy) -> Iterator[str]:
    policy = settings.policy
    if policy.epsilon_end > policy.epsilon_start:
        yield (
            f"policy.epsilon_end: found {policy.epsilon_end}; allowed: at most "
            f"policy.epsilon_start, which is {policy.epsilon_start}"
        )


def _repeated(path: str, labels: Iterable[str]) -> Iterator[str]:
    for label, count in Counter(labels).items():
        if count > 1:
            yield f"{path}: found {label} {count} times; allowed: items that differ"


def _names(settings: Study) -> Iterator[str]:
    for path, name, known in unknown_names(settings):
        guess = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {guess[0]}?)" if guess else ""
        yield f"{path}: found {name!r}{hint}; allowed: {' | '.join(known)}"
    yield from refused_options(settings)
    yield from refused_profile(settings)
