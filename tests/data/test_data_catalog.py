"""Every source by name: loaded, cached, or a message that says how to get it."""

import builtins
import json
import logging

import numpy as np
import pytest

from fedjax_kd.data import SOURCES, DataSetMissing, data_sources_overview, load_source
from fedjax_kd.data.facts import FACTS


def write_mnist(tmp_path, n_train=12, n_test=4):
    """A small mnist in tmp_path/data, read through tmp_path/cache."""
    from fedjax_kd.data.raw_files import RawDataSet, RawSplit
    from fedjax_kd.data.tfds_write import write_tfds

    pytest.importorskip("tensorflow_datasets")
    rng = np.random.default_rng(n_train)
    splits = {
        split: RawSplit(rng.integers(0, 256, (n, 28, 28, 1), dtype=np.uint8), np.arange(n) % 10, {})
        for split, n in (("train", n_train), ("test", n_test))
    }
    return write_tfds("mnist", RawDataSet(splits, {}), tmp_path / "data")


def load_mnist(tmp_path):
    return load_source("mnist", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


def test_every_source_has_its_facts():
    assert list(SOURCES) == list(FACTS)


def test_digits_are_embedded():
    source = load_source("digits")
    assert source.train_inputs.shape == (1797, 8, 8, 1)
    assert source.train_inputs.dtype == np.uint8
    assert source.train_inputs.max() == 16
    np.testing.assert_array_equal(
        np.bincount(source.train_labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )
    assert source.raw_bits_per_example == 8 * 8 * 8
    assert source.labels.dtype == np.int32
    assert len(source.test_inputs) == source.n_natural_users == 0


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"data\.source: 'imagenet' is unknown; allowed: digits, mn"
    ):
        load_source("imagenet")


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "digits"])
def test_a_missing_data_set_says_how_to_get_it(name, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(DataSetMissing) as caught:
        load_source(name, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    message = str(caught.value)
    assert f"'{name}' is not in {tmp_path / 'data'}" in message
    assert f"fedjax-kd prepare-data {name} --from" in message
    assert FACTS[name].raw_files in message
    assert ("TensorFlow" in message) == (name != "watch")
    assert not (tmp_path / "cache").exists()


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "tensorflow_datasets":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        DataSetMissing, match=r"tensorflow_datasets.*pip install 'fedjax-kd\[tfds\]'"
    ):
        load_mnist(tmp_path)


def test_the_second_load_reads_the_cache_only(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    first = load_mnist(tmp_path)
    monkeypatch.setattr("fedjax_kd.data.catalog.read_tfds", None)
    second = load_mnist(tmp_path)
    np.testing.assert_array_equal(first.train_inputs, second.train_inputs)
    np.testing.assert_array_equal(first.test_labels, second.test_labels)


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_cache_file_is_made_anew_with_one_warning(tmp_path, caplog, damage):
    write_mnist(tmp_path)
    first = load_mnist(tmp_path)
    (path,) = (tmp_path / "cache").iterdir()
    whole = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        whole[len(whole) // 3] ^= 1
        path.write_bytes(whole)
    with caplog.at_level(logging.WARNING, "fedjax_kd"):
        again = load_mnist(tmp_path)
    messages = [r.getMessage() for r in caplog.records if r.name.startswith("fedjax_kd")]
    assert len(messages) == 1
    assert str(path) in messages[0]
    assert "made anew" in messages[0]
    np.testing.assert_array_equal(first.train_inputs, again.train_inputs)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "fedjax_kd"):
        load_mnist(tmp_path)
    assert not [r for r in caplog.records if r.name.startswith("fedjax_kd")]


def test_a_cache_folder_that_cannot_be_written_is_no_obstacle(tmp_path, caplog):
    write_mnist(tmp_path)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "fedjax_kd"):
        assert len(load_mnist(tmp_path).train_labels) == 12
    assert "cannot be kept" in caplog.text


def test_a_data_set_written_anew_is_read_anew(tmp_path):
    import shutil

    folder = write_mnist(tmp_path, n_train=12)
    assert len(load_mnist(tmp_path).train_labels) == 12
    shutil.rmtree(folder)
    write_mnist(tmp_path, n_train=15)
    assert len(load_mnist(tmp_path).train_labels) == 15


@pytest.mark.parametrize("stated", [5, 14])
def test_metadata_that_does_not_match_the_files_is_noticed(tmp_path, stated):
    folder = write_mnist(tmp_path)
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    (train,) = [split for split in info["splits"] if split["name"] == "train"]
    train["shardLengths"] = [str(stated)]
    path.write_text(json.dumps(info))
    with pytest.raises(ValueError, match=f"holds 12 examples, but its metadata says {stated}"):
        load_mnist(tmp_path)


def test_a_data_set_that_only_tensorflow_reads_is_reported(tmp_path):
    folder = write_mnist(tmp_path)
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    info["fileFormat"] = "tfrecord"
    path.write_text(json.dumps(info))
    with pytest.raises(DataSetMissing, match=r"lies in .*3\.0\.1 in a format that only TensorFlow"):
        load_mnist(tmp_path)


def test_a_stock_data_set_of_tensorflow_datasets_is_read(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.testing import mocking

    # Release 4.9.10 hands its stand-in for __getitems__ no `self`; real data sources have one.
    given = mocking._getitems
    monkeypatch.setattr(mocking, "_getitems", lambda keys, **kwargs: given(None, keys, **kwargs))
    with tfds.testing.mock_data(num_examples=12):
        source = load_source("cifar10", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert source.train_inputs.shape == source.test_inputs.shape == (12, 32, 32, 3)
    assert source.train_inputs.dtype == np.uint8
    assert source.train_labels.dtype == np.int32
    assert 0 <= source.train_labels.min() <= source.train_labels.max() < 10
    assert source.n_classes == len(source.class_names) == 10
    assert source.raw_bits_per_example == 24_576
    # What was made up must not be taken for the data set later.
    assert not (tmp_path / "cache").exists()


def test_the_overview_tells_what_is_here(tmp_path):
    write_mnist(tmp_path)
    overview = {line.name: line for line in data_sources_overview(tmp_path / "data")}
    assert list(overview) == list(SOURCES)
    assert overview["digits"].available
    assert overview["mnist"].available
    assert overview["mnist"].how_to_get == ""
    assert not overview["fashion_mnist"].available
    assert "prepare-data fashion_mnist" in overview["fashion_mnist"].how_to_get
    assert (overview["cifar100"].train_examples, overview["cifar100"].n_classes) == (50_000, 100)
