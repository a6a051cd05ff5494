"""Numbers on who holds what."""

from dataclasses import replace

import numpy as np

from fedjax_kd.data import Source, UserSplit, class_counts, partition_rows, summary


def tiny():
    labels = np.asarray([0, 1, 2, 0, 1, 2, 0, 1], np.int32)
    inputs = np.zeros((8, 2, 2, 1), np.uint8)
    source = Source("t", inputs, labels, inputs[:2], np.asarray([2, 2], np.int32), 3, tuple("abc"))
    split = UserSplit(
        train=(np.asarray([0, 3, 1]), np.asarray([2])),
        validation=(np.asarray([4]), np.asarray([5])),
        test=(np.asarray([6]), np.asarray([7])),
        common_validation=np.asarray([8]),
        common_test=np.asarray([9]),
    )
    return source, split


def test_class_counts_by_hand():
    source, split = tiny()
    np.testing.assert_array_equal(
        class_counts(source.labels, split.train, 3), [[2, 1, 0], [0, 0, 1]]
    )
    np.testing.assert_array_equal(class_counts(source.labels, [split.common_test], 3), [[0, 0, 1]])
    assert class_counts(source.labels, [], 3).shape == (0, 3)


def test_partition_rows_have_the_columns_of_the_file():
    source, split = tiny()
    rows = partition_rows(source, split)
    assert list(rows.columns) == ["user", "split", "class_id", "class_name", "count"]
    assert len(rows) == 3 * 2 * 3
    one = rows[(rows["user"] == 0) & (rows["split"] == "train")]
    assert one["class_name"].tolist() == ["a", "b", "c"]
    assert one["count"].tolist() == [2, 1, 0]
    assert sum(rows["count"].tolist()) == 8
    assert {str(rows[name].dtype) for name in ("user", "class_id", "count")} == {"int64"}


def test_unlabelled_data_are_a_part_of_their_own():
    source, split = tiny()
    nobody = np.zeros(0, np.int64)
    rows = partition_rows(source, replace(split, unlabelled=(np.asarray([2, 5]), nobody)))
    assert len(rows) == 4 * 2 * 3
    held = rows[rows["split"] == "unlabelled"]
    assert held["count"].tolist() == [0, 0, 2, 0, 0, 0]


def test_summary_counts_examples_and_classes():
    source, split = tiny()
    table = summary(source, split)
    assert table.loc["train", "examples"] == 4
    assert table.loc["train", ["examples_min", "examples_median", "examples_max"]].tolist() == [
        1,
        2,
        3,
    ]
    assert table.loc["train", ["classes_min", "classes_max"]].tolist() == [1, 2]
    assert table.loc["common_test", "holders"] == 1
