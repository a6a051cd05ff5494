"""Pickled arrays are read; anything else that a pickle may ask for is refused."""

import io
import os
import pickle

import numpy as np
import pytest

from fedjax_kd.data import RawFilesError
from fedjax_kd.data.raw_pickle import load_object_array, load_pickle


class Harmful:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_arrays_in_containers_are_read(protocol):
    written = {b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"n": [1, np.float64(2.5)]}
    got = load_pickle(pickle.dumps(written, protocol=protocol), "x")
    assert isinstance(got, dict)
    np.testing.assert_array_equal(got[b"data"], written[b"data"])
    assert got[b"n"] == [1, 2.5]


def test_python_2_names_of_numpy_are_known():
    dumped = pickle.dumps(np.arange(3), protocol=2).replace(b"numpy._core", b"numpy.core")
    np.testing.assert_array_equal(np.asarray(load_pickle(dumped, "x")), [0, 1, 2])


def test_code_is_refused():
    for protocol in (0, 2, 4):
        with pytest.raises(RawFilesError, match=r"file: refused to unpickle .*system"):
            load_pickle(pickle.dumps(Harmful(), protocol=protocol), "file")


def test_code_in_an_object_array_is_refused():
    stream = io.BytesIO()
    np.save(stream, np.asarray({"X": Harmful()}, dtype=object), allow_pickle=True)
    with pytest.raises(RawFilesError, match="refused to unpickle"):
        load_object_array(stream.getvalue(), "file")


def test_damage_is_reported():
    with pytest.raises(RawFilesError, match="file: not a whole pickle"):
        load_pickle(pickle.dumps([1, 2, 3])[:-2], "file")
    with pytest.raises(RawFilesError, match=r"file: not a \.npy file"):
        load_object_array(b"something else", "file")
