"""CIFAR-10 and CIFAR-100 from their python or binary archives (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedjax_kd.data.errors import RawFilesError
from fedjax_kd.data.raw_files import (
    RawDataSet,
    RawSplit,
    check_digest,
    find_raw_files,
    read_raw_files,
)
from fedjax_kd.data.raw_pickle import load_pickle

_PIXELS = 3 * 32 * 32


class _Layout(NamedTuple):
    train: tuple[str, ...]  # file names in order
    test: tuple[str, ...]
    labels: tuple[str, ...]  # label features, in the order of a binary record's leading bytes
    python_keys: dict[str, bytes]  # label feature -> key in the python batches
    python_names: dict[str, bytes]  # label feature -> key in the python meta file
    python_meta: str
    binary_names: dict[str, str]  # label feature -> text file of class names


_LAYOUTS = {
    "cifar10": _Layout(
        train=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test=("test_batch",),
        labels=("label",),
        python_keys={"label": b"labels"},
        python_names={"label": b"label_names"},
        python_meta="batches.meta",
        binary_names={"label": "batches.meta.txt"},
    ),
    "cifar100": _Layout(
        train=("train",),
        test=("test",),
        labels=("coarse_label", "label"),
        python_keys={"coarse_label": b"coarse_labels", "label": b"fine_labels"},
        python_names={"coarse_label": b"coarse_label_names", "label": b"fine_label_names"},
        python_meta="meta",
        binary_names={
            "coarse_label": "coarse_label_names.txt",
            "label": "fine_label_names.txt",
        },
    ),
}

# md5 of the python archives' members.
_MD5 = {
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    "cifar100": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
}


def read_cifar(name: str, source: Path, *, verify: bool = True) -> RawDataSet:
    """`cifar10` or `cifar100` from whichever of the two archives lies in `source`.

    Args:
      name: the data set.
      source: folder with the archive or its extracted folder, or the archive.
      verify: compare the python batches with their known md5 checksums. The binary batches have
        none known to us; their length and label range are checked.

    Raises:
      RawFilesError: neither form is complete, or a file is damaged.
    """
    layout = _LAYOUTS[name]
    batches = layout.train + layout.test
    binary = [f"{batch}.bin" for batch in batches]
    if len(find_raw_files(source, binary)) == len(binary):
        return _read_binary(layout, source)
    python = find_raw_files(source, [*batches, layout.python_meta])
    if not python:
        raise RawFilesError(
            f"{source}: neither the python archive of {name} ({', '.join(batches)}) nor the binary"
            f" one ({', '.join(binary)}) is there, extracted or not"
        )
    contents = read_raw_files(source, [*batches, layout.python_meta])
    if verify:
        for file, expected in _MD5[name].items():
            check_digest(contents[file], expected, what=f"{source}: {file}")
    return _read_python(layout, contents, source)


def _read_python(layout: _Layout, contents: dict[str, bytes], source: Path) -> RawDataSet:
    meta = _dictionary(contents[layout.python_meta], f"{source}: {layout.python_meta}")

    def split(prefix: str, files: tuple[str, ...]) -> RawSplit:
        parts = []
        for file in files:
            what = f"{source}: {file}"
            batch = _dictionary(contents[file], what)
            try:
                pixels = np.asarray(batch[b"data"])
                labels = [np.asarray(batch[layout.python_keys[key]]) for key in layout.labels]
            except KeyError as error:
                raise RawFilesError(f"{what}: no {error} in it; not a CIFAR batch") from error
            parts.append((pixels, np.stack(labels, axis=1)))
        return _assemble(layout, prefix, parts, str(source))

    return RawDataSet(
        splits={"train": split("train_", layout.train), "test": split("test_", layout.test)},
        label_names={
            feature: [name.decode() for name in meta[key]]
            for feature, key in layout.python_names.items()
            if key in meta
        },
    )


def _read_binary(layout: _Layout, source: Path) -> RawDataSet:
    width = len(layout.labels) + _PIXELS
    names = find_raw_files(source, list(layout.binary_names.values()))

    def split(prefix: str, files: tuple[str, ...]) -> RawSplit:
        parts = []
        for file, content in read_raw_files(source, [f"{file}.bin" for file in files]).items():
            if not content or len(content) % width:
                raise RawFilesError(
                    f"{source}: {file} has {len(content)} bytes, not a multiple of {width}"
                )
            records = np.frombuffer(content, np.uint8).reshape(-1, width)
            parts.append((records[:, len(layout.labels) :], records[:, : len(layout.labels)]))
        return _assemble(layout, prefix, parts, str(source))

    return RawDataSet(
        splits={"train": split("train_", layout.train), "test": split("test_", layout.test)},
        label_names={
            feature: names[file].decode().split()
            for feature, file in layout.binary_names.items()
            if file in names
        },
    )


def _assemble(
    layout: _Layout, prefix: str, parts: list[tuple[np.ndarray, np.ndarray]], source: str
) -> RawSplit:
    pixels = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts]).astype(np.int64)
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _PIXELS):
        raise RawFilesError(f"{source}: pictures of shape {pixels.shape} and type {pixels.dtype}")
    # The channels come first in the files, and last in a picture here.
    pictures = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    columns = dict(zip(layout.labels, labels.T, strict=True))
    label = columns.pop("label")
    identifiers = [f"{prefix}{index:05d}" for index in range(len(labels))]
    return RawSplit(pictures, label, {"id": identifiers, **columns})


def _dictionary(content: bytes, what: str) -> dict:
    loaded = load_pickle(content, what)
    if not isinstance(loaded, dict):
        raise RawFilesError(f"{what}: a pickled {type(loaded).__name__}, not a CIFAR batch")
    return loaded
