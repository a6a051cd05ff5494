"""The studies by the name of their method, and the models that each of them names."""

from __future__ import annotations

from typing import Literal

from fedjax_kd.study.settings import DtKdStudy, ModelSpec
from fedjax_kd.study.settings_dfml import DfmlStudy
from fedjax_kd.study.settings_family import REFERENCE, FamilyStudy
from fedjax_kd.study.settings_on_device_kd import OnDeviceKdStudy
from fedjax_kd.study.settings_pfedafm import PFedAfmStudy

RoundsStudy = OnDeviceKdStudy | DfmlStudy | PFedAfmStudy | FamilyStudy
Study = DtKdStudy | RoundsStudy

STUDIES: dict[str, type[Study]] = {
    "dt_kd": DtKdStudy,
    "on_device_kd": OnDeviceKdStudy,
    "dfml": DfmlStudy,
    "pfedafm": PFedAfmStudy,
    "family": FamilyStudy,
}


def models_of(settings: Study) -> list[tuple[str, ModelSpec]]:
    """Every model that a study names, with the path of its setting; the largest role first."""
    if isinstance(settings, DtKdStudy):
        return [("teacher.model", settings.teacher.model), *_listed("students", settings.students)]
    if isinstance(settings, OnDeviceKdStudy):
        return [("target", settings.target), ("auxiliary", settings.auxiliary)]
    if isinstance(settings, DfmlStudy):
        return [*_listed("models", settings.models), ("meme", settings.meme)]
    if isinstance(settings, FamilyStudy):
        travels = "fml" in settings.contestants
        return [*_listed("models", settings.models), *([("meme", settings.meme)] * travels)]
    return [*_listed("models", settings.models), ("shared", settings.shared)]


def counted_scope(settings: RoundsStudy) -> Literal["personal", "common"]:
    """The accuracy that the study's method is about."""
    return "personal" if isinstance(settings, PFedAfmStudy | FamilyStudy) else "common"


def reference_of(settings: RoundsStudy) -> str | None:
    """The contestant that all others are held against where none is proposed; None if one is."""
    return REFERENCE if isinstance(settings, FamilyStudy) else None


def _listed(name: str, specs: tuple[ModelSpec, ...]) -> list[tuple[str, ModelSpec]]:
    return [(f"{name}.{index}", spec) for index, spec in enumerate(specs)]
