"""SVHN, cropped digits, from its MATLAB files (Netzer et al. 2011)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fedjax_kd.data.errors import RawFilesError
from fedjax_kd.data.raw_files import RawDataSet, RawSplit, read_raw_files


def read_svhn(name: str, source: Path, *, verify: bool = True) -> RawDataSet:
    """The training and test part from `train_32x32.mat` and `test_32x32.mat`.

    The stock data set has a third part, `extra`, which is not written: nothing here reads it.

    Args:
      name: `svhn_cropped`.
      source: folder that holds the files.
      verify: no checksum of these files is known to us; only their shapes are checked.

    Raises:
      RawFilesError: a file is absent or is not such a MATLAB file.
    """
    del name, verify
    from scipy.io import loadmat  # scikit-learn depends on SciPy

    contents = read_raw_files(source, ["train_32x32.mat", "test_32x32.mat"])

    def split(prefix: str) -> RawSplit:
        what = f"{source}: {prefix}_32x32.mat"
        try:
            matrices = loadmat(io.BytesIO(contents[f"{prefix}_32x32.mat"]))
            pictures, labels = matrices["X"], matrices["y"].reshape(-1)
        except Exception as error:
            raise RawFilesError(f"{what}: not an SVHN MATLAB file ({error})") from error
        if pictures.dtype != np.uint8 or pictures.shape != (32, 32, 3, len(labels)):
            raise RawFilesError(f"{what}: pictures of shape {pictures.shape}, {len(labels)} labels")
        identifiers = [f"{prefix}_{index:06d}" for index in range(len(labels))]
        # The digit 0 is labelled 10 in the files.
        return RawSplit(
            np.moveaxis(pictures, -1, 0), labels.astype(np.int64) % 10, {"id": identifiers}
        )

    return RawDataSet(splits={"train": split("train"), "test": split("test")}, label_names={})
