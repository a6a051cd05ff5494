"""Device profiles: the ranges and constants of a simulated world, in YAML files beside this one.

None of the numbers is a paper's whose method this package has: their texts and codes give none.
Every file says where each number comes from.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
)
from pydantic.dataclasses import dataclass
from pydantic.functional_validators import AfterValidator

_checked = ConfigDict(extra="forbid")


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the lower bound must not exceed the upper one")
    return bounds


Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]


@dataclass(config=_checked, frozen=True)
class PowerLawPathLoss:
    """Gain 17 / (47.86 d^2.75), d in metres."""

    kind: Literal["power_law"]


@dataclass(config=_checked, frozen=True)
class MacroCellPathLoss:
    """Loss 128.1 + 37.6 log10(d in km) dB with log-normal shadowing."""

    kind: Literal["macro_cell"]
    shadowing_db: NonNegative


PathLoss = Annotated[PowerLawPathLoss | MacroCellPathLoss, Field(discriminator="kind")]


@dataclass(config=_checked, frozen=True)
class Profile:
    """What fleets are drawn from. Pairs are the bounds of a uniform distribution."""

    title: str
    radius_m: Positive  # users lie uniformly within this distance
    nearest_m: Positive  # but not nearer than this
    path_loss: PathLoss
    noise_dbm_per_hz: Annotated[float, Field(strict=True, lt=0, ge=-300)]
    uplink_hz: Positive
    downlink_hz: Positive
    device_transmit_w: Range
    server_transmit_w: Positive
    device_clock_hz: Range
    server_clock_hz: Range
    flops_per_cycle: Positive
    device_capacitance: Positive  # J s^2 per cycle: energy = capacitance x clock^2 x cycles
    server_capacitance: Positive
    weak_device_clock_hz: Range | None = None  # of the devices that a fleet is told are weak
    weak_device_capacitance: Positive | None = None  # None: that of the others

    def __post_init__(self) -> None:
        if self.nearest_m >= self.radius_m:
            raise ValueError(
                f"nearest_m = {self.nearest_m} must be below radius_m = {self.radius_m}"
            )

    @model_serializer(mode="wrap")
    def _said(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what is not said of weak devices: such profiles stay what they were."""
        said = serialise(self)
        return {name: value for name, value in said.items() if value is not None}


_PROFILE = TypeAdapter(Profile)


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that come with the package, sorted."""
    files = resources.files("fedjax_kd.system").joinpath("profiles").iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def load_profile(name: str | Path) -> Profile:
    """Reads and checks a profile.

    Args:
        name: one of `profile_names()`, or the path of a file ending in `.yaml`.

    Returns:
        The profile.

    Raises:
        ValueError: for an unknown name, a missing file, or a field that is unknown, missing or out
            of range; names field, value and what is allowed.
    """
    if str(name).endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"device profile {path}: there is no such file")
        text = path.read_text(encoding="utf-8")
    else:
        known = profile_names()
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ValueError(
                f"device profile {str(name)!r} is unknown; must be one of {', '.join(known)} "
                f"or the path of a .yaml file.{hint}"
            )
        return _bundled(str(name))
    return _parsed(text, str(name))


@cache
def _bundled(name: str) -> Profile:
    """A profile of the package, whose files do not change while it runs."""
    file = resources.files("fedjax_kd.system").joinpath(f"profiles/{name}.yaml")
    return _parsed(file.read_text("utf-8"), name)


def _parsed(text: str, name: str) -> Profile:
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"device profile {name}: not valid YAML: {error}") from error
    return parse_profile(content, name)


def parse_profile(content: Any, name: str) -> Profile:
    """Checks the content of a profile's file; raises as `load_profile` does."""
    if not isinstance(content, dict):
        raise ValueError(f"device profile {name}: must be a mapping of fields to values")
    try:
        return _PROFILE.validate_python(content)
    except ValidationError as error:
        raise ValueError(f"device profile {name}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """One line per wrong field: its path, its value and what is allowed."""
    lines = []
    for problem in error.errors(include_url=False):
        # A union's location names the member that was tried; the reader did not write that.
        location = [str(part) for part in problem["loc"] if part not in ("power_law", "macro_cell")]
        value = "" if problem["type"] == "missing" else f" = {problem['input']!r}"
        lines.append(f"{'.'.join(location) or 'profile'}{value}: {problem['msg']}")
    return "; ".join(lines)
