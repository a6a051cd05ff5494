"""Raw files become data sets that the stock reading path gives back unchanged."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Sequence

import numpy as np
import pytest

from fedjax_kd.data import RawFilesError, load_source, prepare
from fedjax_kd.data.raw_idx import parse_idx

tfds = pytest.importorskip("tensorflow_datasets")


def idx(array):
    header = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def pictures(n, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def labels(n, n_classes=10):
    return (np.arange(n) * 7 % n_classes).astype(np.uint8)


def write_idx(folder, n_train=23, n_test=9, *, prefix="", gzipped=False):
    """Write four small IDX files; returns the pictures of both parts."""
    folder.mkdir(exist_ok=True)
    names = {"train": f"{prefix}train", "test": f"{prefix}test" if prefix else "t10k"}
    parts = {}
    for seed, (part, n) in enumerate((("train", n_train), ("test", n_test))):
        parts[part] = pictures(n, (28, 28), seed)
        for suffix, array in (("images-idx3", parts[part]), ("labels-idx1", labels(n))):
            content = idx(array)
            path = folder / f"{names[part]}-{suffix}-ubyte{'.gz' if gzipped else ''}"
            path.write_bytes(gzip.compress(content) if gzipped else content)
    return parts


def read_stock(name, split, data_dir):
    """What the stock builder gives, by picture bytes, since its record order is its own."""
    records = tfds.data_source(name, split=split, data_dir=str(data_dir), download=False)
    assert len(records) == records.dataset_info.splits[split].num_examples
    return {record["image"].tobytes(): record for record in records}


def assert_holds(records, images, expected_labels, **more):
    assert len(records) == len(images)
    for row, image in enumerate(images):
        record = records[image.tobytes()]
        assert record["image"].shape == image.shape
        assert record["label"] == expected_labels[row]
        for feature, values in more.items():
            assert record[feature] == values[row]


@pytest.mark.parametrize("gzipped", [False, True])
def test_idx_round_trip(tmp_path, gzipped):
    parts = write_idx(tmp_path / "raw", gzipped=gzipped)
    calls = []
    folder = prepare(
        "fashion_mnist",
        tmp_path / "raw",
        tmp_path / "data",
        verify=False,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert folder == tmp_path / "data" / "fashion_mnist" / "3.0.1"
    assert calls[-1] == (32, 32)
    for split, images in parts.items():
        records = read_stock("fashion_mnist", split, tmp_path / "data")
        assert_holds(records, images[..., None], labels(len(images)))
    source = load_source("fashion_mnist", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert source.train_inputs.shape == (23, 28, 28, 1)
    assert source.class_names[9] == "Ankle boot"
    assert {image.tobytes() for image in source.test_inputs} == {
        image.tobytes() for image in parts["test"]
    }


def test_emnist_is_kept_as_it_is_on_disk_and_read_upright(tmp_path):
    parts = write_idx(tmp_path / "raw", prefix="emnist-byclass-")
    folder = prepare("emnist/byclass", tmp_path / "raw", tmp_path / "data", verify=False)
    assert folder.parent == tmp_path / "data" / "emnist" / "byclass"
    records = read_stock("emnist/byclass", "train", tmp_path / "data")
    assert_holds(records, parts["train"][..., None], labels(23))
    source = load_source("emnist/byclass", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert source.n_classes == 62
    upright = {image.T.tobytes() for image in parts["train"]}
    assert {image.tobytes() for image in source.train_inputs} == upright


def cifar_batches(n_classes):
    """Small batches by file stem: pixels [n, 3072], channels first, and fine and coarse labels."""
    stems = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    stems = stems if n_classes == 10 else ["train", "test"]
    return {
        stem: (pictures(4, (3072,), seed), labels(4, n_classes), labels(4, 20))
        for seed, stem in enumerate(stems)
    }


def as_pictures(pixels):
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def python_archive(path, batches, n_classes):
    names = {b"label_names": [b"c%d" % i for i in range(10)]}
    if n_classes == 100:
        names = {
            b"fine_label_names": [b"f%d" % i for i in range(100)],
            b"coarse_label_names": [b"g%d" % i for i in range(20)],
        }
    members = {"batches.meta" if n_classes == 10 else "meta": names}
    for stem, (pixels, fine, coarse) in batches.items():
        if n_classes == 10:
            members[stem] = {b"data": pixels, b"labels": fine.tolist()}
        else:
            members[stem] = {
                b"data": pixels,
                b"fine_labels": fine.tolist(),
                b"coarse_labels": coarse.tolist(),
            }
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            dumped = pickle.dumps(content, protocol=2)
            info = tarfile.TarInfo(f"cifar-{n_classes}-python/{name}")
            info.size = len(dumped)
            tar.addfile(info, io.BytesIO(dumped))


def binary_folder(folder, batches, n_classes):
    folder.mkdir()
    for stem, (pixels, fine, coarse) in batches.items():
        leading = fine[:, None] if n_classes == 10 else np.stack([coarse, fine], axis=1)
        (folder / f"{stem}.bin").write_bytes(np.concatenate([leading, pixels], axis=1).tobytes())
    if n_classes == 10:
        (folder / "batches.meta.txt").write_text("\n".join(f"c{i}" for i in range(10)) + "\n\n")
    else:
        (folder / "fine_label_names.txt").write_text("\n".join(f"f{i}" for i in range(100)))
        (folder / "coarse_label_names.txt").write_text("\n".join(f"g{i}" for i in range(20)))


@pytest.mark.parametrize("form", ["python", "binary"])
@pytest.mark.parametrize("n_classes", [10, 100])
def test_cifar_round_trip(tmp_path, form, n_classes):
    name, batches = f"cifar{n_classes}", cifar_batches(n_classes)
    (tmp_path / "raw").mkdir()
    if form == "python":
        python_archive(tmp_path / "raw" / f"cifar-{n_classes}-python.tar.gz", batches, n_classes)
    else:
        binary_folder(tmp_path / "raw" / f"cifar-{n_classes}-batches-bin", batches, n_classes)
    folder = prepare(name, tmp_path / "raw", tmp_path / "data", verify=False)
    assert folder.name == "3.0.2"
    for split in ("train", "test"):
        chosen = [batches[stem] for stem in batches if stem.startswith("test") == (split == "test")]
        pixels, fine, coarse = (np.concatenate(column) for column in zip(*chosen, strict=True))
        more: dict[str, Sequence | np.ndarray] = {
            "id": [f"{split}_{i:05d}".encode() for i in range(len(fine))]
        }
        if n_classes == 100:
            more["coarse_label"] = coarse
        assert_holds(read_stock(name, split, tmp_path / "data"), as_pictures(pixels), fine, **more)
    source = load_source(name, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert source.class_names[3] == ("c3" if n_classes == 10 else "f3")


def test_svhn_round_trip(tmp_path):
    from scipy.io import savemat

    images = {split: pictures(n, (32, 32, 3), n) for split, n in (("train", 11), ("test", 5))}
    for split, array in images.items():
        written = np.arange(1, len(array) + 1)[:, None] % 10
        written[written == 0] = 10
        savemat(
            tmp_path / f"{split}_32x32.mat",
            {"X": np.moveaxis(array, 0, -1), "y": written.astype(np.uint8)},
        )
    prepare("svhn_cropped", tmp_path, tmp_path / "data", verify=False)
    for split, array in images.items():
        expected = np.arange(1, len(array) + 1) % 10
        assert_holds(read_stock("svhn_cropped", split, tmp_path / "data"), array, expected)


def watch_file():
    rng = np.random.default_rng(0)
    recordings = {
        "X": [rng.normal(size=(n, 6)) for n in (260, 150, 130)],
        "y": np.asarray([2, 0, 6]),
        "subject": np.asarray([4, 1, 4]),
        "side": np.asarray([0.0, 1.0, 1.0]),
        "X_labels": ["ax", "ay", "az", "wx", "wy", "wz"],
    }
    stream = io.BytesIO()
    np.save(stream, np.asarray(recordings, dtype=object), allow_pickle=True)
    return recordings, stream.getvalue()


@pytest.mark.parametrize("in_wheel", [True, False])
def test_watch_round_trip(tmp_path, in_wheel):
    recordings, content = watch_file()
    if in_wheel:
        given = tmp_path / "seglearn-1.2.5-py3-none-any.whl"
        with zipfile.ZipFile(given, "w") as wheel:
            wheel.writestr("seglearn/data/watch_dataset.npy", content)
    else:
        given = tmp_path
        (tmp_path / "watch_dataset.npy").write_bytes(content)
    prepare("watch", given, tmp_path / "data", verify=False)
    source = load_source("watch", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    expected = np.stack(
        [
            recordings["X"][series][start : start + 100]
            for series, start in ((0, 0), (0, 50), (0, 100), (0, 150), (1, 0), (1, 50), (2, 0))
        ]
    )
    np.testing.assert_array_equal(source.train_inputs, expected.astype(np.float32))
    np.testing.assert_array_equal(source.train_labels, [2, 2, 2, 2, 0, 0, 6])
    np.testing.assert_array_equal(source.train_users, [1, 1, 1, 1, 0, 0, 1])
    np.testing.assert_array_equal(source.train_groups, [0, 0, 0, 0, 1, 1, 2])
    assert source.n_natural_users == 2
    assert source.raw_bits_per_example == 100 * 6 * 32
    assert source.class_names == ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
    assert len(source.test_labels) == 0


def test_a_second_run_writes_nothing_but_compares_counts(tmp_path):
    write_idx(tmp_path / "raw")
    folder = prepare("mnist", tmp_path / "raw", tmp_path / "data", verify=False)
    written = (folder / "dataset_info.json").stat().st_mtime_ns
    assert prepare("mnist", tmp_path / "raw", tmp_path / "data", verify=False) == folder
    assert (folder / "dataset_info.json").stat().st_mtime_ns == written
    write_idx(tmp_path / "more", n_train=24)
    with pytest.raises(
        ValueError, match=r"'train' holds 23 examples .* raw files have 24\. Delete"
    ):
        prepare("mnist", tmp_path / "more", tmp_path / "data", verify=False)


def test_only_progress_is_printed(tmp_path, capfd):
    write_idx(tmp_path / "raw", n_train=600)
    prepare(
        "mnist",
        tmp_path / "raw",
        tmp_path / "data",
        verify=False,
        progress=lambda done, total: print(done, "of", total),
    )
    load_source("mnist", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert capfd.readouterr() == ("500 of 609\n609 of 609\n", "")


def test_every_missing_file_is_named(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(RawFilesError, match="2 of 4 raw files not found") as caught:
        prepare("fashion_mnist", tmp_path, tmp_path / "data")
    assert "train-labels-idx1-ubyte, t10k-images-idx3-ubyte" in str(caught.value)
    assert "dataset-fashion-mnist" in str(caught.value)
    with pytest.raises(RawFilesError, match="neither the python archive"):
        prepare("cifar10", tmp_path, tmp_path / "data")
    with pytest.raises(RawFilesError, match="no such file or folder"):
        prepare("mnist", tmp_path / "nowhere", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_files_of_another_data_set_are_refused(tmp_path):
    write_idx(tmp_path)
    for name in ("mnist", "fashion_mnist"):
        with pytest.raises(RawFilesError, match=f"md5 checksum is .* are these really {name}'s"):
            prepare(name, tmp_path, tmp_path / "data")
    (tmp_path / "watch_dataset.npy").write_bytes(watch_file()[1])
    with pytest.raises(RawFilesError, match="the sha256 checksum is"):
        prepare("watch", tmp_path, tmp_path / "data")
    python_archive(tmp_path / "cifar-10-python.tar.gz", cifar_batches(10), 10)
    with pytest.raises(RawFilesError, match="data_batch_1: the md5 checksum is"):
        prepare("cifar10", tmp_path, tmp_path / "data")


def test_the_known_number_of_examples_is_expected(tmp_path):
    write_idx(tmp_path, prefix="emnist-byclass-")
    with pytest.raises(RawFilesError, match="23 examples in the split 'train' of emnist/byclass"):
        prepare("emnist/byclass", tmp_path, tmp_path / "data")


def test_an_interrupted_run_leaves_no_data_set(tmp_path):
    write_idx(tmp_path / "raw", n_train=600)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("mnist", tmp_path / "raw", tmp_path / "data", verify=False, progress=stop)
    assert not (tmp_path / "data" / "mnist" / "3.0.1").exists()
    prepare("mnist", tmp_path / "raw", tmp_path / "data", verify=False)


def test_damaged_files_are_refused(tmp_path):
    write_idx(tmp_path / "a")
    path = tmp_path / "a" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RawFilesError, match="where the header says"):
        prepare("mnist", tmp_path / "a", tmp_path / "data", verify=False)
    write_idx(tmp_path / "b", gzipped=True)
    path = tmp_path / "b" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RawFilesError, match="not a whole gzip file"):
        prepare("mnist", tmp_path / "b", tmp_path / "data", verify=False)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cifar-10-python.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(RawFilesError, match="not a whole tar or zip archive"):
        prepare("cifar10", tmp_path / "c", tmp_path / "data", verify=False)


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'digits' cannot be prepared; allowed: mnist"):
        prepare("digits", tmp_path)


def test_idx_by_hand():
    content = b"\x00\x00\x08\x02\x00\x00\x00\x02\x00\x00\x00\x03" + bytes(range(6))
    np.testing.assert_array_equal(parse_idx(content, "x"), [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(RawFilesError, match="x: not an IDX file of unsigned bytes"):
        parse_idx(b"\x00\x00\x0d\x01", "x")


def test_digest_of_the_watch_file_is_a_sha256():
    from fedjax_kd.data import raw_watch

    assert len(bytes.fromhex(raw_watch._SHA256)) == hashlib.sha256().digest_size
