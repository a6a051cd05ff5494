"""What `fedjax-kd list` says: every name that a settings file or a report uses, with one line."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable

Rows = list[tuple[str, str]]


def rows(kind: str) -> Rows:
    """Returns names and descriptions.

    Args:
      kind: a key of `LISTS`.
    """
    return LISTS[kind]()


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _methods() -> Rows:
    from fedjax_kd.study.load import STUDIES

    return [(name, _first_line(study)) for name, study in STUDIES.items()]


def _contestants() -> Rows:
    from fedjax_kd.study.contestant_names import CONTESTANTS

    return [
        (name, f"{study}: {each.title}, {each.meaning}")
        for study, entries in CONTESTANTS.items()
        for name, each in entries.items()
    ]


def _models() -> Rows:
    from fedjax_kd.models import MODELS

    inputs = {"image": "pictures", "sequence": "sequences", "any": "any inputs"}
    return [
        (
            name,
            f"{inputs[model.input_kind]}"
            + (f" of at least {model.smallest} along each axis" if model.smallest > 1 else "")
            + f"; options: {', '.join(model.options) or 'none'}",
        )
        for name, model in MODELS.items()
    ]


def _sources() -> Rows:
    from fedjax_kd.data import data_sources_overview

    return [
        (
            source.name,
            f"{source.train_examples:,} + {source.test_examples:,} examples of "
            f"{'x'.join(map(str, source.shape))}, {source.n_classes} classes; "
            + ("ready" if source.available else "not on this machine (see prepare-data)"),
        )
        for source in data_sources_overview()
    ]


def _partitions() -> Rows:
    from fedjax_kd.study.settings import Partition

    union = typing.get_args(Partition)[0]
    return [(spec.kind, _first_line(spec)) for spec in typing.get_args(union)]


def _profiles() -> Rows:
    from fedjax_kd.system import load_profile, profile_names

    return [(name, load_profile(name).title) for name in profile_names()]


def _policies() -> Rows:
    from fedjax_kd.report.names import POLICIES

    return [(name, f"{policy.name}: {policy.meaning}") for name, policy in POLICIES.items()]


LISTS: dict[str, Callable[[], Rows]] = {
    "methods": _methods,
    "contestants": _contestants,
    "models": _models,
    "sources": _sources,
    "partitions": _partitions,
    "profiles": _profiles,
    "policies": _policies,
}
