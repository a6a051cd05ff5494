"""Who holds what, in numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fedjax_kd.data.source import Source
from fedjax_kd.data.split import UserSplit


def class_counts(labels: np.ndarray, rows: Sequence[np.ndarray], n_classes: int) -> np.ndarray:
    """How many examples of each class each row of indices has, int64 [K, C]."""
    counts = [np.bincount(np.asarray(labels)[row], minlength=n_classes) for row in rows]
    return np.stack(counts) if counts else np.zeros((0, n_classes), np.int64)


def partition_rows(source: Source, split: UserSplit) -> pd.DataFrame:
    """Rows of partition.parquet but for the seed: user, split, class and count, zeros included."""
    user, class_id = np.indices((len(split.train), source.n_classes)).reshape(2, -1)
    parts = [
        pd.DataFrame(
            {
                "user": user.astype(np.int64),
                "split": name,
                "class_id": class_id.astype(np.int64),
                "class_name": np.asarray(source.class_names, dtype=object)[class_id],
                "count": class_counts(source.labels, rows, source.n_classes).reshape(-1),
            }
        )
        for name, rows in _user_parts(split).items()
    ]
    return pd.concat(parts, ignore_index=True)


def summary(source: Source, split: UserSplit) -> pd.DataFrame:
    """One row a part: examples in all, and least, median and most examples and classes a user.

    The common parts count as one holder.
    """
    parts = _user_parts(split) | {
        "common_validation": (split.common_validation,),
        "common_test": (split.common_test,),
    }
    table = {}
    for name, rows in parts.items():
        counts = class_counts(source.labels, rows, source.n_classes)
        examples, classes = counts.sum(axis=1), (counts > 0).sum(axis=1)
        table[name] = {
            "holders": len(rows),
            "examples": int(examples.sum()),
            "examples_min": int(examples.min()),
            "examples_median": float(np.median(examples)),
            "examples_max": int(examples.max()),
            "classes_min": int(classes.min()),
            "classes_median": float(np.median(classes)),
            "classes_max": int(classes.max()),
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("split")


def _user_parts(split: UserSplit) -> dict[str, tuple[np.ndarray, ...]]:
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return parts | ({"unlabelled": split.unlabelled} if split.unlabelled else {})
