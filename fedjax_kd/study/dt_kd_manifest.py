"""What the manifest of a DT-KD study says, so that its ledger can be computed again from it."""

from typing import Any

import jax
import numpy as np

from fedjax_kd.models import ModelProfile
from fedjax_kd.study.dt_kd_setup import Setup
from fedjax_kd.study.environment import machine, versions
from fedjax_kd.study.plan import Plan
from fedjax_kd.study.settings import DtKdStudy

_SERVER = ("server_clock_hz", "server_flops_per_s", "uplink_hz", "downlink_hz")
_CONSTANTS = (
    "server_transmit_w",
    "flops_per_cycle",
    "device_capacitance",
    "server_capacitance",
)


def describe(settings: DtKdStudy, setup: Setup, plan: Plan) -> dict[str, Any]:
    """The study's own fields of manifest.json: profiles, devices, links, versions and machine.

    Numbers that the simulation holds in float32 are given as they are held.
    """
    return {
        "seeds": list(setup.points.seeds),
        "points": list(setup.points.labels.point),
        "classes": setup.source.n_classes,
        "class_names": list(setup.source.class_names),
        "raw_bits_per_example": setup.source.raw_bits_per_example,
        "students": [
            {"label": spec.label, **_costs(costs)}
            for spec, costs in zip(settings.students, setup.profiles, strict=True)
        ],
        "teacher": {"label": settings.teacher.model.label, **_costs(setup.teacher_profile)},
        "system": _system(settings, setup),
        "versions": versions(),
        "machine": machine(),
        "execution": plan.describe(),
    }


def _costs(profile: ModelProfile) -> dict[str, int]:
    return profile._asdict()


def _system(settings: DtKdStudy, setup: Setup) -> dict[str, Any]:
    fleets = jax.tree.map(np.asarray, setup.fleets)._asdict()
    per_user = [name for name in fleets if name not in _SERVER and name not in _CONSTANTS]
    return {
        "profile": settings.system.profile,
        "constants": {name: float(fleets[name][0]) for name in _CONSTANTS},
        "per_seed": [
            {
                "seed": seed,
                **{name: float(fleets[name][s]) for name in _SERVER},
                "users": [
                    {"user": n, **{name: float(fleets[name][s][n]) for name in per_user}}
                    for n in range(settings.data.users)
                ],
            }
            for s, seed in enumerate(setup.points.seeds)
        ],
    }
