"""Turn raw files into data sets that tensorflow-datasets reads, for machines without internet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedjax_kd.data.errors import RawFilesError
from fedjax_kd.data.facts import FACTS
from fedjax_kd.data.raw_cifar import read_cifar
from fedjax_kd.data.raw_files import RawDataSet
from fedjax_kd.data.raw_idx import read_mnist_like
from fedjax_kd.data.raw_svhn import read_svhn
from fedjax_kd.data.raw_watch import read_watch
from fedjax_kd.data.tfds_import import default_data_dir
from fedjax_kd.data.tfds_write import Progress, write_tfds

RAW_READERS: dict[str, Callable[..., RawDataSet]] = {
    "mnist": read_mnist_like,
    "fashion_mnist": read_mnist_like,
    "emnist/byclass": read_mnist_like,
    "cifar10": read_cifar,
    "cifar100": read_cifar,
    "svhn_cropped": read_svhn,
    "watch": read_watch,
}


def prepare(
    name: str,
    source_dir: str | Path,
    data_dir: str | Path | None = None,
    *,
    verify: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Write a data set from raw files, TensorFlow-free, and return its folder.

    Nothing is written where the data set lies already; its counts are then compared with the raw
    files'. An interrupted run leaves nothing that a reader would take for the data set.

    Args:
      name: a key of `RAW_READERS`.
      source_dir: where the raw files lie: a folder, or an archive.
      data_dir: where to write; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      verify: compare the files with the checksums known for them, and the number of examples with
        the known one. False takes any files of the right format.
      progress: called with (examples written, examples in all).

    Raises:
      RawFilesError: a raw file is absent (each is named), damaged or of another data set.
      DataSetMissing: tensorflow-datasets is not installed.
      ValueError: the name is unknown, or the data set's folder holds another number of examples.
    """
    if name not in RAW_READERS:
        raise ValueError(f"name: {name!r} cannot be prepared; allowed: {', '.join(RAW_READERS)}")
    source = Path(source_dir).expanduser()
    try:
        raw = RAW_READERS[name](name, source, verify=verify)
    except RawFilesError as error:
        raise RawFilesError(f"{error}. {name} is prepared from {FACTS[name].raw_files}") from error
    if verify:
        _check_counts(name, raw, source)
    folder = default_data_dir() if data_dir is None else Path(data_dir).expanduser()
    return write_tfds(name, raw, folder, progress=progress)


def _check_counts(name: str, raw: RawDataSet, source: Path) -> None:
    known = {"train": FACTS[name].train_examples, "test": FACTS[name].test_examples}
    for split, examples in raw.splits.items():
        if len(examples.labels) != known[split]:
            raise RawFilesError(
                f"{source}: {len(examples.labels)} examples in the split {split!r} of {name}, which"
                f" has {known[split]}"
            )
