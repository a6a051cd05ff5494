"""Rules between the settings of a study in rounds; nothing is read or compiled here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from fedjax_kd.data import Natural
from fedjax_kd.study.check_family import rules_of_family
from fedjax_kd.study.settings import ModelSpec
from fedjax_kd.study.settings_dfml import DfmlStudy
from fedjax_kd.study.settings_family import FamilyStudy
from fedjax_kd.study.settings_on_device_kd import OnDeviceKdStudy
from fedjax_kd.study.studies import RoundsStudy

DISTILLING = ("on_device_kd", "server_ensemble", "kd_only", "constant_weight")


def rules_of_rounds(settings: RoundsStudy, in_grid: bool = False) -> Iterator[str]:
    """Yields a line for every broken rule; a row of a grid needs no reference of its own."""
    users, cohort = settings.data.users, settings.participation.cohort
    if users < 2:
        yield f"data.users: found {users}; allowed: 2 or more, for there to be an exchange"
    if cohort is not None and cohort > users:
        yield f"participation.cohort: found {cohort}; allowed: at most data.users, which is {users}"
    drops = settings.learning_rate_drop.rounds
    if any(later <= earlier for earlier, later in pairwise(drops)):
        yield f"learning_rate_drop.rounds: found {list(drops)}; allowed: numbers in rising order"
    if settings.data.public is not None and not isinstance(settings, FamilyStudy):
        yield f"data.public: found a section; allowed: null, for {settings.method} uses none"
    if isinstance(settings, OnDeviceKdStudy):
        yield from _on_device_kd(settings)
        return
    yield from _architectures(settings.models, users)
    if settings.data.unlabelled is not None:
        uses = "uses labelled examples only"
        if isinstance(settings, FamilyStudy):
            uses = "takes its public examples from data.public"
        yield f"data.unlabelled: found a section; allowed: null, for {settings.method} {uses}"
    if isinstance(settings, DfmlStudy):
        yield from _dfml(settings)
    if isinstance(settings, FamilyStudy):
        yield from rules_of_family(settings, in_grid)


def _on_device_kd(settings: OnDeviceKdStudy) -> Iterator[str]:
    users, unlabelled = settings.data.users, settings.data.unlabelled
    if settings.strong > users:
        yield f"strong: found {settings.strong}; allowed: at most data.users, which is {users}"
    if settings.cohort is not None and settings.cohort > users:
        yield f"cohort: found {settings.cohort}; allowed: at most data.users, which is {users}"
    distilling = [name for name in settings.contestants if name in DISTILLING]
    if unlabelled is None and distilling:
        yield f"data.unlabelled: missing; {', '.join(distilling)} distil on unlabelled examples"
    if unlabelled is None:
        return
    if unlabelled.kind == "shards" and isinstance(settings.data.partition, Natural):
        yield (
            "data.unlabelled.kind: found 'shards'; allowed: share, for the natural partition has "
            "no shards to spare"
        )


def _dfml(settings: DfmlStudy) -> Iterator[str]:
    reachable = settings.participation.cohort or settings.data.users
    if settings.senders >= reachable:
        yield (
            f"senders: found {settings.senders}; allowed: less than the {reachable} users of a "
            "round, one of whom is the aggregator"
        )


def _architectures(models: Sequence[ModelSpec], users: int) -> Iterator[str]:
    labels = [spec.label for spec in models]
    for label in dict.fromkeys(labels):
        if labels.count(label) > 1:
            yield f"models: found {label} {labels.count(label)} times; allowed: items that differ"
    if len(models) > users:
        yield (
            f"models: found {len(models)} of them; allowed: at most data.users, which is {users}, "
            "for every architecture to have a user"
        )
