"""CIFAR-10 and CIFAR-100 for tests: the shapes of the real ones, made-up pictures, any size.

A class is a picture of its own under noise, so that a model can learn something in a few steps.
"""

from pathlib import Path

import numpy as np

from fedjax_kd.data import Source
from fedjax_kd.data.catalog import SOURCES
from fedjax_kd.data.facts import FACTS


def mock_cifar_source(
    name: str = "cifar10", *, n_train: int = 50_000, n_test: int = 10_000, seed: int = 0
) -> Source:
    """A source in memory; the real sizes take less than a second.

    Args:
      name: `cifar10` or `cifar100`.
      n_train: training examples, of every class as many (give or take one).
      n_test: stock test examples, likewise.
      seed: of the pictures.
    """
    n_classes = FACTS[name].n_classes
    rng = np.random.default_rng(seed)
    of_class = rng.integers(0, 129, (n_classes, 32, 32, 3), dtype=np.uint8)
    labels = np.concatenate([rng.permutation(n) % n_classes for n in (n_train, n_test)])
    noise = rng.integers(0, 127, (n_train + n_test, 32, 32, 3), dtype=np.uint8)
    inputs = of_class[labels] + noise  # at most 128 + 126: bytes do not overflow
    labels = labels.astype(np.int32)
    return Source(
        name,
        inputs[:n_train],
        labels[:n_train],
        inputs[n_train:],
        labels[n_train:],
        n_classes,
        tuple(f"class {c}" for c in range(n_classes)),
    )


def patch_cifar(monkeypatch, name: str = "cifar10", **sizes: int) -> None:
    """Makes `load_source(name)` of this process give the made-up source, with no file involved."""
    source = mock_cifar_source(name, **sizes)
    monkeypatch.setitem(SOURCES, name, lambda *_: source)


def write_cifar(monkeypatch, folder: Path, name: str = "cifar10", **sizes: int) -> None:
    """Writes the made-up source in the format of tensorflow-datasets, and points to it.

    For processes that a test starts, and for the whole way of reading; slower than `patch_cifar`.
    """
    from fedjax_kd.data.raw_files import RawDataSet, RawSplit
    from fedjax_kd.data.tfds_write import write_tfds

    source = mock_cifar_source(name, **{"n_train": 400, "n_test": 100, **sizes})
    splits = {
        "train": (source.train_inputs, source.train_labels),
        "test": (source.test_inputs, source.test_labels),
    }
    raw = {
        split: RawSplit(inputs, labels.astype(np.int64), _others(name, labels))
        for split, (inputs, labels) in splits.items()
    }
    write_tfds(name, RawDataSet(raw, {}), folder / "data")
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def _others(name: str, labels: np.ndarray) -> dict[str, list]:
    """The features that the stock data sets have beside pictures and labels."""
    others = {"id": [f"{row:05d}" for row in range(len(labels))]}
    return others | ({"coarse_label": (labels // 5).tolist()} if name == "cifar100" else {})
