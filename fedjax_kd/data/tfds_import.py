"""The one place where tensorflow-datasets is imported: it is an optional package."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from fedjax_kd.data.errors import DataSetMissing


def import_tfds() -> ModuleType:
    """The package, without TensorFlow.

    Raises:
      DataSetMissing: it, or one of the packages that it needs but does not name, is not installed.
    """
    try:
        import importlib_resources  # noqa: F401  (needed by stock data sets, not declared by them)
        import PIL  # noqa: F401  (decodes pictures where there is no TensorFlow)
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataSetMissing(
            f"Reading this data set needs the package {error.name}, which is not installed:"
            " pip install 'fedjax-kd[tfds]'"
        ) from error
    return tfds


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Hold back its hints (that OpenCV would be faster, that a folder is not there yet)."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def default_data_dir() -> Path:
    """Where tensorflow-datasets keeps its data: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
