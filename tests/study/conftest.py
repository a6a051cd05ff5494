"""One tiny DT-KD study, run once for all tests that look at its results."""

import io

import pytest

from fedjax_kd.study.folder import open_folder
from fedjax_kd.study.load import settings_from_dict
from fedjax_kd.study.progress import Progress, plain_lines
from fedjax_kd.study.run_dt_kd import run_study

TINY = {
    "method": "dt_kd",
    "title": "tiny",
    "seeds": [0, 1],
    "data": {
        "source": "digits",
        "users": 4,
        "partition": {"kind": "dirichlet", "alpha": 0.5, "min_examples": 40},
        "max_train": 60,
        "common_test": 100,
    },
    "students": [{"name": "mlp", "hidden": [16]}, {"name": "mlp", "hidden": [64]}],
    "teacher": {
        "model": {"name": "mlp", "hidden": [128]},
        "rounds": 5,
        "training": {"epochs": 4},
    },
    "distillation": {"training": {"epochs": 8}},
    "twin": {"synchronised": 0.5},
    "objective": {"frontier_weights": [0.0, 0.5], "reference_draws": 32},
    "fedavg": {"rounds": 3},
    "policy": {"episodes": 400, "frontier_episodes": 100},
}


@pytest.fixture(scope="session")
def tiny_settings():
    return settings_from_dict(TINY)


@pytest.fixture(scope="session")
def run_tiny(tiny_settings):
    """Runs the tiny study into a folder; returns what it said."""

    def run(path):
        stream = io.StringIO()
        folder = open_folder(path, tiny_settings)
        try:
            run_study(tiny_settings, folder, progress=Progress(plain_lines(stream)))
        finally:
            folder.close()
        return stream.getvalue()

    return run


@pytest.fixture(scope="session")
def tiny_results(tmp_path_factory, run_tiny):
    path = tmp_path_factory.mktemp("tiny") / "results"
    run_tiny(path)
    return path
