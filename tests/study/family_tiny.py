"""Settings of a study of the family that takes seconds."""

from pathlib import Path
from typing import Any

from rounds_tiny import COMMON, mlp, run_study

from fedjax_kd.study.load import settings_from_dict

ALL = (
    *("local", "fedavg", "fedprox", "lg_fedavg", "fd", "fedproto", "fml"),
    *("fedmd", "ds_fl", "feddf"),
)
FAMILY: dict[str, Any] = {
    **COMMON,
    "method": "family",
    "data": {**COMMON["data"], "public": {"kind": "split", "examples": 24}},
    "models": [mlp(8), mlp(12, 8)],
    "meme": mlp(4),
    "training": {"epochs": 1, "batch_size": 8},
    "public_set": {"per_round": 16, "batch_size": 8, "server_steps": 2},
    "contestants": ["local", "fd", "ds_fl"],
}


def family(*overrides: str) -> Any:
    """The tiny study with some settings changed."""
    return settings_from_dict(FAMILY, list(overrides))


def run_family(path: Path, *overrides: str) -> Path:
    """Runs the tiny study into a folder."""
    return run_study(family(*overrides), path)
