"""Read a whole data set in the tensorflow-datasets format, without TensorFlow.

Only the array_record format gives random access without TensorFlow. What is read does not depend on
who wrote it: tensorflow-datasets with TensorFlow, or `prepare.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_kd.data.errors import DataSetMissing
from fedjax_kd.data.facts import FACTS
from fedjax_kd.data.source import Source
from fedjax_kd.data.tfds_import import import_tfds, quiet_tfds

_BLOCK = 1000
_log = logging.getLogger(__name__)


def how_to_get(name: str, data_dir: Path) -> str:
    """How a user comes by a data set, as one sentence for a message."""
    prepare = (
        f"with the raw files on this machine ({FACTS[name].raw_files}), run"
        f" `fedjax-kd prepare-data {name} --from FOLDER`"
    )
    if name == "watch":
        return prepare
    return (
        f"{prepare}; or, with internet and TensorFlow, run once in Python"
        f" `tensorflow_datasets.data_source('{name}', data_dir='{data_dir}',"
        " builder_kwargs={'file_format': 'array_record'})`"
    )


def data_set_info_file(name: str, data_dir: Path) -> Path | None:
    """The metadata file of the newest version that lies in `data_dir`, or None."""
    versions = [
        path
        for path in (data_dir / name).glob("*/dataset_info.json")
        if path.parent.name.replace(".", "").isdecimal()
    ]
    ordered = sorted(versions, key=lambda path: [int(n) for n in path.parent.name.split(".")])
    return ordered[-1] if ordered else None


def read_tfds(name: str, data_dir: Path) -> Source:
    """All training and test examples of a data set, in the order of its records.

    EMNIST's pictures are turned upright: its files hold them transposed. The windows of `watch` are
    put into the order of their recordings.

    Raises:
      DataSetMissing: the data set, or tensorflow-datasets, is not here, or it is in a format that
        needs TensorFlow; the text says how to get it.
      ValueError: a split does not hold as many examples as its metadata says.
    """
    tfds = import_tfds()
    with quiet_tfds():
        return _read(tfds, name, data_dir)


def _read(tfds: Any, name: str, data_dir: Path) -> Source:
    train, info = _open(tfds, name, "train", data_dir)
    _log.info("%s: reading %d training examples from %s", name, len(train), data_dir)
    columns = _columns(name, train)
    if name == "watch":
        order = np.lexsort((columns["position"], columns["series"]))
        columns = {feature: values[order] for feature, values in columns.items()}
    key = "window" if name == "watch" else "image"
    inputs = columns[key]
    test_inputs, test_labels = inputs[:0], np.zeros(0, np.int32)
    if FACTS[name].test_examples:
        test = _columns(name, _open(tfds, name, "test", data_dir)[0])
        test_inputs, test_labels = test[key], test["label"].astype(np.int32)
    if name.startswith("emnist"):
        inputs, test_inputs = inputs.swapaxes(1, 2), test_inputs.swapaxes(1, 2)
    names = info.features["label"].names
    return Source(
        name=name,
        train_inputs=np.ascontiguousarray(inputs),
        train_labels=columns["label"].astype(np.int32),
        test_inputs=np.ascontiguousarray(test_inputs),
        test_labels=test_labels,
        n_classes=len(names),
        class_names=tuple(names),
        train_users=columns["client_id"].astype(np.int32) if name == "watch" else None,
        train_groups=columns["series"].astype(np.int32) if name == "watch" else None,
        group_overlap=1 if name == "watch" else 0,
    )


def _open(tfds: Any, name: str, split: str, data_dir: Path) -> tuple[Sequence, Any]:
    try:
        records = tfds.data_source(name, split=split, data_dir=str(data_dir), download=False)
    except NotImplementedError as error:
        found = data_set_info_file(name, data_dir)
        where = f"is not in {data_dir}"
        if found is not None:
            where = f"lies in {found.parent} in a format that only TensorFlow reads"
        raise DataSetMissing(
            f"data.source: {name!r} {where}. To get it: {how_to_get(name, data_dir)}"
        ) from error
    except (tfds.core.registered.DatasetNotFoundError, FileNotFoundError, AssertionError) as error:
        raise DataSetMissing(
            f"data.source: {name!r} is not in {data_dir}. To get it: {how_to_get(name, data_dir)}"
        ) from error
    info = records.dataset_info
    # Nothing is stated where tensorflow-datasets makes examples up for a test.
    if info.splits:
        stated, held = info.splits[split].num_examples, records_held(info, split)
        if not len(records) == stated == held:
            raise ValueError(
                f"{info.data_dir}: the split {split!r} of {name} holds {held} examples, but its"
                f" metadata says {stated}. Delete this folder and prepare the data set again"
            )
    return records, info


def records_held(info: Any, split: str) -> int:
    """How many records the files of a split hold; `len` of a data source repeats the metadata."""
    from array_record.python.array_record_module import ArrayRecordReader

    held = 0
    for path in info.splits[split].filepaths:
        reader = ArrayRecordReader(str(path))
        held += reader.num_records()
        reader.close()
    return held


def _columns(name: str, records: Sequence) -> dict[str, np.ndarray]:
    wanted = ("window", "label", "client_id", "series", "position")
    features = wanted if name == "watch" else ("image", "label")
    gathered: dict[str, list] = {feature: [] for feature in features}
    # Whole blocks are read in parallel; single records take longer.
    for start in range(0, len(records), _BLOCK):
        block = range(start, min(start + _BLOCK, len(records)))
        for record in records.__getitems__(list(block)):  # type: ignore[attr-defined]
            for feature in features:
                gathered[feature].append(record[feature])
    return {feature: np.asarray(values) for feature, values in gathered.items()}
