"""Write arrays into the tensorflow-datasets format without TensorFlow.

A stock data set is written under its stock name, version and features, by a builder that inherits
from the stock one, so that `tfds.data_source` later reads it through the stock builder: the path
that a data set prepared by tensorflow-datasets itself takes. Pictures are handed over as PNG files,
because tensorflow-datasets encodes arrays with TensorFlow.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_kd.data.raw_files import RawDataSet, RawSplit
from fedjax_kd.data.raw_watch import CLASS_NAMES, WINDOW_SAMPLES
from fedjax_kd.data.tfds_import import import_tfds, quiet_tfds
from fedjax_kd.data.tfds_read import records_held

Progress = Callable[[int, int], None]


def write_tfds(
    name: str, raw: RawDataSet, data_dir: Path, *, progress: Progress | None = None
) -> Path:
    """Write a data set, unless it is there already, and return its folder.

    Args:
      name: a stock name such as `mnist` or `emnist/byclass`, or `watch`.
      raw: the examples.
      data_dir: where tensorflow-datasets looks for data sets.
      progress: called with (examples written, examples in all) now and then.

    Raises:
      DataSetMissing: tensorflow-datasets is not installed.
      ValueError: what is there, or what was written, does not have as many examples as `raw`.
    """
    tfds = import_tfds()
    total = sum(len(split.labels) for split in raw.splits.values())
    output, errors = sys.stdout, sys.stderr

    def report(done: int) -> None:
        if progress is not None:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                progress(done, total)

    # tensorflow-datasets prints what it does and draws bars of its own; `progress` replaces both.
    with (
        quiet_tfds(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        builder = _builder(tfds, name, raw, Path(data_dir), report)
        builder.download_and_prepare()
    folder = Path(str(builder.data_path))
    for split, examples in raw.splits.items():
        stated = builder.info.splits[split].num_examples if split in builder.info.splits else 0
        held = records_held(builder.info, split) if stated else 0
        if not stated == held == len(examples.labels):
            raise ValueError(
                f"{folder}: the split {split!r} holds {held} examples and its metadata says"
                f" {stated}, but the raw files have {len(examples.labels)}. Delete the folder to"
                " write the data set anew."
            )
    report(total)
    return folder


def _builder(
    tfds: Any, name: str, raw: RawDataSet, data_dir: Path, report: Callable[[int], None]
) -> Any:
    base, _, config = name.partition("/")
    written = 0

    def generate(split: RawSplit) -> Iterator[tuple[int, dict[str, Any]]]:
        nonlocal written
        is_picture = split.inputs.dtype == np.uint8
        for index in range(len(split.labels)):
            example = {feature: values[index] for feature, values in split.other.items()}
            example["label"] = int(split.labels[index])
            example["image" if is_picture else "window"] = (
                _png(split.inputs[index]) if is_picture else split.inputs[index]
            )
            yield index, example
            written += 1
            if written % 500 == 0:
                report(written)

    def split_generators(builder: Any, _: Any) -> dict[str, Iterator]:
        for feature, names in raw.label_names.items():
            builder.info.features[feature].names = names
        return {split: generate(examples) for split, examples in raw.splits.items()}

    members: dict[str, Any] = {
        "name": base,
        "__module__": __name__,
        "_split_generators": split_generators,
        "_generate_examples": lambda self, split: generate(split),
    }
    if base == "watch":
        parent = tfds.core.GeneratorBasedBuilder
        members |= {"VERSION": tfds.core.Version("1.2.5"), "_info": _watch_info(tfds)}
    else:
        parent = tfds.builder_cls(base)
        members["pkg_dir_path"] = parent.pkg_dir_path  # where the stock description lies
    # skip_registration: the stock builder must stay the one that answers to the name.
    prepared = type(parent)("Prepared", (parent,), members, skip_registration=True)
    return prepared(data_dir=str(data_dir), config=config or None, file_format="array_record")


def _watch_info(tfds: Any) -> Callable[[Any], Any]:
    def info(builder: Any) -> Any:
        return tfds.core.DatasetInfo(
            builder=builder,
            description="Windows of smartwatch recordings of shoulder exercises (seglearn 1.2.5).",
            features=tfds.features.FeaturesDict(
                {
                    "window": tfds.features.Tensor(shape=(WINDOW_SAMPLES, 6), dtype=np.float32),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                    "client_id": np.int64,
                    "series": np.int64,
                    "position": np.int64,
                }
            ),
        )

    return info


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    pixels = picture[..., 0] if picture.shape[-1] == 1 else picture
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="PNG", compress_level=6)
    return stream.getvalue()
