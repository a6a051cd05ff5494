"""The settings files at the papers' scale, on made-up pictures in the shape of CIFAR-10.

As they are, they must set up: 50,000 pictures, all users, every contestant with its own models. To
run in seconds, the proposed method of each then works for two rounds with few users, one seed, few
pictures and, because compiling takes longest, shallower or fewer architectures; all else stays as
in the file. What is changed is in `SHRUNK`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mock_cifar import patch_cifar
from rounds_tiny import costs, curves, run_study

from fedjax_kd.study.check import check_study
from fedjax_kd.study.load import load_settings
from fedjax_kd.study.run_rounds_study import check_rounds_study
from fedjax_kd.training import default_execution

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SHRUNK = {
    "on_device_kd": [
        "data.users=6",
        "data.partition.min_examples=5",
        "data.unlabelled.shards_per_strong=1",
        "strong=2",
        "cohort=3",
        "training.steps=2",
        "training.batch_size=8",
        "auxiliary.name=resnet8",
        "target.name=resnet8",
    ],
    "dfml": [
        "data.users=6",
        "data.partition.min_examples=10",
        "data.max_train=16",
        "senders=2",
        "training.epochs=1",
        "training.batch_size=16",
        "models=[{name: lenet}, {name: cnn5}, {name: resnet8, width: 0.5}]",
    ],
    "pfedafm": [
        "data.users=5",
        "data.max_train=32",
        "participation.cohort=3",
        "training.epochs=1",
        "training.batch_size=16",
        "models=[{name: cnn1}, {name: cnn5}]",
    ],
}


def paper(method, *changes) -> Any:
    settings = load_settings(EXPERIMENTS / method / "paper.yaml", changes)
    check_study(settings)
    return settings


@pytest.mark.parametrize("method", SHRUNK)
def test_the_whole_study_of_the_paper_can_be_set_up(method, monkeypatch):
    patch_cifar(monkeypatch)
    check_rounds_study(paper(method), default_execution())


@pytest.mark.parametrize("method", SHRUNK)
def test_two_rounds_of_the_paper_s_method(method, monkeypatch, tmp_path):
    patch_cifar(monkeypatch, n_train=600, n_test=100)
    small = ["rounds=2", "seeds=[0]", f"contestants=[{method}]", *SHRUNK[method]]
    folder = run_study(paper(method, *small), tmp_path / "results")
    rows = curves(folder)
    assert set(rows["round"]) == {2}
    assert np.isfinite(rows["value"]).all()
    spent = costs(folder)
    assert list(spent["round"]) == [1, 2]
    assert (spent[["delay_s", "energy_j", "bits", "flops"]] > 0).all().all()
