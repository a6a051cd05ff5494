"""What is known of each data set before a file is opened: sizes, and where its files come from."""

from __future__ import annotations

from typing import NamedTuple


class Facts(NamedTuple):
    """Sizes of a data set and how to get it."""

    train_examples: int
    test_examples: int  # 0: no stock test split
    n_classes: int
    shape: tuple[int, ...]  # of one example
    dtype: str
    raw_files: str  # where the files for `prepare-data` come from; empty where none are needed


_IDX = "{train,t10k}-{images-idx3,labels-idx1}-ubyte, gzipped or not"
_CIFAR = (
    "the archive cifar-{0}-python.tar.gz or cifar-{0}-binary.tar.gz of Krizhevsky's page,"
    " packed or extracted"
)

FACTS: dict[str, Facts] = {
    "digits": Facts(1797, 0, 10, (8, 8, 1), "uint8", ""),
    "mnist": Facts(
        60_000, 10_000, 10, (28, 28, 1), "uint8", f"the four IDX files of MNIST, {_IDX}"
    ),
    "fashion_mnist": Facts(
        60_000,
        10_000,
        10,
        (28, 28, 1),
        "uint8",
        f"the four IDX files of Fashion-MNIST, {_IDX}: Debian's package dataset-fashion-mnist puts"
        " them into /usr/share/datasets/fashion-mnist",
    ),
    "emnist/byclass": Facts(
        697_932,
        116_323,
        62,
        (28, 28, 1),
        "uint8",
        "the four files emnist-byclass-{train,test}-{images-idx3,labels-idx1}-ubyte of NIST's"
        " gzip.zip, packed or extracted",
    ),
    "cifar10": Facts(50_000, 10_000, 10, (32, 32, 3), "uint8", _CIFAR.format(10)),
    "cifar100": Facts(50_000, 10_000, 100, (32, 32, 3), "uint8", _CIFAR.format(100)),
    "svhn_cropped": Facts(
        73_257, 26_032, 10, (32, 32, 3), "uint8", "train_32x32.mat and test_32x32.mat of SVHN"
    ),
    "watch": Facts(
        4677,
        0,
        7,
        (100, 6),
        "float32",
        "the wheel seglearn-1.2.5-py3-none-any.whl (pip download --no-deps seglearn==1.2.5) or the"
        " watch_dataset.npy in it",
    ),
}
