"""Settings of studies in rounds that take seconds, one for each method.

Every contestant costs a compilation of seconds, so only those run that differ in what they cost.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from fedjax_kd.report.rounds_results import costs_of, curves_of
from fedjax_kd.study.folder import open_folder
from fedjax_kd.study.load import settings_from_dict
from fedjax_kd.study.progress import Progress, quiet
from fedjax_kd.study.run_rounds_study import run_rounds_study

COMMON = {
    "title": "tiny",
    "seeds": [0, 1],
    "data": {
        "source": "digits",
        "users": 4,
        "partition": {"kind": "dirichlet", "alpha": 0.5, "min_examples": 30},
        "max_train": 40,
        "max_test": 30,
        "common_validation": 20,
        "common_test": 60,
    },
    "rounds": 3,
    "evaluation": {"every": 2},
}


def mlp(*hidden: int) -> dict:
    return {"name": "mlp", "hidden": list(hidden)}


ON_DEVICE_KD = {
    **COMMON,
    "method": "on_device_kd",
    "data": {**COMMON["data"], "unlabelled": {"kind": "shards", "shards_per_strong": 2}},
    "auxiliary": mlp(8),
    "target": mlp(24),
    "strong": 2,
    "cohort": 3,
    "training": {"steps": 3, "batch_size": 8},
    "distillation": {"ramp_rounds": 2},
    "server_steps": 2,
    "contestants": ["on_device_kd", "auxiliary_only", "server_ensemble"],
}

DFML = {
    **COMMON,
    "method": "dfml",
    "models": [mlp(8), mlp(16)],
    "senders": 3,
    "training": {"epochs": 1, "batch_size": 8},
    "alpha": {"period": 2, "growth": 0},
    "meme": mlp(4),
    "contestants": ["dfml", "decentralised_fml", "def_kt"],
}

PFEDAFM = {
    **COMMON,
    "method": "pfedafm",
    "models": [mlp(8), mlp(12, 8)],
    "shared": mlp(4, 8),
    "participation": {"cohort": 3},
    "training": {"epochs": 1, "batch_size": 8, "gradient_clip": 50.0, "weight_decay": 0.001},
    "contestants": ["pfedafm", "local", "lg_fedavg", "fedproto"],
}

TINY_ROUNDS = {study["method"]: study for study in (ON_DEVICE_KD, DFML, PFEDAFM)}


def curves(folder: Path) -> Any:
    """What was evaluated, by contestant and view."""
    manifest = json.loads((folder / "manifest.json").read_text())
    main = {each["name"]: each["views"][0] for each in manifest["contestants"]}
    return curves_of(pd.read_parquet(folder / "metrics.parquet"), main)


def costs(folder: Path) -> Any:
    """What had been spent after each round, by contestant."""
    return costs_of(pd.read_parquet(folder / "metrics.parquet"))


def run_study(settings: Any, path: Path) -> Path:
    """Runs a study in rounds into a folder, silently."""
    folder = open_folder(path, settings)
    try:
        run_rounds_study(settings, folder, progress=Progress(quiet()), form="sequential")
    finally:
        folder.close()
    return path


def run_tiny_rounds(method: str, path: Path, overrides: tuple[str, ...] = ()) -> Path:
    """Runs the tiny study of a method into a folder."""
    return run_study(settings_from_dict(TINY_ROUNDS[method], overrides), path)
