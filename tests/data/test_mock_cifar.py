"""The stand-ins for CIFAR have its shapes and are read like it."""

import numpy as np
import pytest
from mock_cifar import mock_cifar_source, patch_cifar, write_cifar

from fedjax_kd.data import load_source


@pytest.mark.parametrize(("name", "n_classes"), [("cifar10", 10), ("cifar100", 100)])
def test_a_patched_source_has_the_real_shapes(name, n_classes, monkeypatch):
    patch_cifar(monkeypatch, name, n_train=1000, n_test=200)
    source = load_source(name)
    assert source.train_inputs.shape == (1000, 32, 32, 3)
    assert source.test_inputs.shape == (200, 32, 32, 3)
    assert source.train_inputs.dtype == np.uint8
    assert source.n_classes == len(source.class_names) == n_classes
    assert set(np.bincount(source.train_labels, minlength=n_classes)) == {1000 // n_classes}


def test_classes_can_be_told_apart():
    source = mock_cifar_source(n_train=500, n_test=100)
    flat = source.train_inputs.reshape(500, -1).astype(np.float32)
    means = np.stack([flat[source.train_labels == c].mean(axis=0) for c in range(10)])
    test = source.test_inputs.reshape(100, -1).astype(np.float32)
    nearest = ((test[:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
    assert (nearest == source.test_labels).all()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_written_source_comes_back_through_tensorflow_datasets(name, monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    write_cifar(monkeypatch, tmp_path, name, n_train=200, n_test=50)
    made, read = mock_cifar_source(name, n_train=200, n_test=50), load_source(name)
    assert read.n_classes == made.n_classes
    assert sorted(read.train_labels) == sorted(made.train_labels)
    pictures = {picture.tobytes() for picture in made.test_inputs}
    assert {picture.tobytes() for picture in read.test_inputs} == pictures
