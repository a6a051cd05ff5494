"""All sources by name, and how one is loaded."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import platformdirs

from fedjax_kd.data.cache import CacheDamaged, restore_source, save_source
from fedjax_kd.data.digits import read_digits
from fedjax_kd.data.facts import FACTS
from fedjax_kd.data.source import Source
from fedjax_kd.data.tfds_import import default_data_dir
from fedjax_kd.data.tfds_read import data_set_info_file, how_to_get, read_tfds

_log = logging.getLogger(__name__)


def _embedded(name: str, data_dir: Path, cache_dir: Path) -> Source:
    del name, data_dir, cache_dir
    return read_digits()


def _prepared(name: str, data_dir: Path, cache_dir: Path) -> Source:
    path = _cache_file(name, data_dir, cache_dir)
    if path is not None:
        try:
            return restore_source(path)
        except OSError:  # most likely there is none yet
            pass
        except CacheDamaged as damage:
            _log.warning("the cache file %s is damaged: %s; it is made anew", path, damage)
    source = read_tfds(name, data_dir)
    if path is not None:
        try:
            save_source(path, source)
        except OSError as error:
            _log.warning("the decoded copy of %s cannot be kept: %s", name, error)
    return source


def _cache_file(name: str, data_dir: Path, cache_dir: Path) -> Path | None:
    """A data set that is written anew gets another cache file."""
    info = data_set_info_file(name, data_dir)
    if info is None:
        return None
    written = f"{info.resolve()} {info.stat().st_mtime_ns}".encode()
    identity = hashlib.sha256(written + info.read_bytes()).hexdigest()[:16]
    return cache_dir / f"{name.replace('/', '-')}-{identity}.npz"


SOURCES: dict[str, Callable[[str, Path, Path], Source]] = {
    "digits": _embedded,
    "mnist": _prepared,
    "fashion_mnist": _prepared,
    "emnist/byclass": _prepared,
    "cifar10": _prepared,
    "cifar100": _prepared,
    "svhn_cropped": _prepared,
    "watch": _prepared,
}


def load_source(
    name: str, *, data_dir: str | Path | None = None, cache_dir: str | Path | None = None
) -> Source:
    """Load a data set into host memory; nothing is ever downloaded.

    Args:
      name: a key of `SOURCES`.
      data_dir: where tensorflow-datasets keeps its data; by default $TFDS_DATA_DIR, else
        ~/tensorflow_datasets.
      cache_dir: where decoded copies are kept; by default `data` in the user's cache folder.

    Raises:
      DataSetMissing: it is not on this machine; the text says how to get it.
      ValueError: the name is unknown, or the data set is not whole.
    """
    if name not in SOURCES:
        raise ValueError(f"data.source: {name!r} is unknown; allowed: {', '.join(SOURCES)}")
    return SOURCES[name](name, _data_dir(data_dir), _cache_dir(cache_dir))


class SourceOverview(NamedTuple):
    """One line of the list of data sets."""

    name: str
    train_examples: int
    test_examples: int
    n_classes: int
    shape: tuple[int, ...]
    available: bool
    how_to_get: str  # empty if nothing has to be done


def data_sources_overview(data_dir: str | Path | None = None) -> list[SourceOverview]:
    """Every source, whether it is on this machine, and how to get it if not."""
    folder = _data_dir(data_dir)
    overview = []
    for name in SOURCES:
        facts = FACTS[name]
        here = name == "digits" or data_set_info_file(name, folder) is not None
        overview.append(
            SourceOverview(
                name,
                facts.train_examples,
                facts.test_examples,
                facts.n_classes,
                facts.shape,
                here,
                "" if here else how_to_get(name, folder),
            )
        )
    return overview


def _data_dir(given: str | Path | None) -> Path:
    return default_data_dir() if given is None else Path(given).expanduser()


def _cache_dir(given: str | Path | None) -> Path:
    return Path(given or platformdirs.user_cache_path("fedjax_kd") / "data").expanduser()
