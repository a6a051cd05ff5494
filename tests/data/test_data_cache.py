"""A cache file gives back the same source, or says that it is damaged."""

import dataclasses

import numpy as np
import pytest

from fedjax_kd.data import Source
from fedjax_kd.data.cache import CacheDamaged, restore_source, save_source


def tiny(with_users=True):
    rng = np.random.default_rng(0)
    return Source(
        name="emnist/byclass",
        train_inputs=rng.integers(0, 256, (50, 4, 4, 1), dtype=np.uint8),
        train_labels=rng.integers(0, 3, 50).astype(np.int32),
        test_inputs=np.zeros((0, 4, 4, 1), np.uint8),
        test_labels=np.zeros(0, np.int32),
        n_classes=3,
        class_names=("a", "béta", "c"),
        train_users=np.arange(50, dtype=np.int32) % 4 if with_users else None,
        train_groups=np.arange(50, dtype=np.int32) // 5 if with_users else None,
        group_overlap=1 if with_users else 0,
    )


@pytest.mark.parametrize("with_users", [True, False])
def test_round_trip(tmp_path, with_users):
    source = tiny(with_users)
    save_source(tmp_path / "deep" / "x.npz", source)
    got = restore_source(tmp_path / "deep" / "x.npz")
    for field in dataclasses.fields(source):
        one, two = getattr(source, field.name), getattr(got, field.name)
        assert type(one) is type(two)
        if isinstance(one, np.ndarray):
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two)
        else:
            assert one == two
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.npz"]


def test_truncation_is_noticed_everywhere(tmp_path):
    path = tmp_path / "x.npz"
    save_source(path, tiny())
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CacheDamaged):
            restore_source(path)


def test_no_altered_byte_gives_other_data(tmp_path):
    path = tmp_path / "x.npz"
    source = tiny()
    save_source(path, source)
    whole = path.read_bytes()
    noticed = 0
    for position in range(0, len(whole), 37):
        altered = bytearray(whole)
        altered[position] ^= 0x55
        path.write_bytes(bytes(altered))
        try:
            got = restore_source(path)
        except CacheDamaged:
            noticed += 1
        else:  # a byte that no reader looks at, such as a file's date in the archive
            np.testing.assert_array_equal(got.train_inputs, source.train_inputs)
            np.testing.assert_array_equal(got.train_labels, source.train_labels)
            assert got.class_names == source.class_names
    assert noticed > 30


def test_consistent_but_other_arrays_are_noticed(tmp_path):
    path = tmp_path / "x.npz"
    save_source(path, tiny())
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["train_labels"] = arrays["train_labels"] + 1
    np.savez(path, **arrays)
    with pytest.raises(CacheDamaged, match="checksum"):
        restore_source(path)


def test_an_absent_file_is_not_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        restore_source(tmp_path / "x.npz")
