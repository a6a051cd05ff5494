"""One tiny DT-KD study, run once for all tests that look at its results."""

import io

import pytest
from dt_kd_tiny import TINY

from fedjax_kd.study.folder import open_folder
from fedjax_kd.study.load import settings_from_dict
from fedjax_kd.study.progress import Progress, plain_lines
from fedjax_kd.study.run_dt_kd import run_study


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
