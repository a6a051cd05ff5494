"""On-device KD where every person of the data is a user, and the strong lose labels of their own.

The recordings are made up in the shape of the smartwatch data, a few seconds of each class.
"""

from typing import Any

import numpy as np
import pandas as pd
from rounds_tiny import curves, run_tiny_rounds

from fedjax_kd.data import Source
from fedjax_kd.data.catalog import SOURCES
from fedjax_kd.data.raw_watch import cut_windows

PEOPLE, CLASSES = 4, 3


def recordings() -> Source:
    """Four people with four recordings of each of three classes, cut into windows."""
    rng = np.random.default_rng(0)
    held = [(who, what) for who in range(PEOPLE) for what in range(CLASSES) for _ in range(4)]
    people, labels = np.asarray(held).T
    series = [rng.normal(what, 1.0, (int(rng.integers(400, 700)), 6)) for what in labels]
    windows = cut_windows(series, labels, people)
    return Source(
        name="watch",
        train_inputs=windows.inputs,
        train_labels=windows.labels.astype(np.int32),
        test_inputs=windows.inputs[:0],
        test_labels=np.zeros(0, np.int32),
        n_classes=CLASSES,
        class_names=("a", "b", "c"),
        train_users=np.asarray(windows.other["client_id"], np.int32),
        train_groups=np.asarray(windows.other["series"], np.int32),
        group_overlap=1,
    )


def test_users_are_people_and_the_strong_distil_on_their_own_examples(monkeypatch, tmp_path):
    source = recordings()
    monkeypatch.setitem(SOURCES, "watch", lambda *_: source)
    changes = (
        "data={source: watch, users: 4, partition: {kind: natural}, common_test: 0}",
        "data.unlabelled={kind: share, share: 0.5}",
        "data.max_train=0",
        "data.common_validation=10",
        "contestants=[on_device_kd]",
    )
    folder = run_tiny_rounds("on_device_kd", tmp_path / "results", changes)
    rows: Any = pd.read_parquet(folder / "partition.parquet")
    held = rows.groupby(["seed", "split", "user"])["count"].sum()
    for seed in (0, 1):
        labelled, unlabelled = held.loc[(seed, "train")], held.loc[(seed, "unlabelled")]
        assert (labelled > 0).all()
        assert (unlabelled.loc[[2, 3]] == 0).all()
        share = unlabelled.loc[[0, 1]] / (labelled + unlabelled).loc[[0, 1]]
        assert share.between(0.3, 0.7).all()  # recordings are not torn apart at random
    own = np.bincount(source.train_users if source.train_users is not None else [])
    assert (held.groupby(["seed", "user"]).sum().to_numpy().reshape(2, -1) <= own).all()
    rows = curves(folder)
    assert set(rows["view"]) == {"target", "auxiliary"}
    assert np.isfinite(rows["value"]).all()
    special: Any = pd.read_parquet(folder / "special.parquet")
    assert (special["value"] > 0).all()
