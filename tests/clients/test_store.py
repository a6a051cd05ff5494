import errno
import os
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from fedjax_kd.clients import store as stores
from fedjax_kd.clients.store import StoreError

K = 9
TEMPLATE = {
    "half": jax.ShapeDtypeStruct((1, 5), jnp.bfloat16),
    "model": {"bias": jax.ShapeDtypeStruct((1, 3), jnp.float32)},
    "nothing": jax.ShapeDtypeStruct((1, 0), jnp.float32),
    "round": jax.ShapeDtypeStruct((1,), jnp.int32),
    "seen": jax.ShapeDtypeStruct((1, 2, 2), jnp.bool_),
}
ROW_BYTES = 10 + 12 + 0 + 4 + 4


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    if request.param == "memory":
        return stores.in_memory(TEMPLATE, K)
    return stores.on_disk(tmp_path / "clients", TEMPLATE, K)


def rows_of(values) -> dict:
    """Rows that differ from client to client and from leaf to leaf."""
    values = np.asarray(values)

    def make(offset, leaf):
        size = int(np.prod(leaf.shape[1:]))
        flat = values[:, None] * 10 + offset + np.arange(size)[None]
        if leaf.dtype == jnp.bool_:
            flat = flat % 3 == 0
        return flat.reshape(len(values), *leaf.shape[1:]).astype(leaf.dtype)

    leaves, structure = jax.tree.flatten(TEMPLATE)
    return jax.tree.unflatten(structure, [make(i, leaf) for i, leaf in enumerate(leaves)])


def same(found, expected):
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        (other,) = [
            value
            for at, value in jax.tree_util.tree_leaves_with_path(found)
            if jax.tree_util.keystr(at) == jax.tree_util.keystr(path)
        ]
        assert other.dtype == leaf.dtype
        np.testing.assert_array_equal(other, leaf, jax.tree_util.keystr(path))


def test_rows_come_back_as_they_were_written(store):
    members = np.array([7, 0, 3])
    store.write(members, rows_of(members))
    rows, made = store.read(np.array([3, 7]))
    same(rows, rows_of([3, 7]))
    assert made.tolist() == [True, True]
    assert rows["half"].dtype == ml_dtypes.bfloat16
    assert store.row_bytes == ROW_BYTES
    assert store.n_clients == K


def test_rows_never_written_are_zeros_and_not_made(store):
    store.write(np.array([1]), rows_of([1]))
    rows, made = store.read(np.arange(K))
    assert made.tolist() == [k == 1 for k in range(K)]
    assert not np.any(rows["round"][[0, *range(2, K)]])
    assert not np.any(rows["model"]["bias"][0])


def test_a_later_write_replaces_and_touches_nobody_else(store):
    store.write(np.arange(K), rows_of(np.arange(K)))
    store.write(np.array([4, 2]), rows_of([40, 20]))
    rows, _ = store.read(np.arange(K))
    same(rows, rows_of([0, 1, 20, 3, 40, 5, 6, 7, 8]))


def test_what_was_read_belongs_to_the_caller(store):
    store.write(np.array([2]), rows_of([2]))
    rows, _ = store.read(np.array([2]))
    rows["model"]["bias"][:] = -1
    same(store.read(np.array([2]))[0], rows_of([2]))


def test_a_member_may_be_read_twice_and_nobody_at_all(store):
    store.write(np.array([5]), rows_of([5]))
    same(store.read(np.array([5, 5]))[0], rows_of([5, 5]))
    rows, made = store.read(np.zeros(0, np.int32))
    assert rows["model"]["bias"].shape == (0, 3)
    assert made.shape == (0,)
    store.write(np.zeros(0, np.int32), rows)


def test_rows_from_a_device_are_taken(store):
    rows = jax.tree.map(jnp.asarray, rows_of([3]))
    store.write(np.array([3]), rows)
    same(store.read(np.array([3]))[0], rows_of([3]))


@pytest.mark.parametrize(
    ("members", "text"),
    [([9], "0..8; got"), ([-1], "0..8; got"), ([0.5], "integers"), ([[1]], "integers")],
)
def test_members_outside_are_refused(store, members, text):
    with pytest.raises(StoreError, match=text):
        store.read(np.asarray(members))
    with pytest.raises(StoreError, match=text):
        store.write(np.asarray(members), rows_of([1]))


def test_rows_of_other_shapes_are_refused_and_change_nothing(store):
    store.write(np.array([1]), rows_of([1]))
    wrong = rows_of([8])
    wrong["model"]["bias"] = wrong["model"]["bias"][:, :2]
    with pytest.raises(StoreError, match=r"rows\['model'\]\['bias'\]: found float32\[1, 2\]"):
        store.write(np.array([1]), wrong)
    wrong = rows_of([8])
    wrong["round"] = wrong["round"].astype(np.int64)
    with pytest.raises(StoreError, match=r"rows\['round'\]: found int64\[1\].*keeps int32\[\]"):
        store.write(np.array([1]), wrong)
    with pytest.raises(StoreError, match="the store keeps"):
        store.write(np.array([1]), {"half": wrong["half"]})
    same(store.read(np.array([1]))[0], rows_of([1]))


def test_keys_and_bare_numbers_are_no_rows():
    with pytest.raises(StoreError, match=r"template\['key'\]: cannot store key<fry>"):
        stores.in_memory({"key": jax.random.key(0)[None]}, K)
    with pytest.raises(StoreError, match="needs a leading axis"):
        stores.in_memory({"count": jnp.int32(3)}, K)
    with pytest.raises(StoreError, match="n_clients must be an integer of at least 1; got 0"):
        stores.in_memory(TEMPLATE, 0)


def test_clients_that_keep_nothing(tmp_path):
    for store in (stores.in_memory((), K), stores.on_disk(tmp_path / "clients", (), K)):
        store.write(np.array([2]), ())
        rows, made = store.read(np.array([1, 2]))
        assert rows == ()
        assert made.tolist() == [False, True]
        assert store.row_bytes == 0


def test_a_folder_can_be_opened_again(tmp_path):
    folder = tmp_path / "deep" / "clients"
    store = stores.on_disk(folder, TEMPLATE, K)
    store.write(np.array([6, 1]), rows_of([6, 1]))
    store.close()
    again = stores.on_disk(folder, TEMPLATE, K)
    rows, made = again.read(np.array([1, 6, 2]))
    same(jax.tree.map(lambda leaf: leaf[:2], rows), rows_of([1, 6]))
    assert made.tolist() == [True, True, False]
    again.close()


def test_rows_that_were_never_written_take_no_room(tmp_path):
    many = 20_000
    wide = {"model": jax.ShapeDtypeStruct((1, 1000), jnp.float32)}
    store = stores.on_disk(tmp_path / "clients", wide, many)
    store.write(np.array([many - 1]), {"model": np.ones((1, 1000), np.float32)})
    store.flush()
    status = (tmp_path / "clients" / "rows.bin").stat()
    assert status.st_size == many * 4000
    assert status.st_blocks * 512 < 100_000
    store.close()


def test_a_folder_of_other_clients_is_refused(tmp_path):
    folder = tmp_path / "clients"
    stores.on_disk(folder, TEMPLATE, K).close()
    with pytest.raises(StoreError, match=r"clients: the folder holds 9; expected 8"):
        stores.on_disk(folder, TEMPLATE, K - 1)
    other = TEMPLATE | {"model": {"bias": jax.ShapeDtypeStruct((1, 4), jnp.float32)}}
    with pytest.raises(
        StoreError, match=r"\['model'\]\['bias'\]: the folder holds float32\[3\]; expected float32"
    ):
        stores.on_disk(folder, other, K)
    fewer = {name: leaf for name, leaf in TEMPLATE.items() if name != "seen"}
    with pytest.raises(StoreError, match=r"\['seen'\]: .* expected None"):
        stores.on_disk(folder, fewer, K)


def test_a_folder_that_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds thesis.txt and no store"):
        stores.on_disk(tmp_path, TEMPLATE, K)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_damaged_folders_are_named(tmp_path):
    folder = tmp_path / "clients"
    stores.on_disk(folder, TEMPLATE, K).close()
    with (folder / "rows.bin").open("r+b") as file:
        file.truncate(17)
    with pytest.raises(StoreError, match=r"rows\.bin: is missing or has not the 270"):
        stores.on_disk(folder, TEMPLATE, K)
    (folder / "layout.json").write_text("[]")
    with pytest.raises(StoreError, match=r"layout\.json: not the layout"):
        stores.on_disk(folder, TEMPLATE, K)


def test_a_store_that_was_never_finished_is_made_anew(tmp_path):
    folder = tmp_path / "clients"
    stores.on_disk(folder, TEMPLATE, K).close()
    (folder / "layout.json").unlink()
    (folder / "made.bin").write_bytes(b"\1" * K)
    store = stores.on_disk(folder, TEMPLATE, K)
    assert not store.read(np.arange(K))[1].any()
    store.close()


def test_only_one_may_have_it_open(tmp_path):
    store = stores.on_disk(tmp_path / "clients", TEMPLATE, K)
    with pytest.raises(StoreError, match="another process has this store open"):
        stores.on_disk(tmp_path / "clients", TEMPLATE, K)
    store.close()
    stores.on_disk(tmp_path / "clients", TEMPLATE, K).close()


def test_too_little_room_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(StoreError, match="9 clients may take 270 bytes, but 100 are free"):
        stores.on_disk(tmp_path / "clients", TEMPLATE, K)
    assert not (tmp_path / "clients" / "rows.bin").exists()


def test_a_disk_that_fills_up_leaves_the_others_whole(tmp_path, monkeypatch):
    folder = tmp_path / "clients"
    store = stores.on_disk(folder, TEMPLATE, K)
    store.write(np.array([0, 1]), rows_of([0, 1]))
    real, calls = os.pwritev, []

    def fails_later(file, buffers, offset):
        calls.append(offset)
        if len(calls) == 4:  # client 2: row, mark; client 0: mark, row
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, buffers, offset)

    monkeypatch.setattr(os, "pwritev", fails_later)
    with pytest.raises(StoreError, match=r"rows.bin: at byte 0: the disk is full"):
        store.write(np.array([2, 0, 1]), rows_of([20, 10, 30]))
    monkeypatch.undo()
    rows, _ = store.read(np.array([1, 2]))
    same(rows, rows_of([1, 20]))
    store.close()
    with pytest.raises(StoreError, match=r"half written: the rows of clients \[0\]"):
        stores.on_disk(folder, TEMPLATE, K)


def test_short_reads_and_writes_are_continued(tmp_path, monkeypatch):
    store = stores.on_disk(tmp_path / "clients", TEMPLATE, K)
    write, read = os.pwritev, os.preadv
    seven = 7

    def short(call):
        def move(file, buffers, offset):
            return call(file, [buffers[0][:seven]], offset)

        return move

    monkeypatch.setattr(os, "pwritev", short(write))
    store.write(np.array([3]), rows_of([3]))
    monkeypatch.setattr(os, "preadv", short(read))
    same(store.read(np.array([3]))[0], rows_of([3]))
    store.close()
