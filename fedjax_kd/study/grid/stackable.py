"""Which settings one compiled program serves with any value, and which need a program of their own.

Static is whatever decides a shape, a count, or a branch in Python: architectures, users, rounds,
epochs, batch sizes, names. Stackable is what a program takes as an argument: rates, temperatures
and weights, the numbers of a channel, seeds, who holds what (index tables, padded to a common
width), and what only prices are computed from. Momentum, weight decay and clipping are in between:
a part that is 0 is absent from the program, so points share one if all have it or none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fedjax_kd.study.load import settings_to_dict
from fedjax_kd.study.settings import DtKdStudy
from fedjax_kd.study.settings_dfml import DfmlStudy
from fedjax_kd.study.settings_family import FamilyStudy
from fedjax_kd.study.settings_on_device_kd import OnDeviceKdStudy
from fedjax_kd.study.settings_pfedafm import PFedAfmStudy
from fedjax_kd.study.studies import Study

Remainder = Callable[[Any], Any]
"""From the value of a stackable setting to what of it is static; equal for all values mostly."""


def _nothing(value: Any) -> None:
    """Any value will do."""


def _present(value: Any) -> bool:
    """Whether there is one; 0 means none."""
    return value != 0


def _whole(value: Any) -> bool:
    """Whether a share is all there is."""
    return value == 1.0


def _all(*paths: str) -> dict[str, Remainder]:
    return dict.fromkeys(paths, _nothing)


def _training(path: str) -> dict[str, Remainder]:
    """The rates of a section of local training."""
    optional = ("momentum", "weight_decay", "gradient_clip")
    return {f"{path}.learning_rate": _nothing} | {f"{path}.{name}": _present for name in optional}


_ANY_STUDY = _all("title", "seeds", "data.partition", "system.uplink_hz", "system.downlink_hz")
_ROUNDS = _ANY_STUDY | _training("training") | _all("learning_rates")

STACKABLE: Mapping[type[Study], Mapping[str, Remainder]] = {
    DtKdStudy: _ANY_STUDY
    | _training("teacher.training")
    | _training("distillation.training")
    | _training("fedavg.training")
    | {"twin.synchronised": _whole}
    | _all("distillation.temperature", "distillation.weight", "objective.delay_weight")
    | _all("policy.learning_rate", "policy.discount")
    | _all("policy.epsilon_start", "policy.epsilon_end", "policy.epsilon_decay"),
    OnDeviceKdStudy: _ROUNDS
    | _all("distillation.temperature", "distillation.weight", "distillation.variant_weight")
    | _all("distillation.ramp_rounds"),
    DfmlStudy: _ROUNDS
    | _all("alpha.maximum", "temperature", "peak_floor", "constant_alpha")
    | _all("fml_hard", "def_kt_weight"),
    PFedAfmStudy: _ROUNDS | _all("mixing_learning_rate", "prototype_weight"),
    FamilyStudy: _ROUNDS
    | _all("proximal", "fd_weight", "fd_temperature", "prototype_weight")
    | _all("fml_hard", "fml_meme_hard")
    | _all("public_set.digest_learning_rate", "public_set.server_learning_rate")
    | _all("public_set.sharpen.strength")
    | _all("upload.*.clip", "upload.*.multiplier", "upload.*.epsilon", "upload.*.delta")
    | _all("upload.*.largest"),
}
"""By type of study: path of a stackable setting -> what of its value is static all the same."""


def group_key(settings: Study) -> str:
    """16 hexadecimal digits that settings share with all that one program can serve."""
    static = settings_to_dict(settings)
    for path, remainder in STACKABLE[type(settings)].items():
        for section, key in _places(static, path.split(".")):
            section[key] = remainder(section[key])
    canonical = json.dumps(static, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _places(section: Any, keys: list[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """The sections and keys that a path with `*` for the items of a list leads to."""
    first, *rest = keys
    if first == "*":
        for item in section:
            yield from _places(item, rest)
    elif rest:
        yield from _places(section[first], rest)
    elif first in section:
        yield section, first
