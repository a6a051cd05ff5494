"""What the manifest of a study in rounds says beside its settings."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fedjax_kd.study.contestant_names import CONTESTANTS
from fedjax_kd.study.contestants import Contestant
from fedjax_kd.study.environment import machine, versions
from fedjax_kd.study.plan import Plan
from fedjax_kd.study.rounds_setup import RoundsSetup
from fedjax_kd.study.settings_dfml import DfmlStudy
from fedjax_kd.study.settings_family import FamilyStudy
from fedjax_kd.study.studies import RoundsStudy
from fedjax_kd.study.upload_channel import privacy_of
from fedjax_kd.system import load_profile


def describe(
    settings: RoundsStudy, setup: RoundsSetup, plan: Plan, players: Sequence[Contestant]
) -> dict[str, Any]:
    """The study's own fields of manifest.json: contestants, models, users, devices, machine."""
    serverless = isinstance(settings, DfmlStudy)  # and so are its baselines
    return {
        "seeds": list(setup.points.seeds),
        "points": list(setup.points.labels.point),
        "classes": setup.source.n_classes,
        "class_names": list(setup.source.class_names),
        "raw_bits_per_example": setup.source.raw_bits_per_example,
        "contestants": [
            {
                **_contestant(player, serverless and player.name != "local"),
                "meaning": CONTESTANTS[settings.method][player.name].meaning,
            }
            for player in players
        ],
        "models": [
            {
                "label": each.label,
                "role": each.role,
                "parameters": each.costs.parameters,
                "training_flops": each.costs.training_flops,
                "bits": each.costs.bits,
            }
            for each in setup.architectures
        ],
        "users": [
            {"user": user, "model": label, "strong": strong}
            for user, (label, strong) in enumerate(
                zip(setup.user_models, setup.strong, strict=True)
            )
        ],
        "system": _system(settings, setup),
        **_privacy(setup),
        "versions": versions(),
        "machine": machine(),
        "execution": plan.describe(),
    }


def _contestant(player: Contestant, peer: bool) -> dict[str, Any]:
    return {
        "name": player.name,
        "title": player.title,
        "role": player.role,
        "views": list(player.views),
        "phases": list(player.method.phases),
        "peer": peer,
        "form": player.execution.label,
    }


def _privacy(setup: RoundsSetup) -> dict[str, Any]:
    """What the noise is worth: once where all points agree, else by point."""
    points = setup.points
    found = [privacy_of(one) if isinstance(one, FamilyStudy) else None for one in points.settings]
    if found[0] is None:
        return {}
    if all(each == found[0] for each in found):
        return {"privacy": found[0]}
    named = zip(points.labels.point, points.labels.seed, found, strict=True)
    return {
        "privacy": {"per_point": [{"point": p, "seed": s, **(each or {})} for p, s, each in named]}
    }


def _system(settings: RoundsStudy, setup: RoundsSetup) -> dict[str, Any]:
    """The worlds as the simulation holds them, by seed: numbers, or lists with one for each user.

    With the radio's path loss and noise, which links between devices are priced by, this is all
    that prices depend on beside what the methods reported.
    """
    profile = load_profile(settings.system.profile)
    fleets = jax.tree.map(np.asarray, setup.fleets)
    by_user = fleets.device_clock_hz.shape
    capacitance = fleets.device_capacitance.reshape(setup.points.count, -1)
    fleets = fleets._replace(device_capacitance=np.broadcast_to(capacitance, by_user))
    return {
        "profile": settings.system.profile,
        "path_loss": dataclasses.asdict(profile.path_loss),
        "noise_dbm_per_hz": profile.noise_dbm_per_hz,
        "per_seed": [
            {"seed": seed, **{name: values[place] for name, values in fleets._asdict().items()}}
            for place, seed in enumerate(setup.points.seeds)
        ],
    }
