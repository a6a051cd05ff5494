"""MNIST, Fashion-MNIST and EMNIST from IDX files (LeCun's format), compressed or not."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from fedjax_kd.data.errors import RawFilesError
from fedjax_kd.data.raw_files import RawDataSet, RawSplit, check_digest, read_raw_files

# md5 of the files after decompression.
_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}


def read_mnist_like(name: str, source: Path, *, verify: bool = True) -> RawDataSet:
    """The four IDX files of `mnist`, `fashion_mnist` or `emnist/byclass`.

    EMNIST's pictures are transposed in its files, and tensorflow-datasets keeps them so. They are
    handed on as they are, so that what is written equals what the stock builder writes; the
    reader turns them upright (`tfds_read.py`).

    Args:
      name: the data set.
      source: folder or archive that holds the files.
      verify: compare MNIST's and Fashion-MNIST's files with their known md5 checksums (none is
        known to us for EMNIST's).

    Raises:
      RawFilesError: files are absent, of another data set, or damaged.
    """
    if name == "emnist/byclass":
        prefixes = {"train": "emnist-byclass-train", "test": "emnist-byclass-test"}
    else:
        prefixes = {"train": "train", "test": "t10k"}
    names = [
        f"{prefix}-{part}"
        for prefix in prefixes.values()
        for part in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    contents = read_raw_files(source, names)
    if verify:
        for file, expected in _MD5.get(name, {}).items():
            hint = f"MNIST and Fashion-MNIST name their files alike: are these really {name}'s?"
            check_digest(contents[file], expected, what=f"{source}: {file}", hint=hint)
    return RawDataSet(
        splits={
            split: _split(
                contents[f"{prefix}-images-idx3-ubyte"],
                contents[f"{prefix}-labels-idx1-ubyte"],
                f"{source}: {prefix}",
            )
            for split, prefix in prefixes.items()
        },
        label_names={},
    )


def parse_idx(content: bytes, what: str) -> np.ndarray:
    """The uint8 array in the bytes of an IDX file.

    Raises:
      RawFilesError: the header is not that of unsigned bytes, or the length is not what it says.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise RawFilesError(f"{what}: not an IDX file of unsigned bytes")
    rank = content[3]
    start = 4 + 4 * rank
    shape = struct.unpack(f">{rank}I", content[4:start]) if len(content) >= start else (0,)
    if len(content) - start != int(np.prod(shape, dtype=np.int64)):
        raise RawFilesError(
            f"{what}: {len(content) - start} bytes of data where the header says {shape}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _split(images: bytes, labels: bytes, what: str) -> RawSplit:
    inputs = parse_idx(images, f"{what}-images-idx3-ubyte")
    targets = parse_idx(labels, f"{what}-labels-idx1-ubyte")
    if inputs.ndim != 3 or targets.shape != inputs.shape[:1]:
        raise RawFilesError(f"{what}: images of shape {inputs.shape}, labels {targets.shape}")
    return RawSplit(inputs[..., None], targets.astype(np.int64), {})
